"""Weights on disk and in bytes: safetensors and tokenizer files, no pickle."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from importlib import import_module
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import srsly
import torch
from numpy.typing import NDArray
from safetensors.torch import save as save_safetensors

_ADAPTER, _WEIGHTS = "adapter", "model.safetensors"
# The part of an encoder that makes a vector of a whole text: nothing here reads it, and many
# checkpoints lack it.
_UNUSED = "pooler"
# How the classes of encoders end that were saved without their decoder.
_ENCODERS = ("EncoderModel", "Encoder", "Stack")
_NAMES = 8  # the most in a message
# Words of eight bytes are hashed in blocks of so many, by fixed odd numbers.
_BLOCK = 2**16
_MULTIPLIERS: NDArray[np.int64] = (np.random.PCG64(0).random_raw(_BLOCK) | 1).view(np.int64)


class ConfigError(ValueError):
    """A model's configuration does not fit what was asked of it."""


def load_encoder(
    source: str | Path,
    tokenizer_config: Mapping[str, Any],
    transformer_config: Mapping[str, Any],
    trust_remote_code: bool = False,
    lora: dict[str, Any] | None = None,
) -> tuple[Any, torch.nn.Module]:
    """Load a tokenizer and an encoder in fp32 from a hub or a directory.

    Args:
        source: A hub name or a directory.
        tokenizer_config: Settings for the tokenizer.
        transformer_config: Settings for the model's configuration.
        trust_remote_code: Run code that comes with the weights.
        lora: Settings of peft's ``LoraConfig``; a saved adapter of the directory counts first.

    Raises:
        OSError: there is nothing to load at that name, its files are damaged or do not fit each
            other, or there is no network to fetch it by.
        ConfigError: ``transformer_config`` has keys that the model does not know, the model has a
            decoder of its own, or peft does not take the settings of ``lora``.
    """
    from transformers import AutoConfig, AutoTokenizer

    folder = Path(source).expanduser()
    name = str(folder) if folder.is_dir() else str(source)
    trust = {"trust_remote_code": trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **{**trust, **tokenizer_config})
        config, unknown = AutoConfig.from_pretrained(
            name, return_unused_kwargs=True, **{**trust, **transformer_config}
        )
        _check_config(name, config, unknown)
        options = {"output_loading_info": True, "ignore_mismatched_sizes": True, **trust}
        with quiet():
            hf_model, report = _model_class(config).from_pretrained(name, config=config, **options)
        _check_loaded(tokenizer, report)
        hf_model = hf_model.float()
        return tokenizer, hf_model if lora is None else _with_adapter(hf_model, folder, lora)
    except (ConfigError, ImportError):
        raise
    except Exception as error:  # each library of the files' formats raises its own
        advice = (
            "Copy the folder again, or download or save the model again."
            if folder.is_dir()
            else "There is no such directory here. Download the model where there is a network "
            "and give its path as [components.transformer.model] name."
        )
        raise OSError(
            f"Cannot load the transformer {name!r}: expected a local directory with config.json, "
            f"tokenizer files and {_WEIGHTS} that are whole and fit each other, or a model name "
            f"that the hub can be reached for. ({type(error).__name__}: {error}) {advice}"
        ) from error


def save_encoder(directory: Path, tokenizer: Any, hf_model: Any, has_adapter: bool) -> None:
    """Write a directory that HuggingFace opens: config, safetensors, tokenizer.

    An adapter goes into a directory of its own beside the weights that it was put on.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with quiet():
        if has_adapter:
            hf_model.save_pretrained(directory / _ADAPTER)
            hf_model = deepcopy(hf_model).unload()
        hf_model.save_pretrained(directory, max_shard_size="1000GB")
    tokenizer.save_pretrained(directory)


@contextmanager
def folder_of(files: Mapping[str, bytes] = {}) -> Iterator[Path]:
    """Make a folder for the time of a block.

    Args:
        files: What it holds at first, by path.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        for path, content in files.items():
            (Path(name) / path).parent.mkdir(exist_ok=True)
            (Path(name) / path).write_bytes(content)
        yield Path(name)


