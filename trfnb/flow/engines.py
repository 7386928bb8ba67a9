"""How an encoder runs: its precision and budget, and the engines that run a batch.

An `Engine` takes wordpieces and returns hidden states, part by part. There are two, both on torch:
one runs packs (BERT's family on a CPU), one runs padded blocks (every other encoder, and GPUs).
"""

import ctypes
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import Any, Literal, Protocol, TypeVar, cast, get_args

import numpy as np
import torch
from thinc.api import torch2xp
from thinc.types import Floats3d

from .batching import MicroBatch, Pack, micro_batches, packs
from .packed import PackedBert
from .wordpieces import Ints, Wordpieces

Precision = Literal["fp32", "bf16", "fp16", "auto"]
EngineName = Literal["torch", "openvino", "auto"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

# On a CPU larger forward passes run out of cache: 4,096 wordpieces took 10-20 % longer a word.
# One more pass costs about as much as 30 positions there (60 in training), measured on MiniLM.
_CPU_ITEMS = 1024
# Training pays for the gradient of all embeddings once a pass, and bf16 lays every matrix out anew
# for the processor: larger passes are worth their cache.
_CPU_LARGE_ITEMS = 2048
_CPU_PADDING = 64
# The smallest part worth a thread of its own; each costs as much as 30 wordpieces.
_LEAST = 256
# mallopt's options, the largest that it takes, and how much free memory it may keep.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST, _KEPT = 32 * 2**20, 256 * 2**20

Item = TypeVar("Item")
Result = TypeVar("Result")
if hasattr(os, "register_at_fork"):
    # A forked process waits for ever for the threads of its parent's torch, which it does not have.
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


@dataclass(frozen=True)
class Runtime:
    """How to run the encoder; none of this is saved with its weights.

    Attributes:
        precision: ``"fp32"`` is exact; ``"bf16"`` and ``"fp16"`` run matrix products in half
            precision over weights that stay in fp32; ``"auto"`` is bf16 where the device
            multiplies it natively, and fp32 elsewhere.
        max_batch_items: The most wordpieces of one forward pass, padding included.
        checkpointing: While training, keep the states between layers alone and compute the rest
            again on the way back: less memory for a second forward pass.
        engine: What runs the encoder where nothing is trained.

    Raises:
        ValueError: there is no such precision or engine, or the budget is not a positive whole
            number.
    """

    precision: Precision = "fp32"
    max_batch_items: int = 4096
    checkpointing: bool = False
    engine: EngineName = "auto"

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise ValueError(f"precision expected one of {known}, got {self.precision!r}.")
        if self.engine not in get_args(EngineName):
            known = ", ".join(get_args(EngineName))
            raise ValueError(f"engine expected one of {known}, got {self.engine!r}.")
        if not isinstance(self.max_batch_items, int) or self.max_batch_items < 1:
            raise ValueError(
                "max_batch_items expected a whole number, at least 1 wordpiece, got "
                f"{self.max_batch_items!r}."
            )

    def items(self, device: torch.device, is_train: bool = False) -> int:
        """Return the budget of one forward pass on a device."""
        if device.type != "cpu":
            return self.max_batch_items
        large = is_train or self.precision_on(device) != "fp32"
        return min(self.max_batch_items, _CPU_LARGE_ITEMS if large else _CPU_ITEMS)

    def precision_on(self, device: torch.device) -> Precision:
        """Return what ``"auto"`` stands for on a device; other precisions stand for themselves.

        bf16 where its matrix products run natively, as token vectors keep a cosine above 0.999
        there; elsewhere it is emulated, and slower than fp32.
        """
        if self.precision != "auto":
            return self.precision
        return "bf16" if native_bf16(device) else "fp32"

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return the context that forward passes run in."""
        precision = self.precision_on(device)
        if precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, dtype=_DTYPES[precision])


def native_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices of bf16 natively."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    # Private, and not in every version: without them nothing is known, and fp32 is always right.
    return any(getattr(torch.cpu, name, bool)() for name in asked)


@dataclass(frozen=True, eq=False)
class Part:
    """What one forward pass computed.

    Attributes:
        rows: (n,) where its wordpieces lie in the flat batch.
        states: Layer number -> (n, width) hidden states in fp32.
        attentions: Text number -> (layers, heads, wordpieces, wordpieces), if asked for.
    """

    rows: torch.Tensor
    states: dict[int, torch.Tensor]
    attentions: dict[int, Floats3d] = field(default_factory=dict)


class Engine(Protocol):
    """A way to run an encoder."""

    def run(
        self,
        wordpieces: Wordpieces,
        texts: Ints,
        layers: Sequence[int],
        runtime: Runtime,
        is_train: bool,
    ) -> Iterator[Part]:
        """Run texts of a flat batch through the encoder, part by part.

        Args:
            wordpieces: The flat batch.
            texts: The numbers of the texts to run.
            layers: Numbers of the layers to return.
            runtime: Precision and budget.
            is_train: Whether to keep what torch needs for a backward pass.
        """
        ...


class Engines:
    """The engines of one loaded model.

    Args:
        body: The HuggingFace model.
        pad_id: The id that fills up a batch.
        attentions: Whether to return attentions, which the model itself must compute.
    """

    def __init__(self, body: torch.nn.Module, pad_id: int, attentions: bool) -> None:
        self.body = body
        self.padded = PaddedEngine(body, pad_id, attentions)
        packed = None if attentions else PackedBert.of(body)
        self.packed = None if packed is None else PackedEngine(packed)

    def choose(self, device: torch.device) -> Engine:
        """Return the fastest engine on a device; on a GPU packs are not measured yet."""
        return self.packed if self.packed and device.type == "cpu" else self.padded


class PackedEngine:
    """Runs texts laid end to end: nothing is computed for padding."""

    def __init__(self, packed: PackedBert) -> None:
        self.packed = packed

    def run(
        self,
        wordpieces: Wordpieces,
        texts: Ints,
        layers: Sequence[int],
        runtime: Runtime,
        is_train: bool,
    ) -> Iterator[Part]:
        """Run packs, in bf16 several at a time, each in one thread."""
        keep_freed_memory()
        device = next(self.packed.embeddings.parameters()).device
        items = runtime.items(device, is_train)
        bf16 = None
        if is_train:
            self.packed.forget_bf16()
        elif runtime.precision_on(device) == "bf16":
            bf16 = self.packed.bf16_layers()
            items = even_size(int(wordpieces.lengths[texts].sum()), items)

        def compute(pack: Pack) -> Part:
            with (
                torch.enable_grad() if is_train else torch.inference_mode(),
                nullcontext() if bf16 else runtime.autocast(device),
            ):
                states = self.packed.states(pack, layers, bf16, checkpointing=runtime.checkpointing)
                found = {layer: rows.float() for layer, rows in states.items()}
            return Part(torch.from_numpy(pack.rows).to(device), found)

        parts = packs(wordpieces, items, texts)
        # In fp32 products are large enough to be shared by all threads, which takes less memory.
        # In training dropout is drawn, and gradients are added up, in a fixed order.
        yield from parallel_map(compute, parts) if bf16 else map(compute, parts)


class PaddedEngine:
    """Runs a HuggingFace model as it is, over padded blocks of texts of about one length."""

    def __init__(self, body: torch.nn.Module, pad_id: int, attentions: bool) -> None:
        self.body: Any = body
        self.pad_id = pad_id
        self.attentions = attentions

    def run(
        self,
        wordpieces: Wordpieces,
        texts: Ints,
        layers: Sequence[int],
        runtime: Runtime,
        is_train: bool,
    ) -> Iterator[Part]:
        """Run padded blocks one by one.

        Raises:
            ValueError: a layer has not one state for each wordpiece.
        """
        device = next(self.body.parameters()).device
        if device.type == "cpu":
            keep_freed_memory()
        padding = _CPU_PADDING if device.type == "cpu" else None
        if self.padding_counts:
            padding = 0
        if is_train and runtime.checkpointing:
            self.body.gradient_checkpointing_enable({"use_reentrant": False})
        items = runtime.items(device, is_train)
        for batch in micro_batches(wordpieces, items, self.pad_id, padding, texts):
            ids = torch.from_numpy(batch.ids).to(device)
            mask = None if batch.is_full else torch.from_numpy(batch.mask).to(device)
            with torch.set_grad_enabled(is_train), runtime.autocast(device):
                output = self._output(ids, mask, layers)
                found = {}
                for layer in layers:
                    states = self._layer(output, layer, ids)
                    found[layer] = (states.flatten(0, 1) if mask is None else states[mask]).float()
            attentions = _attentions(output, batch) if self.attentions else {}
            yield Part(torch.from_numpy(batch.rows).to(device), found, attentions)

    @cached_property
    def padding_counts(self) -> bool:
        """Whether a text's states depend on padding beside it, as FNet's, Funnel's and CANINE's do.

        Found by a trial on random ids: a text alone and beside a longer one.
        """
        was, device = self.body.training, next(self.body.parameters()).device
        size = int(getattr(self.body.config, "vocab_size", None) or 100)
        ids = torch.from_numpy(np.random.default_rng(0).integers(0, size, (2, 19))).to(device)
        mask = torch.ones_like(ids, dtype=torch.bool)
        short = ids[1:, :7].clone()
        ids[1, 7:], mask[1, 7:] = self.pad_id, False
        self.body.eval()
        try:
            with torch.no_grad():
                alone = self._output(short, None).last_hidden_state[0]
                beside = self._output(ids, mask).last_hidden_state[1, : len(alone)]
        finally:
            self.body.train(was)
        largest = max(float(alone.abs().max()), 1.0)
        return not torch.allclose(alone, beside, atol=1e-3 * largest, rtol=0, equal_nan=True)

    def _output(
        self, ids: torch.Tensor, mask: torch.Tensor | None, layers: Sequence[int] = ()
    ) -> Any:
        return self.body(
            input_ids=ids,
            attention_mask=None if mask is None else mask.long(),
            output_hidden_states=any(layer != self._n_layers for layer in layers),
            output_attentions=self.attentions,
            return_dict=True,
        )

    @property
    def _n_layers(self) -> int:
        return int(self.body.config.num_hidden_layers)

    def _layer(self, output: Any, layer: int, ids: torch.Tensor) -> torch.Tensor:
        """Return a layer's states, (texts, longest, width)."""
        states, n_layers = output.last_hidden_state, self._n_layers
        if layer != n_layers:
            known = len(output.hidden_states) == n_layers + 1
            states = output.hidden_states[layer] if known else None
        if states is None or states.shape[:2] != ids.shape:
            raise ValueError(
                f"Layer {layer} of the transformer expected a state for each wordpiece, but layers "
                f"of this kind ({self.body.config.model_type}) have several lengths. Read its last "
                'layer: layer = -1 on listeners (neither a lower one nor "mix"), and layers = [].'
            )
        return cast(torch.Tensor, states)


def _attentions(output: Any, batch: MicroBatch) -> dict[int, Floats3d]:
    """Return each text's attentions, (layers, heads, wordpieces, wordpieces), by text number."""
    stacked = torch.stack([one.detach().float() for one in output.attentions], dim=1)
    found = {}
    for text, weights, mask in zip(batch.texts.tolist(), stacked, batch.mask, strict=True):
        n = int(mask.sum())
        found[text] = cast(Floats3d, torch2xp(weights[:, :, :n, :n].contiguous()))
    return found


# -- threads and memory ---------------------------------------------------------------------


def parallel_map(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Apply a function to items in several threads and return the results in order.

    With torch's threads on one item after another, much time goes into handing out work and
    waiting for the last thread; one item for each thread has no such cost. Fewer items than
    threads are computed one by one, by all threads.

    Args:
        work: Computes with torch on a CPU; it must not depend on which thread it runs in.
        items: What to compute.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(items) < threads:
        yield from map(work, items)
        return
    try:
        # At its end the pool waits: after an error a caller tries again with smaller parts, and
        # what runs yet holds memory.
        with ThreadPoolExecutor(threads, "trfnb-pass", torch.set_num_threads, (1,)) as pool:
            try:
                results = pool.map(work, items)
            except RuntimeError:  # at its end Python starts no threads any more
                results = map(work, items)
            yield from results
    finally:
        # A new thread of the pool also sets what later threads of this process begin with.
        torch.set_num_threads(threads)


def even_size(total: int, most: int) -> int:
    """Return the size of parts that all threads finish at about the same time.

    Where there is too little for all threads, parts are as large as they may be.

    Args:
        total: What is to be shared out.
        most: The largest size of a part.
    """
    threads = torch.get_num_threads()
    if total <= most:
        return most
    rounds = -(-total // (most * threads))
    size = -(-total // (rounds * threads))
    return most if size < min(_LEAST, most // 2) else size


@cache
def keep_freed_memory() -> bool:
    """Ask glibc to serve arrays of up to 32 MB from its heap; return whether it agreed.

    Such an array otherwise comes fresh from the system at every pass, and each of its pages costs
    a fault when it is first written: up to a fifth of a training step in half precision.
    Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_THRESHOLD, _LARGEST) and libc.mallopt(_TRIM_THRESHOLD, _KEPT))


def trim_memory() -> None:
    """Return freed memory to the system: batches of many shapes leave holes in glibc's heap."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
