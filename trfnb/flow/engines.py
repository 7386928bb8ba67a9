"""The engines that run a batch of wordpieces through an encoder.

Each takes a `Request` and returns hidden states, part by part. There are three: torch over packs
(BERT's family on a CPU, and in half precision for inference on a GPU), torch over padded blocks
(all else), and OpenVINO over padded blocks (inference on a CPU, where it is installed).
"""

import json
import math
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import torch
from thinc.api import torch2xp
from thinc.types import Floats4d
from torch.nn import functional

from .batching import MicroBatch, Part, Request, micro_batches
from .packed import PackedBert
from .runtime import Precision, keep_freed_memory, native_bf16
from .saving import quiet, weights_digest

# One more forward pass costs about as much as 30 positions of MiniLM on a CPU (60 in training).
_CPU_PADDING = 64
# Compiling a model takes as long as torch needs for 10,000 to 20,000 wordpieces; before each call
# all weights are read, to see whether one has changed.
_WORTH_COMPILING, _WORTH_A_CALL = 32_768, 256
# The least cosine between a token's vector by OpenVINO and by torch in fp32, on a trial.
_LEAST_COSINE = {"fp32": 0.99999, "bf16": 0.998}
_MISSING = "OpenVINO is not installed: pip install 'trfnb[fast]'"
# The files of a rounded model beside the encoder's own, which tell what they were made of.
INT8 = ("int8.xml", "int8.bin")
# Ctrl-C, and being terminated.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Blocks that OpenVINO runs side by side, each with its share of the threads.
_STREAMS = 2


class EngineError(ValueError):
    """An engine that was asked for cannot run this model here."""


