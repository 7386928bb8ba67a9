"""The encoder's weights and tokenizer: from a hub or disk, as bytes, without pickle."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import srsly
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from thinc.api import (
    Optimizer,
    PyTorchShim,
    Shim,
    get_torch_default_device,
)

from .adapters import ADAPTER, adapter_files, restored_adapter, with_adapter, without_adapter
from .bert import PackedBert
from .caching import StateCache
from .freezing import Trainable
from .optimizer import step
from .saved import (
    ConfigError,
    as_folder,
    check_config,
    fill,
    from_spacy_transformers,
    in_fp32,
    no_bars,
    read_files,
    unique_tensors,
)


class EncoderShim(PyTorchShim):
    """A HuggingFace encoder with its tokenizer, loaded when first needed.

    Args:
        name: A hub name or a local directory. Not needed once weights were restored.
        tokenizer_config: Passed to ``AutoTokenizer.from_pretrained``.
        transformer_config: Passed to ``AutoConfig.from_pretrained``.
        trust_remote_code: Run code that comes with the weights; off unless asked for.
        trainable_layers: How many of the upper layers learn, as for `Trainable`.
        lora: Settings of peft's ``LoraConfig``: learn low-rank updates alone (Hu et al., 2021,
            https://arxiv.org/abs/2106.09685), saved as adapter weights.
        attentions: Compute attention so that its weights can be kept.

    Raises:
        TypeError: ``trainable_layers`` is no number and no schedule.
        ValueError: both ``trainable_layers`` and ``lora`` are given.
    """

    def __init__(
        self,
        name: str,
        tokenizer_config: dict[str, Any] | None = None,
        transformer_config: dict[str, Any] | None = None,
        trust_remote_code: bool = False,
        trainable_layers: float | Iterable[float] | None = None,
        lora: dict[str, Any] | None = None,
        attentions: bool = False,
    ) -> None:
        super().__init__(None)
        self.name = name
        self.tokenizer_config = dict(tokenizer_config or {})
        self.transformer_config = dict(transformer_config or {})
        self.trust_remote_code = trust_remote_code
        if lora is not None and trainable_layers is not None:
            raise ValueError(
                "lora and trainable_layers expected one of the two, got both: with lora the "
                "encoder's own layers keep their weights. Choose layers for the updates by "
                'lora = {"layers_to_transform": [...]}, and remove trainable_layers.'
            )
        self.trainable = Trainable(trainable_layers)
        self.lora = None if lora is None else dict(lora)
        self.attentions = attentions
        self.tokenizer: Any = None
        self.has_gradient = False
        self._aside = False
        self._packed: tuple[torch.nn.Module, PackedBert | None] | None = None
        self.cache: StateCache | None = None

    @property
    def packed(self) -> PackedBert | None:
        """The encoder as a reader of texts without padding, if its kind is known."""
        body = self.loaded()
        if self._packed is None or self._packed[0] is not body:
            self._packed = body, PackedBert.of(body)
        return self._packed[1]

    def begin(self, is_train: bool) -> torch.nn.Module:
        """Return the torch module, set for a forward pass."""
        body = self.loaded()
        body.train(is_train)
        if is_train and self.lora is None:
            self.trainable.apply(body, self.n_layers)
        return body

    # -- what the body is -------------------------------------------------------------------

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
        """Numbers a hidden state."""
        return int(self.config.hidden_size)

    @property
    def n_layers(self) -> int:
        """Transformer layers above the embeddings."""
        return int(self.config.num_hidden_layers)

    @property
    def pad_id(self) -> int:
        """The id that fills up a batch."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else 0)

    def layer_index(self, layer: int) -> int:
        """Turn -1, -2, … into layer numbers counted from the embeddings' output, 0.

        Raises:
            ValueError: the model has no such layer.
        """
        index = layer if layer >= 0 else self.n_layers + 1 + layer
        if not 0 <= index <= self.n_layers:
            raise ValueError(
                f"layer expected a number from {-self.n_layers - 1} to {self.n_layers} for "
                f"{self.name!r} (0 is the embeddings' output, -1 the last layer), got {layer}."
            )
        return index

    # -- from a hub or a directory ----------------------------------------------------------

    def load(self, source: str | Path | None = None) -> None:
        """Load weights and tokenizer from a hub or a directory.

        Raises:
            OSError: there is nothing to load at that name, or no network to fetch it by.
            ConfigError: ``transformer_config`` has keys that the model does not know, or the
                model has a decoder of its own.
        """
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        source = str(source or self.name)
        trust = {"trust_remote_code": self.trust_remote_code}
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(
                source, **{**trust, **self.tokenizer_config}
            )
            config, unknown = AutoConfig.from_pretrained(
                source, return_unused_kwargs=True, **{**trust, **self.transformer_config}
            )
            check_config(source, config, unknown)
            with no_bars():
                body = AutoModel.from_pretrained(source, config=config, **in_fp32(), **trust)
        except ConfigError:
            raise
        except (OSError, ValueError) as error:
            raise OSError(
                f"Cannot load the transformer {source!r}: expected a local directory with "
                "config.json, tokenizer files and model.safetensors, or a model name that the hub "
                "can be reached for. Download it where there is a network and give its path as "
                f"[components.transformer.model] name. ({type(error).__name__}: {error})"
            ) from error
        adapter = Path(source) / ADAPTER
        if self.lora is None:
            self._model = body
        elif adapter.is_dir():
            self._model = restored_adapter(body, adapter)
        else:
            self._model = with_adapter(body, self.lora)
        self._settle_in()

    def save(self, directory: Path) -> None:
        """Write a directory that HuggingFace opens: config, safetensors, tokenizer."""
        directory.mkdir(parents=True, exist_ok=True)
        body: Any = self.loaded()
        with no_bars():
            if self.lora is not None:
                body.save_pretrained(directory / ADAPTER)
                body = without_adapter(body)
            body.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)

    def restore(self, directory: Path) -> None:
        """Load what `save` wrote."""
        given, self.tokenizer_config, self.transformer_config = (
            (self.tokenizer_config, self.transformer_config),
            {},
            {},
        )
        try:
            self.load(directory)
        finally:
            self.tokenizer_config, self.transformer_config = given

    # -- as bytes ---------------------------------------------------------------------------

    @contextmanager
    def stored_aside(self) -> Iterator[None]:
        """Leave the weights out of `to_bytes`, because they are saved as a directory."""
        self._aside = True
        try:
            yield
        finally:
            self._aside = False

    def to_bytes(self) -> bytes:
        """Return config, tokenizer files and weights (safetensors) as bytes."""
        if self._model is None or self._aside:
            return srsly.msgpack_dumps({})
        with tempfile.TemporaryDirectory() as folder:
            self.tokenizer.save_pretrained(folder)
            self.config.save_pretrained(folder)
            files = read_files(Path(folder))
        base = self.loaded() if self.lora is None else without_adapter(self.loaded())
        saved: dict[str, Any] = {"files": files, "weights": save_safetensors(unique_tensors(base))}
        if self.lora is not None:
            saved["adapter"] = adapter_files(self.loaded())
        return srsly.msgpack_dumps(saved)

    def from_bytes(self, bytes_data: bytes) -> "EncoderShim":
        """Restore what `to_bytes` returned."""
        saved = srsly.msgpack_loads(bytes_data)
        if "state" in saved:
            saved = from_spacy_transformers(saved)
        if saved:
            self._rebuild(saved)
        return self

    def _rebuild(self, saved: dict[str, Any]) -> None:
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        trust = {"trust_remote_code": self.trust_remote_code}
        with as_folder(saved["files"]) as folder:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
            config = AutoConfig.from_pretrained(folder, **trust)
        same = self._model is not None and self._model.config.to_dict() == config.to_dict()
        if not same or self.lora is not None:
            self._model = AutoModel.from_config(config, **in_fp32(), **trust)
        fill(self._model, load_safetensors(saved["weights"]))
        if "adapter" in saved:
            with as_folder(saved["adapter"]) as folder:
                self._model = restored_adapter(self._model, folder)
        self._settle_in()

    def _settle_in(self) -> None:
        """Move a body that was just loaded to the device, with what the settings ask of it."""
        if self.attentions:
            self.loaded().set_attn_implementation("eager")  # type: ignore[operator]
        self._model.to(get_torch_default_device())
        self.trainable.reset()

    # -- learning ---------------------------------------------------------------------------

    def finish_update(self, optimizer: Optimizer) -> None:
        """Step each parameter that got a gradient; without one, nothing moves."""
        self.trainable.step()
        if not self.has_gradient:
            return
        step(optimizer, self.id, self.loaded().named_parameters())
        self.has_gradient = False

    def copy(self) -> "EncoderShim":
        """Return a deep copy that an optimizer can tell from this one."""
        copied = deepcopy(self)
        copied.id = Shim(None).id
        return copied

    def to_device(self, device_type: str, device_id: int) -> None:
        """Move the weights, if there are any."""
        if self._model is not None:
            super().to_device(device_type, device_id)
