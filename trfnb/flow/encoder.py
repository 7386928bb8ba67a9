"""Wordpiece ids -> hidden states: a HuggingFace model inside a Thinc layer."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import srsly
import torch
from thinc.api import (
    Model,
    Optimizer,
    PyTorchShim,
    Shim,
    get_torch_default_device,
    torch2xp,
    xp2torch,
)
from thinc.types import Floats2d, Floats4d

from .batching import Part, Request, originals, put_rows, text_rows
from .engines import Engines
from .grad_factor import Schedule
from .optimizer import averaged, step
from .runtime import Runtime
from .saving import folder_of, from_spacy_transformers, load_encoder, save_encoder
from .wordpieces import Wordpieces

# A layer's number, 0 for the embeddings' output and -1 for the last, or a learned mix of all.
Layer = int | Literal["mix"]
# A flat batch of n wordpieces, and the layers that are asked for; "mix" asks for all.
EncoderInput = tuple[Wordpieces, Sequence[Layer]]
# Layer number -> (n, width) hidden states; and, if asked for, for each text its attentions,
# (layers, heads, wordpieces, wordpieces).
HiddenStates = tuple[dict[int, Floats2d], list[Floats4d] | None]
Backprop = Callable[[Mapping[int, Floats2d]], None]
_APART: ContextVar[bool] = ContextVar("weights_apart", default=False)


@contextmanager
def weights_apart() -> Iterator[None]:
    """Leave weights out of bytes made meanwhile in this thread: they are saved as directories."""
    token = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(token)


def encoder(shim: "EncoderShim", runtime: Runtime) -> Model[EncoderInput, HiddenStates]:
    """Wrap a HuggingFace encoder.

    Its backprop takes gradients by layer number, (n, width) each, for any of the layers that were
    asked for, and adds them to those of the weights; ids have no gradient, so it returns nothing.
    """
    attrs = {"layers": [-1], "runtime": runtime}
    return Model("encoder", forward, dims={"nO": None}, shims=[shim], attrs=attrs)


def layer_number(layer: int, n_layers: int) -> int:
    """Turn -1, -2, … into layer numbers counted from the embeddings' output, 0.

    Args:
        layer: A layer.
        n_layers: How many the encoder has.

    Raises:
        ValueError: the encoder has no such layer.
    """
    if not -n_layers - 1 <= layer <= n_layers:
        raise ValueError(
            f"layer expected a number from {-n_layers - 1} to {n_layers} (0 is the embeddings' "
            f"output, -1 the last layer), got {layer}."
        )
    return layer if layer >= 0 else n_layers + 1 + layer


def encoders(model: Model, *, needed: bool = False) -> list[Model[EncoderInput, HiddenStates]]:
    """Return the layers of a model that run an encoder.

    Raises:
        ValueError: one is needed and there is none.
    """
    found = [node for node in model.walk() if "runtime" in node.attrs]
    if needed and not found:
        raise ValueError(
            f"engine and precision belong to an encoder of trfnb, and the model {model.name!r} has "
            "none. Set them on the transformer, or on a task with a transformer of its own."
        )
    return found


def set_runtime(model: Model, **settings: Any) -> None:
    """Change how the encoders of a model run from now on, in this process: nothing is saved.

    Args:
        model: Of a `Transformer` component, or of a task with a transformer of its own.
        **settings: Attributes of `Runtime`, such as ``engine="torch"`` or ``precision="bf16"``.

    Raises:
        ValueError: a value is none that the setting takes, or the model has no encoder.
    """
    for node in encoders(model, needed=True):
        node.attrs["runtime"] = replace(node.attrs["runtime"], **settings)


def engine_report(model: Model) -> str:
    """Tell which engine ran a model's encoder last and, where OpenVINO did not, why."""
    shims = [cast(EncoderShim, node.shims[0]) for node in encoders(model, needed=True)]
    return "; ".join(one.engines.report if one.engines else "nothing has run yet" for one in shims)