class Engines:
    """The engines of one loaded model.

    What OpenVINO compiled is a copy of the weights: it is made again when one of them has changed.

    Args:
        hf_model: The HuggingFace model.
        pad_id: The id that fills up a batch.
        attentions: Whether to return attentions, which the model itself must compute.
        int8: The files of the model that `trfnb quantize` rounded, if it did.

    Attributes:
        report: Which engine ran last, and why not OpenVINO where it did not.
        failure: Why OpenVINO cannot run this model; empty where nothing is known against it.
    """

    def __init__(
        self,
        hf_model: torch.nn.Module,
        pad_id: int,
        attentions: bool,
        int8: Mapping[str, bytes] = {},
    ) -> None:
        self.padded = PaddedEngine(hf_model, pad_id, attentions)
        self.packed = None if attentions else PackedBert.of(hf_model)
        self.int8 = int8
        self.report, self.failure = "nothing has run yet", ""
        self._seen = self._overtaken = 0
        self._digest = b""
        self._compiled: dict[tuple[Any, ...], CompiledEngine] = {}

    def choose(self, request: Request) -> "PackedBert | PaddedEngine | CompiledEngine":
        """Return the fastest engine for a batch.

        On a GPU packs need flash attention, which knows neither fp32 nor dropout.

        Raises:
            EngineError: OpenVINO was asked for by name and cannot run this model.
        """
        runtime, device = request.runtime, self.padded.device
        rounded = runtime.precision == "int8"
        precision: Precision = "int8" if rounded else runtime.precision_on(device)
        by_name = runtime.engine == "openvino"
        reason = self._against_openvino(request, precision, asked=by_name or rounded)
        if not reason:
            try:
                compiled = self.compiled(tuple(request.layers), precision)
                self.report = f'OpenVINO in {precision} (engine = "{runtime.engine}")'
                return compiled
            except EngineError as error:
                if by_name:
                    raise
                reason = str(error)
                if rounded:
                    warnings.warn(f"Not in int8, but by torch: {reason}", stacklevel=2)
                else:
                    self.failure = reason
        packed = self.packed
        if packed and device.type != "cpu":
            half = precision in ("bf16", "fp16") and native_bf16(device)
            packed = packed if half and packed.flash and not request.is_train else None
        self.report = f"torch over {'packs' if packed else 'padded blocks'} ({reason})"
        return packed or self.padded

    # Say why OpenVINO should not run a batch; empty where it should. Where it was asked for, what
    # it fails at is found by trying.
    def _against_openvino(self, request: Request, precision: Precision, asked: bool) -> str:
        engine, n = request.runtime.engine, len(request.wordpieces.ids)
        on_cpu = self.padded.device.type == "cpu"
        # Training overtakes a compiled copy of the weights: the next must be worth twice as much.
        worth = _WORTH_COMPILING << self._overtaken
        if request.is_train:
            self._overtaken += self._seen >= worth
        self._seen = 0 if request.is_train else self._seen + n
        little = n < _WORTH_A_CALL or self._seen < worth
        against = {
            "training": request.is_train,
            'engine = "torch"': engine == "torch",
            "OpenVINO runs in fp32, bf16 and int8 on a CPU, without attentions": not on_cpu
            or self.padded.attentions
            or precision == "fp16",
            self.failure: self.failure and not asked,
            _MISSING: not asked and find_spec("openvino") is None,
            "too little to encode to be worth compiling the model": little and engine != "openvino",
        }
        return next((reason for reason, holds in against.items() if holds), "")

    def compiled(self, layers: tuple[int, ...], precision: Precision) -> "CompiledEngine":
        """Return the model, compiled for these layers with the weights as they are.

        Raises:
            EngineError: OpenVINO is not installed, cannot convert the model, or computes
                something else.
        """
        digest = weights_digest(self.padded.hf_model)
        if digest != self._digest:
            self._compiled, self._digest = {}, digest
        key = layers, precision, torch.get_num_threads()
        if key not in self._compiled:
            self._compiled[key] = self._compile(*key)
        return self._compiled[key]

    def _compile(
        self, layers: tuple[int, ...], precision: Precision, threads: int
    ) -> "CompiledEngine":
        try:
            import openvino
        except ImportError:
            raise EngineError(_MISSING) from None
        core, (ids, mask) = openvino.Core(), self.padded.trial()
        module, streams = LayersOf(self.padded, layers), min(threads, _STREAMS)
        in_bf16 = precision == "bf16" or (precision == "int8" and native_bf16(ids.device))
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": streams,
            "ENABLE_CPU_PINNING": False,  # a busy core must not hold up the others
        }
        self.padded.hf_model.eval()
        if precision == "int8":
            graph, returned = self._rounded(core, layers)
            compiled = core.compile_model(graph, "CPU", settings)
            return CompiledEngine(self.padded, compiled, returned, streams)
        with converting("OpenVINO cannot convert this model"):
            expected = module(ids, mask.long())
            graph = openvino.convert_model(module, example_input=self.padded.example())
            compiled = core.compile_model(graph, "CPU", settings)
            cosine = float(cosines(compiled, [ids.numpy(), mask.long().numpy()], expected).min())
        if not cosine >= _LEAST_COSINE[precision]:
            raise EngineError(f"OpenVINO computes something else here (cosine {cosine:.4f})")
        return CompiledEngine(self.padded, compiled, layers, streams)

    # Return the rounded model, if it is what these weights became, and which layers it returns.
    def _rounded(self, core: Any, layers: Sequence[int]) -> tuple[Any, list[int]]:
        graph, returned, made_of = None, [], ""
        if self.int8:
            graph = core.read_model(*(self.int8[name] for name in INT8))
            made_of = graph.get_rt_info(["trfnb"]).astype(str)
            returned = json.loads(made_of.partition(" ")[2])
        if made_of != int8_origin(self._digest, returned) or not set(layers) <= set(returned):
            raise EngineError(
                'precision = "int8" expected the encoder that `trfnb quantize` rounded, got '
                + ("other weights or layers than it had then" if self.int8 else "none")
                + '. Run `trfnb quantize` on this pipeline, or set precision = "auto".'
            )
        return graph, returned


