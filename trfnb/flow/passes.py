"""Forward passes of an encoder: over packs where its kind is known, else over padded blocks."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from thinc.api import torch2xp
from thinc.types import Floats3d

from .allocation import keep_pages
from .batching import MicroBatch, micro_batches
from .bert import PackedBert
from .packing import Pack, packs
from .precision import resolved
from .runtime import Runtime
from .weights import EncoderShim
from .wordpieces import Wordpieces
from .workers import even, side_by_side

Looks = dict[int, Floats3d]
# Where the rows of a pass lie in the flat batch, and their states by layer, in fp32.
Passed = tuple[torch.Tensor, dict[int, torch.Tensor]]


def passes(
    shim: EncoderShim,
    runtime: Runtime,
    wordpieces: Wordpieces,
    texts: NDArray[np.int64],
    layers: Sequence[int],
    is_train: bool,
    looks: Looks,
) -> Iterator[Passed]:
    """Run texts of a flat batch through the encoder, pass by pass.

    Args:
        shim: The encoder.
        runtime: How to run it.
        wordpieces: The flat batch.
        texts: The numbers of the texts to run.
        layers: Layer numbers to return.
        is_train: Whether to keep what backprop needs.
        looks: Gets each text's attentions, if they are kept.
    """
    body = shim.begin(is_train)
    if shim.device.type == "cpu":
        keep_pages()
    # Attentions are what HuggingFace's model returns; on a GPU packs are not measured yet.
    packed = shim.packed if shim.device.type == "cpu" and not runtime.attentions else None
    if packed is None:
        yield from _padded(shim, body, runtime, wordpieces, texts, layers, is_train, looks)
    else:
        yield from _packed(shim, packed, runtime, wordpieces, texts, layers, is_train)


def _packed(
    shim: EncoderShim,
    packed: PackedBert,
    runtime: Runtime,
    wordpieces: Wordpieces,
    texts: NDArray[np.int64],
    layers: Sequence[int],
    is_train: bool,
) -> Iterator[Passed]:
    device, items = shim.device, runtime.items(shim.device, is_train)
    half = not is_train and resolved(runtime.precision, device) == "bf16"
    if is_train:
        packed.halves.forget()
    if half:
        items = even(int(wordpieces.lengths[texts].sum()), items)
    halves = packed.halves.fresh() if half else None

    def compute(pack: Pack) -> Passed:
        with (
            torch.enable_grad() if is_train else torch.inference_mode(),
            nullcontext() if half else runtime.autocast(device),
        ):
            states = packed.states(pack, layers, halves, checkpointing=runtime.checkpointing)
            found = {layer: rows.float() for layer, rows in states.items()}
        return torch.from_numpy(pack.rows).to(device), found

    parts = packs(wordpieces, items, texts)
    # In fp32 products are large enough to be shared by all threads, which takes less memory. In
    # training dropout is drawn, and gradients are added up, in a fixed order.
    yield from side_by_side(compute, parts) if half else map(compute, parts)


def _padded(
    shim: EncoderShim,
    body: torch.nn.Module,
    runtime: Runtime,
    wordpieces: Wordpieces,
    texts: NDArray[np.int64],
    layers: Sequence[int],
    is_train: bool,
    looks: Looks,
) -> Iterator[Passed]:
    device, n_layers = shim.device, shim.n_layers
    checkpointing(body, is_train and runtime.checkpointing)
    budget, padding = runtime.items(device, is_train), runtime.padding(device)
    for batch in micro_batches(wordpieces, budget, shim.pad_id, padding, texts):
        place = torch.from_numpy(batch.rows).to(device)
        with torch.set_grad_enabled(is_train), runtime.autocast(device):
            ids = torch.from_numpy(batch.ids).to(device)
            mask = None if batch.is_full else torch.from_numpy(batch.mask).to(device)
            output = body(
                input_ids=ids,
                attention_mask=None if mask is None else mask.long(),
                output_hidden_states=list(layers) != [n_layers],
                output_attentions=runtime.attentions,
                return_dict=True,
            )
            found = {
                layer: _real(_layer(output, layer, n_layers), mask).float() for layer in layers
            }
        if runtime.attentions:
            looks |= _attentions(output, batch)
        yield place, found


def checkpointing(body: torch.nn.Module, wanted: bool) -> None:
    """Let a HuggingFace model keep no states inside, or keep them."""
    model: Any = body
    if getattr(model, "_trfnb_checkpointing", False) == wanted:
        return
    model._trfnb_checkpointing = wanted
    if wanted:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()


def _layer(output: Any, layer: int, n_layers: int) -> torch.Tensor:
    states = output.last_hidden_state if layer == n_layers else output.hidden_states[layer]
    return cast(torch.Tensor, states)


def _real(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the positions that are no padding."""
    return states.flatten(0, 1) if mask is None else states[mask]


def _attentions(output: Any, batch: MicroBatch) -> Looks:
    """Return each text's attentions, (layers, heads, wordpieces, wordpieces), by text number."""
    stacked = torch.stack([one.detach().float() for one in output.attentions], dim=1)
    found = {}
    for text, looks, mask in zip(batch.texts.tolist(), stacked, batch.mask, strict=True):
        n = int(mask.sum())
        found[text] = cast(Floats3d, torch2xp(looks[:, :, :n, :n].contiguous()))
    return found