def from_spacy_transformers(saved: dict[str, Any]) -> dict[str, Any]:
    """Read what spacy-transformers saved, without unpickling anything but tensors.

    Its versions 1.1 to 1.4 keep the weights as torch's zip file, later ones as safetensors.
    """
    if not saved["config"]:
        return {}
    files = {name: content for name, content in saved["tokenizer"].items() if name != "kwargs"}
    files["config.json"] = srsly.json_dumps(saved["config"]).encode("utf8")
    files[_WEIGHTS] = saved["state"]
    if saved["state"].startswith(b"PK"):
        state = torch.load(BytesIO(saved["state"]), map_location="cpu", weights_only=True)
        state = {name: tensor.clone().contiguous() for name, tensor in state.items()}
        files[_WEIGHTS] = save_safetensors(state, {"format": "pt"})
    return {"files": files}


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what transformers says of local files, tensors that nothing reads, and traced models."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


# Freeze a model and give it low-rank updates, saved or new, that learn in its place.
def _with_adapter(
    hf_model: torch.nn.Module, folder: Path, settings: dict[str, Any]
) -> torch.nn.Module:
    try:
        import peft
    except ImportError as error:
        raise ImportError("lora needs peft: run `pip install 'trfnb[lora]'`.") from error
    if (folder / _ADAPTER / "adapter_config.json").exists():
        return peft.PeftModel.from_pretrained(hf_model, str(folder / _ADAPTER), is_trainable=True)
    try:
        return peft.get_peft_model(cast(Any, hf_model), peft.LoraConfig(**settings))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"lora expected settings of peft's LoraConfig, such as {{'r': 8, 'lora_alpha': 16, "
            f"'target_modules': ['query', 'value']}}, got {settings}. ({error})"
        ) from error


# Return the class that loads a model: HuggingFace's choice, or that of a lone encoder.
#
# HuggingFace's choice for T5 or BART has a decoder, also where its encoder was saved alone.
def _model_class(config: Any) -> Any:
    from transformers import MODEL_MAPPING, AutoModel

    name = str((getattr(config, "architectures", None) or [""])[0])
    if not name.endswith(_ENCODERS) or type(config) not in MODEL_MAPPING:
        return AutoModel
    module = type(config).__module__.replace("configuration_", "modeling_")
    return getattr(import_module(module), name, AutoModel)


# Refuse settings that a model does not know, and models with a decoder.
def _check_config(source: str, config: Any, unknown: Iterable[str]) -> None:
    from transformers import AutoModel

    hints = []
    for name in unknown:
        near = get_close_matches(name, config.to_dict(), n=1)
        hints.append(f"{name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    if hints:
        raise ConfigError(
            f"transformer_config expected settings of {source!r} ({config.model_type}), which has "
            f"no {', '.join(hints)}. Its config.json lists what it has."
        )
    if getattr(config, "is_encoder_decoder", False) and _model_class(config) is AutoModel:
        raise ConfigError(
            f"The transformer {source!r} expected an encoder, got an encoder and a decoder "
            f"({config.model_type}). Save its encoder alone and give that folder as the name:\n"
            "from transformers import AutoModel, AutoTokenizer\n"
            f"AutoModel.from_pretrained({source!r}).get_encoder().save_pretrained('encoder')\n"
            f"AutoTokenizer.from_pretrained({source!r}).save_pretrained('encoder')"
        )


# Refuse weights of which a part is missing or of another size: it would be random.
def _check_loaded(tokenizer: Any, report: Mapping[str, Any]) -> None:
    wrong = sorted(f"no tensor {name}" for name in report["missing_keys"] if _UNUSED not in name)
    wrong += [
        f"{name} of size {tuple(got)} where config.json asks for {tuple(expected)}"
        for name, got, expected in report["mismatched_keys"]
    ]
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        wrong.append("a tokenizer without a vocabulary")
    if wrong:
        more = f" and {len(wrong) - _NAMES} more" if len(wrong) > _NAMES else ""
        raise ValueError(f"found {', '.join(wrong[:_NAMES])}{more}")


def weights_digest(hf_model: torch.nn.Module) -> bytes:
    """Return a hash of all numbers of a model's weights and buffers.

    It reads everything: torch's own counters miss what is written through ``.data`` or NumPy.
    Words of eight bytes are multiplied by fixed odd numbers and summed, which takes 3 ms for ten
    million numbers in fp32, a third of what a checksum takes.
    """
    sums = []
    for tensor in chain(hf_model.parameters(), hf_model.buffers()):
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        words = raw[: len(raw) // 8 * 8].view(np.int64)
        for start in range(0, len(words), _BLOCK):
            block = words[start : start + _BLOCK]
            sums.append(int(np.dot(block, _MULTIPLIERS[: len(block)])))
        sums.append(int.from_bytes(raw[8 * len(words) :].tobytes(), "little"))
    return hashlib.sha256(np.asarray(sums, dtype="int64").tobytes()).digest()