def forward(
    model: Model[EncoderInput, HiddenStates], X: EncoderInput, is_train: bool
) -> tuple[HiddenStates, Backprop]:
    """Run mini-batches and put their rows back in order.

    Where memory runs out, the mini-batches are halved until they fit, and stay so.
    """
    shim, runtime = cast(EncoderShim, model.shims[0]), model.attrs["runtime"]
    first = items = runtime.items(shim.device, is_train)
    times = max(1, first // runtime.max_batch_items)  # of what is set
    while True:
        try:
            result = _run(shim, runtime, X, is_train)
            break
        except RuntimeError as error:
            full = isinstance(error, torch.OutOfMemoryError) or "can't allocate" in str(error)
            if not full or items <= X[0].lengths.max(initial=1):
                raise
        # Outside the handler, where the failed pass's tensors are no longer held.
        items //= 2
        runtime = replace(runtime, max_batch_items=max(1, items // times))
        torch.cuda.empty_cache()  # nothing where there is no GPU
    if items < first:
        model.attrs["runtime"] = runtime
        warnings.warn(
            f"Out of memory at {first} wordpieces a forward pass; going on with {items}. "
            f"Set max_batch_items = {runtime.max_batch_items} on the transformer to start there.",
            RuntimeWarning,
            stacklevel=2,
        )
    return result


def _run(
    shim: "EncoderShim", runtime: Runtime, X: EncoderInput, is_train: bool
) -> tuple[HiddenStates, Backprop]:
    if is_train and torch.is_inference_mode_enabled():
        raise RuntimeError(
            f"Training {shim.name!r} expected torch to record gradients, but runs within "
            "torch.inference_mode(), where there are none. Train outside of it."
        )
    engines, device, (wordpieces, asked) = shim.begin(is_train), shim.device, X
    numbers = range(shim.n_layers + 1) if "mix" in asked else cast(Sequence[int], asked)
    layers = sorted({layer_number(layer, shim.n_layers) for layer in numbers})
    shape = len(wordpieces.ids), shim.width
    states = {layer: torch.empty(shape, dtype=torch.float32, device=device) for layer in layers}
    attentions: dict[int, Floats4d] = {}
    graph: list[Part] = []
    texts = first = np.arange(len(wordpieces.lengths))
    if not is_train and not shim.attentions:  # with dropout, texts that come twice differ
        first = originals(wordpieces)
    copies = texts[first != texts]
    request = Request(wordpieces, texts[first == texts], layers, runtime, is_train)
    for part in engines.choose(request).run(request):
        for layer, rows in part.states.items():
            put_rows(states[layer], part.rows, rows.detach())
        attentions |= part.attentions
        if is_train:
            graph.append(part)
    if len(copies):
        both = (text_rows(wordpieces, of)[0] for of in (copies, first[copies]))
        to, source = (torch.from_numpy(rows).to(device) for rows in both)
        for rows in states.values():
            put_rows(rows, to, rows[source])
    of_layers = {layer: cast(Floats2d, torch2xp(rows)) for layer, rows in states.items()}
    of_texts = _attentions_of(shim, attentions, len(texts)) if shim.attentions else None
    return (of_layers, of_texts), partial(_backward, shim, graph)


# Take gradients of hidden states, and add those of the weights to what is there.
def _backward(shim: "EncoderShim", graph: Sequence[Part], d_rows: Mapping[int, Floats2d]) -> None:
    d_torch = {layer: xp2torch(d, device=shim.device) for layer, d in d_rows.items()}
    pairs = [
        (part.states[layer], d[part.rows])
        for part in graph
        for layer, d in d_torch.items()
        if part.states[layer].requires_grad
    ]
    if pairs:
        ends, gradients = zip(*pairs, strict=True)
        torch.autograd.backward(ends, gradients)


# Return each text's attentions; a text without wordpieces has none.
def _attentions_of(
    shim: "EncoderShim", attentions: Mapping[int, Floats4d], n_texts: int
) -> list[Floats4d]:
    size = (shim.n_layers, int(shim.config.num_attention_heads), 0, 0)
    empty = cast(Floats4d, torch2xp(torch.zeros(size, device=shim.device)))
    return [attentions.get(text, empty) for text in range(n_texts)]


class EncoderShim(PyTorchShim):
    """A HuggingFace encoder with its tokenizer, loaded when first needed.

    Args:
        name: A hub name or a local directory. Not needed once weights were restored.
        tokenizer_config: Passed to ``AutoTokenizer.from_pretrained``.
        transformer_config: Passed to ``AutoConfig.from_pretrained``; ``output_attentions`` asks
            for attentions, ``output_hidden_states`` for all layers.
        trust_remote_code: Run code that comes with the weights; off unless asked for.
        trainable_layers: How many of the upper layers learn, as for `Trainable`.
        lora: Settings of peft's ``LoraConfig``: learn low-rank updates alone (Hu et al., 2021,
            https://arxiv.org/abs/2106.09685), saved as adapter weights.
        attentions: Compute attention so that its weights can be kept.

    Attributes:
        tokenizer: HuggingFace's tokenizer; None before anything was loaded.
        saved_apart: Whether the weights restored from bytes are in a directory of their own,
            which must still be read.
        int8: The files of the rounded model that ``trfnb quantize`` left, if it did.
        engines: What has run the model; None before anything has.

    Raises:
        ValueError: ``trainable_layers`` is no number and no schedule, or is given beside ``lora``.
    """

    def __init__(
        self,
        name: str,
        tokenizer_config: Mapping[str, Any] | None = None,
        transformer_config: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
        trainable_layers: float | Iterable[float] | None = None,
        lora: dict[str, Any] | None = None,
        attentions: bool = False,
    ) -> None:
        super().__init__(None)
        self.name = name
        self.tokenizer_config = dict(tokenizer_config or {})
        self.transformer_config = dict(transformer_config or {})
        self.attentions = bool(self.transformer_config.pop("output_attentions", attentions))
        self.all_layers = bool(self.transformer_config.pop("output_hidden_states", False))
        self.trust_remote_code = trust_remote_code
        if lora is not None and trainable_layers is not None:
            raise ValueError(
                "lora and trainable_layers expected one of the two, got both: with lora the "
                "encoder's own layers keep their weights. Choose layers for the updates by "
                'lora = {"layers_to_transform": [...]}, and remove trainable_layers.'
            )
        self.trainable = Trainable(trainable_layers)
        self.lora = None if lora is None else dict(lora)
        self.tokenizer: Any = None
        self.saved_apart = False
        self.int8: dict[str, bytes] = {}
        self.engines: Engines | None = None

    def begin(self, is_train: bool) -> Engines:
        """Set the model for a forward pass and return the engines that can run it."""
        hf_model = self.loaded()
        hf_model.train(is_train)
        if is_train and self.lora is None:
            self.trainable.apply(hf_model, self.n_layers)
        if self.engines is None or self.engines.padded.hf_model is not hf_model:
            padding = int(self.tokenizer.pad_token_id or 0)
            self.engines = Engines(hf_model, padding, self.attentions, self.int8)
        return self.engines

    def loaded(self) -> torch.nn.Module:
        """Return the torch module.

        Raises:
            ValueError: there are no weights yet.
        """
        if self._model is None:
            raise ValueError(
                f"The transformer {self.name!r} has no weights yet: call nlp.initialize() to load "
                "them from the hub or from a local path, or spacy.load a saved pipeline."
            )
        return self._model

    @property
    def config(self) -> Any:
        """The HuggingFace configuration."""
        return self.loaded().config

    @property
    def width(self) -> int:
        """Numbers of a hidden state."""
        return int(self.config.hidden_size)

    @property
    def n_layers(self) -> int:
        """Transformer layers above the embeddings."""
        return int(self.config.num_hidden_layers)

    def load(self, source: str | Path | None = None) -> None:
        """Load weights and tokenizer from a hub or a directory.

        Raises:
            OSError: there is nothing to load at that name, or the files are damaged.
            ConfigError: ``transformer_config`` has keys that the model does not know, or the
                model has a decoder of its own.
        """
        given = self.tokenizer_config, self.transformer_config, self.trust_remote_code, self.lora
        self.take(*load_encoder(source or self.name, *given))

    def restore(self, directory: Path) -> None:
        """Load what `save` wrote.

        Raises:
            OSError: files are missing or damaged.
        """
        self.take(*load_encoder(directory, {}, {}, self.trust_remote_code, self.lora))
        self.int8 = {path.name: path.read_bytes() for path in directory.glob("int8.*")}
        self.saved_apart = False

    def save(self, directory: Path) -> None:
        """Write a directory that HuggingFace opens: config, safetensors, tokenizer."""
        save_encoder(directory, self.tokenizer, self.loaded(), self.lora is not None)
        for name, content in self.int8.items():
            (directory / name).write_bytes(content)

    def to_bytes(self) -> bytes:
        """Return config, tokenizer files and weights (safetensors) as bytes.

        Within `weights_apart` only a note is returned that they are elsewhere.
        """
        saved: dict[str, Any] = {}
        if self._model is not None and _APART.get():
            saved = {"saved_apart": True}
        elif self._model is not None:
            with folder_of() as folder:
                self.save(folder)
                paths = sorted(path for path in folder.rglob("*") if path.is_file())
                files = {one.relative_to(folder).as_posix(): one.read_bytes() for one in paths}
            saved = {"files": files}
        return cast(bytes, srsly.msgpack_dumps(saved))

    def from_bytes(self, bytes_data: bytes) -> "EncoderShim":
        """Restore what `to_bytes` returned, or what spacy-transformers saved.

        Raises:
            ValueError: the weights are damaged, or do not fit their config.
        """
        saved: Any = srsly.msgpack_loads(bytes_data)
        if "state" in saved:
            saved = from_spacy_transformers(saved)
        self.saved_apart = saved.get("saved_apart", False)
        if "files" in saved:
            with folder_of(saved["files"]) as folder:
                try:
                    self.restore(folder)
                except OSError as error:
                    raise ValueError(
                        "The transformer's saved bytes expected config, tokenizer and weights that "
                        f"are whole and fit each other, but were damaged ({error.__cause__}). Save "
                        "the pipeline again."
                    ) from error
        return self

    def take(self, tokenizer: Any, hf_model: Any) -> None:
        """Take what was just loaded, with what the settings ask of it."""
        if self.attentions:
            hf_model.set_attn_implementation("eager")
        self.tokenizer, self._model = tokenizer, hf_model.to(get_torch_default_device())

    def __getstate__(self) -> dict[str, Any]:
        # HuggingFace hangs hooks on a model that has run, which cannot be pickled or copied.
        return {**self.__dict__, "_model": None, "engines": None, "saved": self.to_bytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("saved")
        self.__dict__.update(state)
        self.from_bytes(saved)

    def finish_update(self, optimizer: Optimizer) -> None:
        """Step each parameter that got a gradient; without one, nothing moves."""
        self.trainable.step()
        step(optimizer, self.id, self.loaded().named_parameters())

    @contextmanager
    def use_params(self, params: Mapping[Any, Any]) -> Iterator[None]:
        """Run on an optimizer's averages meanwhile."""
        with averaged(params, self.id, self._model.named_parameters() if self._model else ()):
            yield

    def copy(self) -> "EncoderShim":
        """Return a deep copy that an optimizer can tell from this one."""
        copied = deepcopy(self)
        copied.id = Shim(None).id
        return copied

    def to_device(self, device_type: str, device_id: int) -> None:
        """Move the weights, if there are any."""
        if self._model is not None:
            super().to_device(device_type, device_id)


class Trainable(Schedule):
    """How many of the upper layers learn.

    Gradual unfreezing starts at the top and moves down (Howard and Ruder, 2018, Universal
    language model fine-tuning for text classification, https://arxiv.org/abs/1801.06146).

    Args:
        value: None for everything, the embeddings included; a number of layers, counted from the
            top; or a schedule of such numbers, stepped once a training step. One more than the
            model has layers reaches the embeddings.

    Raises:
        ValueError: it is none of these, or a number is negative or NaN.
    """

    @staticmethod
    def checked(value: Any) -> float:
        """Return a number of layers, if it is one; of all, infinity."""
        if value is None:
            return math.inf
        if isinstance(value, bool) or not isinstance(value, Real) or not float(value) >= 0:
            raise ValueError(
                "trainable_layers expected 0 layers from the top or more, a schedule of such "
                f"numbers, or null for all, got {value!r} ({type(value).__name__})."
            )
        return float(value)

    def apply(self, hf_model: torch.nn.Module, n_layers: int) -> None:
        """Let the chosen layers take a gradient, and no others."""
        hf_model.requires_grad_(self.now >= n_layers + 1)
        if 1 <= self.now < n_layers + 1:
            lists = [one for one in hf_model.modules() if isinstance(one, torch.nn.ModuleList)]
            layers = next((one for one in lists if len(one) == n_layers), None)
            if layers is None:
                raise ValueError(
                    f"trainable_layers expected a model with a list of {n_layers} layers, but "
                    f"{type(hf_model).__name__} has none. Leave trainable_layers = null."
                )
            layers[n_layers - int(self.now) :].requires_grad_(True)