@dataclass(eq=False)
class PaddedEngine:
    """Runs a HuggingFace model as it is, over padded blocks of texts of about one length."""

    hf_model: Any
    pad_id: int
    attentions: bool

    def run(self, request: Request) -> Iterator[Part]:
        """Run padded blocks one by one.

        Raises:
            ValueError: a layer has not one state for each wordpiece.
        """
        runtime, layers, device = request.runtime, request.layers, self.device
        if device.type == "cpu":
            keep_freed_memory()
        if request.is_train:
            _checkpoint(self.hf_model, runtime.checkpointing)
        kept = request.is_train or self.attentions
        for batch in self.blocks(request, runtime.items(device, kept)):
            ids = torch.from_numpy(batch.ids).to(device)
            mask = None if batch.mask.all() else torch.from_numpy(batch.mask).to(device)
            with torch.set_grad_enabled(request.is_train), runtime.autocast(device):
                output = self.output(ids, mask, layers)
                found = {}
                for layer in layers:
                    states = self.layer(output, layer, ids)
                    found[layer] = (states.flatten(0, 1) if mask is None else states[mask]).float()
            kind = self.hf_model.config.model_type
            attentions = _attentions(output, batch, kind) if self.attentions else {}
            yield Part(torch.from_numpy(batch.rows).to(device), found, attentions)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return cast(torch.device, next(self.hf_model.parameters()).device)

    def blocks(self, request: Request, items: int) -> list[MicroBatch]:
        """Cut a request into padded blocks of at most so many positions."""
        most = _CPU_PADDING if self.device.type == "cpu" else math.inf
        padding = 0 if self.padding_counts else most
        return micro_batches(request.wordpieces, items, self.pad_id, padding, request.texts)

    @cached_property
    def padding_counts(self) -> bool:
        """Whether a text's states depend on padding beside it, as FNet's, Funnel's and CANINE's do.

        Found by a trial: a text alone and beside a longer one.
        """
        ids, mask = self.trial()
        was = self.hf_model.training
        self.hf_model.eval()
        try:
            with torch.no_grad():
                alone = self.output(ids[1:2, : int(mask[1].sum())], None).last_hidden_state[0]
                beside = self.output(ids, mask).last_hidden_state[1, : len(alone)]
        finally:
            self.hf_model.train(was)
        largest = max(float(alone.abs().max()), 1.0)
        return not torch.allclose(alone, beside, atol=1e-4 * largest, rtol=0, equal_nan=True)

    def trial(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return random ids of three texts, (3, 19), the second one shorter, and their mask."""
        size = int(getattr(self.hf_model.config, "vocab_size", None) or 100)
        ids = torch.from_numpy(np.random.default_rng(0).integers(0, size, (3, 19)))
        mask = torch.ones_like(ids, dtype=torch.bool)
        ids[1, 7:], mask[1, 7:] = self.pad_id, False
        return ids.to(self.device), mask.to(self.device)

    def example(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what a converter traces the model with: ids and mask, (2, 12), both int64.

        Another shape than the trial's: what a trace takes for constant must not pass.
        """
        ids, mask = self.trial()
        return ids[:2, :12], mask[:2, :12].long()

    def output(
        self, ids: torch.Tensor, mask: torch.Tensor | None, layers: Sequence[int] = ()
    ) -> Any:
        """Return what the model returns for (texts, longest) ids."""
        return self.hf_model(
            input_ids=ids,
            attention_mask=None if mask is None else mask.long(),
            output_hidden_states=any(
                layer != self.hf_model.config.num_hidden_layers for layer in layers
            ),
            output_attentions=self.attentions,
            return_dict=True,
        )

    def layer(self, output: Any, layer: int, ids: torch.Tensor) -> torch.Tensor:
        """Return a layer's states, (texts, longest, width).

        Raises:
            ValueError: the layer has not one state for each wordpiece.
        """
        config = self.hf_model.config
        n_layers, states = config.num_hidden_layers, getattr(output, "last_hidden_state", None)
        if layer != n_layers:
            every = getattr(output, "hidden_states", None) or ()
            states = every[layer] if len(every) == n_layers + 1 else None
        if states is None or states.shape != (*ids.shape, config.hidden_size):
            raise ValueError(
                f"Layer {layer} of the transformer expected for each wordpiece a state of "
                f"{config.hidden_size} numbers, but layers of this kind ({config.model_type}) "
                "have several lengths or widths, or are not returned. Read its last layer: "
                'layer = -1 on listeners (not a lower one, nor "mix"), and layers = []; where that '
                "one fails, take another encoder."
            )
        return cast(torch.Tensor, states)


# Return each text's attentions, (layers, heads, wordpieces, wordpieces), by text number.
def _attentions(output: Any, batch: MicroBatch, kind: str) -> dict[int, Floats4d]:
    (count, length), layers = batch.mask.shape, getattr(output, "attentions", None) or ()
    sizes = [(*one.shape[:1], *one.shape[2:]) if one is not None else () for one in layers]
    if set(sizes) != {(count, length, length)}:
        raise ValueError(
            "attentions = true expected of each layer one weight for each pair of wordpieces, but "
            f"encoders of this kind ({kind}) have none, or return others. Leave attentions (or "
            "transformer_config output_attentions) out, or take another encoder."
        )
    stacked = torch.stack([one.detach().float() for one in layers], dim=1)
    found = {}
    for text, weights, mask in zip(batch.texts.tolist(), stacked, batch.mask, strict=True):
        n = int(mask.sum())
        found[text] = cast(Floats4d, torch2xp(weights[:, :, :n, :n].contiguous()))
    return found


@dataclass(frozen=True, eq=False)
class CompiledEngine:
    """Runs what OpenVINO compiled of an encoder, for inference on a CPU.

    Attributes:
        padded: Cuts texts into blocks.
        model: From OpenVINO.
        layers: Which it returns, in their order.
        streams: How many blocks it runs side by side.
    """

    padded: PaddedEngine
    model: Any
    layers: Sequence[int]
    streams: int

    def run(self, request: Request) -> Iterator[Part]:
        """Run padded blocks side by side; one more waits its turn, so that no core does."""
        n, most = len(request.wordpieces.ids), request.runtime.items(self.padded.device)
        blocks = self.padded.blocks(request, min(most, n // self.streams + 1))
        depth = min(self.streams + 1, len(blocks))
        places = {layer: self.layers.index(layer) for layer in request.layers}
        # Each call has its own requests: two threads may run one model.
        infers = [self.model.create_infer_request() for _ in range(depth)]
        for number in range(len(blocks) + depth):
            infer = infers[number % depth]
            if number >= depth:
                infer.wait()
                done = blocks[number - depth]
                states = {
                    layer: torch.from_numpy(infer.get_output_tensor(place).data[done.mask])
                    for layer, place in places.items()
                }
                yield Part(torch.from_numpy(done.rows), states)
            if number < len(blocks):
                infer.start_async([blocks[number].ids, blocks[number].mask.astype("int64")])


def cosines(compiled: Any, inputs: list[Any], expected: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the cosine of each wordpiece's state with the one expected, layer after layer."""
    found, mask = compiled(inputs), torch.from_numpy(inputs[1]).bool()
    pairs = [(torch.from_numpy(found[i])[mask], states[mask]) for i, states in enumerate(expected)]
    return torch.cat([functional.cosine_similarity(*pair, dim=-1) for pair in pairs])


def int8_origin(digest: bytes, layers: Sequence[int]) -> str:
    """Return what a rounded model was made of: the weights' digest, and which layers it returns."""
    return f"{digest.hex()} {list(layers)}"


@contextmanager
def converting(failed: str) -> Iterator[None]:
    """Keep converters quiet, and say of whatever they fail at, in whatever way, what it means.

    Args:
        failed: The message, which the cause is added to.

    Raises:
        EngineError: something failed.
        BaseException: what a signal raised, which converters take for a failure of their own.
    """
    stops: list[BaseException] = []
    main = threading.current_thread() is threading.main_thread()
    handlers: dict[int, Any] = {n: signal.getsignal(n) for n in _SIGNALS if main}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}

    def hear(number: int, frame: Any) -> None:
        try:
            handlers[number](number, frame)
        except BaseException as stop:
            stops.append(stop)
            raise

    for number in handlers:
        signal.signal(number, hear)
    try:
        with quiet(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer warns of every branch in Python
            yield
    except Exception as error:
        if not stops:
            cause = str(error).strip().partition("\n")[0]
            raise EngineError(f"{failed} ({type(error).__name__}: {cause})") from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if stops:
        raise stops[0]


class LayersOf(torch.nn.Module):
    """A model that takes ids and mask, (texts, wordpieces), and returns the states of some layers.

    Args:
        padded: Runs the model itself.
        layers: Their numbers.
    """

    def __init__(self, padded: PaddedEngine, layers: Sequence[int]) -> None:
        super().__init__()
        self.hf_model, self.padded, self.layers = padded.hf_model, padded, layers

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return one tensor for each layer, (texts, wordpieces, width)."""
        output = self.padded.output(ids, mask, self.layers)
        return tuple(self.padded.layer(output, layer, ids) for layer in self.layers)


# Turn HuggingFace's checkpointing on or off; it was called "gradient" until transformers 5.
def _checkpoint(hf_model: Any, wanted: bool) -> None:
    if wanted != any(getattr(one, "gradient_checkpointing", False) for one in hf_model.modules()):
        switch = f"checkpointing_{'enable' if wanted else 'disable'}"
        new, old = f"activation_{switch}", f"gradient_{switch}"
        given = [{"use_reentrant": False}] if wanted else []
        getattr(hf_model, new if hasattr(hf_model, new) else old)(*given)
