"""The engines that run a batch of wordpieces through an encoder.

Each takes wordpieces and returns hidden states, part by part. There are three: torch over packs
(BERT's family on a CPU), torch over padded blocks (every other encoder, and GPUs), and OpenVINO
over padded blocks (inference on a CPU, where it is installed).
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import torch
from thinc.api import torch2xp
from thinc.types import Floats3d
from torch.nn import functional

from .batching import MicroBatch, micro_batches, packs
from .packed import PackedBert
from .runtime import Precision, Runtime, keep_freed_memory
from .saving import weights_digest
from .wordpieces import Ints, Wordpieces

# One more forward pass costs about as much as 30 positions of MiniLM on a CPU (60 in training).
_CPU_PADDING = 64
# Compiling a model takes as long as torch needs for some 10,000 wordpieces; and before each call
# all weights are read, to see whether one has changed.
_WORTH_COMPILING, _WORTH_A_CALL = 16_384, 256
# The least cosine between a token's vector by OpenVINO and by torch in fp32, on a trial.
_LEAST_COSINE = {"fp32": 0.99999, "bf16": 0.998}


class EngineError(RuntimeError):
    """An engine that was asked for cannot run this model here."""


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


class Engines:
    """The engines of one loaded model.

    Args:
        hf_model: The HuggingFace model.
        pad_id: The id that fills up a batch.
        attentions: Whether to return attentions, which the model itself must compute.

    Attributes:
        report: Which engine ran last, and why not OpenVINO where it did not.
    """

    def __init__(self, hf_model: torch.nn.Module, pad_id: int, attentions: bool) -> None:
        self.hf_model = hf_model
        self.padded = PaddedEngine(hf_model, pad_id, attentions)
        packed = None if attentions else PackedBert.of(hf_model)
        self.packed = None if packed is None else PackedEngine(packed)
        self.openvino = OpenVinoEngine(self.padded)
        self.report = "nothing has run yet"
        self._seen = 0

    def choose(
        self,
        runtime: Runtime,
        device: torch.device,
        pieces: int,
        layers: Sequence[int],
        train: bool,
    ) -> "PackedEngine | PaddedEngine | OpenVinoEngine":
        """Return the fastest engine for a batch; on a GPU packs are not measured yet.

        Args:
            runtime: What was asked for.
            device: Where the weights are.
            pieces: How many wordpieces there are to encode.
            layers: Numbers of the layers to return.
            train: Whether torch needs a graph of it; weights will then change.

        Raises:
            EngineError: OpenVINO was asked for by name and cannot run this model.
        """
        self._seen = 0 if train else self._seen + pieces
        reason = "training" if train else self._against_openvino(runtime, device, pieces, layers)
        if not reason:
            self.report = f"openvino, {runtime.precision_on(device)}"
            return self.openvino
        packed = self.packed is not None and device.type == "cpu"
        self.report = f"torch over {'packs' if packed else 'padded blocks'} ({reason})"
        return self.packed if packed and self.packed is not None else self.padded

    # Return what speaks against OpenVINO; nothing where it has the model ready.
    def _against_openvino(
        self, runtime: Runtime, device: torch.device, pieces: int, layers: Sequence[int]
    ) -> str:
        if runtime.engine == "torch":
            return 'engine = "torch"'
        if device.type != "cpu" or self.padded.attentions or runtime.precision_on(device) == "fp16":
            return "OpenVINO runs in fp32 and bf16 on a CPU, without attentions"
        if runtime.engine == "auto":
            if self.openvino.failure:
                return self.openvino.failure
            if find_spec("openvino") is None:
                return "OpenVINO is not installed: pip install 'trfnb[fast]'"
            if pieces < _WORTH_A_CALL or self._seen < _WORTH_COMPILING:
                return "too little to encode to be worth compiling the model"
        try:
            self.openvino.prepare(tuple(layers), runtime.precision_on(device))
        except EngineError as error:
            if runtime.engine == "openvino":
                raise
            self.openvino.failure = str(error)
        return self.openvino.failure


@dataclass(frozen=True, eq=False)
class PackedEngine:
    """Runs texts laid end to end: nothing is computed for padding."""

    packed: PackedBert

    def run(
        self,
        wordpieces: Wordpieces,
        texts: Ints,
        layers: Sequence[int],
        runtime: Runtime,
        is_train: bool,
    ) -> Iterator[Part]:
        """Run texts of a flat batch through the encoder, pack by pack.

        Args:
            wordpieces: The flat batch.
            texts: The numbers of the texts to run.
            layers: Numbers of the layers to return.
            runtime: Precision and budget.
            is_train: Whether to keep what torch needs for a backward pass.
        """
        keep_freed_memory()
        device = next(self.packed.embeddings.parameters()).device
        for pack in packs(wordpieces, runtime.items(device, is_train), texts):
            with (
                torch.enable_grad() if is_train else torch.inference_mode(),
                runtime.autocast(device),
            ):
                found = self.packed.states(pack, layers, checkpointing=runtime.checkpointing)
                found = {layer: rows.float() for layer, rows in found.items()}
            yield Part(torch.from_numpy(pack.rows).to(device), found)


@dataclass(eq=False)
class PaddedEngine:
    """Runs a HuggingFace model as it is, over padded blocks of texts of about one length."""

    hf_model: Any
    pad_id: int
    attentions: bool

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
        device = next(self.hf_model.parameters()).device
        if device.type == "cpu":
            keep_freed_memory()
        most = _CPU_PADDING if device.type == "cpu" else None
        padding = 0 if self.padding_counts else most
        if is_train and runtime.checkpointing:
            self.hf_model.gradient_checkpointing_enable({"use_reentrant": False})
        items = runtime.items(device, is_train)
        for batch in micro_batches(wordpieces, items, self.pad_id, padding, texts):
            ids = torch.from_numpy(batch.ids).to(device)
            mask = None if batch.mask.all() else torch.from_numpy(batch.mask).to(device)
            with torch.set_grad_enabled(is_train), runtime.autocast(device):
                output = self.output(ids, mask, layers)
                found = {}
                for layer in layers:
                    states = self.layer(output, layer, ids)
                    found[layer] = (states.flatten(0, 1) if mask is None else states[mask]).float()
            attentions = _attentions(output, batch) if self.attentions else {}
            yield Part(torch.from_numpy(batch.rows).to(device), found, attentions)

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
                alone = self.output(ids[1:, : int(mask[1].sum())], None).last_hidden_state[0]
                beside = self.output(ids, mask).last_hidden_state[1, : len(alone)]
        finally:
            self.hf_model.train(was)
        largest = max(float(alone.abs().max()), 1.0)
        return not torch.allclose(alone, beside, atol=1e-3 * largest, rtol=0, equal_nan=True)

    def trial(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return random ids of two texts, (2, 19), the second one shorter, and their mask."""
        size = int(getattr(self.hf_model.config, "vocab_size", None) or 100)
        ids = torch.from_numpy(np.random.default_rng(0).integers(0, size, (2, 19)))
        mask = torch.ones_like(ids, dtype=torch.bool)
        ids[1, 7:], mask[1, 7:] = self.pad_id, False
        device = next(self.hf_model.parameters()).device
        return ids.to(device), mask.to(device)

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
        states, n_layers = output.last_hidden_state, self.hf_model.config.num_hidden_layers
        if layer != n_layers:
            every = output.hidden_states
            states = every[layer] if len(every) == n_layers + 1 else None
        if states is None or states.shape[:2] != ids.shape:
            raise ValueError(
                f"Layer {layer} of the transformer expected a state for each wordpiece, but layers "
                f"of this kind ({self.hf_model.config.model_type}) have several lengths. Read its "
                'last layer: layer = -1 on listeners (not a lower one, nor "mix"), and layers = [].'
            )
        return cast(torch.Tensor, states)


# Return each text's attentions, (layers, heads, wordpieces, wordpieces), by text number.
def _attentions(output: Any, batch: MicroBatch) -> dict[int, Floats3d]:
    stacked = torch.stack([one.detach().float() for one in output.attentions], dim=1)
    found = {}
    for text, weights, mask in zip(batch.texts.tolist(), stacked, batch.mask, strict=True):
        n = int(mask.sum())
        found[text] = cast(Floats3d, torch2xp(weights[:, :, :n, :n].contiguous()))
    return found


class OpenVinoEngine:
    """Runs what OpenVINO compiled of an encoder, for inference on a CPU.

    A compiled model is a copy of the weights: it is made again when one of them has changed.

    Args:
        padded: Runs the model itself, which is compiled, and which a trial is compared with.

    Attributes:
        failure: Why OpenVINO cannot run this model; empty where nothing is known against it.
    """

    def __init__(self, padded: PaddedEngine) -> None:
        self.padded = padded
        self.failure = ""
        self._digest = b""
        self._compiled: dict[tuple[Any, ...], Any] = {}

    def prepare(self, layers: tuple[int, ...], precision: Precision) -> Any:
        """Return the model, compiled for these layers with the weights as they are.

        Raises:
            EngineError: OpenVINO is not installed, cannot convert the model, or computes
                something else.
        """
        digest = weights_digest(self.padded.hf_model.state_dict().values())
        if digest != self._digest:
            self._digest, self._compiled = digest, {}
        key = layers, precision, torch.get_num_threads()
        if key not in self._compiled:
            self._compiled[key] = self._compile(layers, precision)
        return self._compiled[key]

    def run(
        self,
        wordpieces: Wordpieces,
        texts: Ints,
        layers: Sequence[int],
        runtime: Runtime,
        is_train: bool,
    ) -> Iterator[Part]:
        """Run padded blocks one by one."""
        device = torch.device("cpu")
        model = self.prepare(tuple(layers), runtime.precision_on(device))
        request = model.create_infer_request()  # two threads may run one model
        padding = 0 if self.padded.padding_counts else _CPU_PADDING
        items, pad_id = runtime.items(device), self.padded.pad_id
        for batch in micro_batches(wordpieces, items, pad_id, padding, texts):
            found = request.infer([batch.ids, batch.mask.astype("int64")])
            states = {
                layer: torch.from_numpy(found[place][batch.mask])
                for place, layer in enumerate(layers)
            }
            yield Part(torch.from_numpy(batch.rows), states)

    def _compile(self, layers: tuple[int, ...], precision: Precision) -> Any:
        try:
            import openvino
        except ImportError:
            raise EngineError("OpenVINO is not installed: pip install 'trfnb[fast]'") from None
        ids, mask = self.padded.trial()
        module = _LayersOf(self.padded, layers)
        settings = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # a busy core must not hold up the others
        }
        self.padded.hf_model.eval()
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # the tracer warns of every branch in Python
                expected = module(ids, mask.long())
                graph = openvino.convert_model(module, example_input=(ids, mask.long()))
            compiled = openvino.Core().compile_model(graph, "CPU", settings)
            found = compiled([ids.numpy(), mask.long().numpy()])
        except Exception as error:  # torch runs what a converter fails at, in whatever way
            cause = str(error).strip().partition("\n")[0]
            raise EngineError(
                f"OpenVINO cannot convert this model ({type(error).__name__}: {cause})"
            ) from error
        for place, states in enumerate(expected):
            ours = torch.from_numpy(found[place])[mask]
            cosine = float(functional.cosine_similarity(ours, states[mask], dim=-1).min())
            if not cosine >= _LEAST_COSINE[precision]:
                raise EngineError(f"OpenVINO computes something else here (cosine {cosine:.4f})")
        return compiled


# A model that takes (ids, mask) and returns the states of some layers.
class _LayersOf(torch.nn.Module):
    def __init__(self, padded: PaddedEngine, layers: Sequence[int]) -> None:
        super().__init__()
        self.hf_model, self.padded, self.layers = padded.hf_model, padded, layers

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.padded.output(ids, mask, self.layers)
        return tuple(self.padded.layer(output, layer, ids) for layer in self.layers)
