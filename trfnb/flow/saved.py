"""Weights on disk and in bytes: safetensors and tokenizer files, nothing pickled."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path
from typing import Any

import srsly
import torch
from safetensors.torch import save as save_safetensors


def from_spacy_transformers(saved: dict[str, Any]) -> dict[str, Any]:
    """Read what spacy-transformers 1.1 to 1.4 saved, without unpickling anything but tensors."""
    if not saved["config"]:
        return {}
    files = {name: content for name, content in saved["tokenizer"].items() if name != "kwargs"}
    files["config.json"] = srsly.json_dumps(saved["config"]).encode("utf8")
    state = torch.load(BytesIO(saved["state"]), map_location="cpu", weights_only=True)
    state = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    return {"files": files, "weights": save_safetensors(state)}


class ConfigError(ValueError):
    """A model's configuration does not fit what was asked of it."""


def check_config(source: str, config: Any, unknown: Iterable[str]) -> None:
    """Refuse settings that a model does not know, and models that are no encoder.

    Args:
        source: The model's name, for the message.
        config: HuggingFace's configuration of it.
        unknown: Settings that the configuration had no place for.

    Raises:
        ConfigError: names the settings, or the kind of model.
    """
    known = config.to_dict()
    hints = []
    for name in unknown:
        near = get_close_matches(name, known, n=1)
        hints.append(f"{name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    if hints:
        raise ConfigError(
            f"transformer_config expected settings of {source!r} ({config.model_type}), which has "
            f"no {', '.join(hints)}. Its config.json lists what it has."
        )
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"The transformer {source!r} expected an encoder, got an encoder and a decoder "
            f"({config.model_type}). Save its encoder alone, model.get_encoder().save_pretrained("
            "folder) with the tokenizer beside it, and give that folder as the name."
        )


def in_fp32() -> dict[str, torch.dtype]:
    """Name fp32 as the installed transformers does; 4.x is what spacy-transformers needs beside."""
    import transformers

    major = int(transformers.__version__.split(".")[0])
    return {"dtype" if major >= 5 else "torch_dtype": torch.float32}


@contextmanager
def no_bars() -> Iterator[None]:
    """Hide the bars for reading and writing local files; a second is too short for one."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def tied(body: torch.nn.Module) -> set[str]:
    """Return the names of tensors that an earlier name has too."""
    owners: dict[int, str] = {}
    tied = set()
    for name, tensor in body.state_dict().items():
        if owners.setdefault(tensor.data_ptr(), name) != name:
            tied.add(name)
    return tied


def unique_tensors(body: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Name each tensor once, also where two names share its memory."""
    seen: set[int] = set()
    unique = {}
    for name, tensor in body.state_dict().items():
        if tensor.data_ptr() not in seen or not tensor.numel():
            seen.add(tensor.data_ptr())
            unique[name] = tensor.detach().cpu().contiguous()
    return unique


def fill(body: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load saved weights into a model that was built from their config.

    Raises:
        ValueError: they do not fit.
    """
    missing, unexpected = body.load_state_dict(weights, strict=False)
    # A tensor with two names was saved under the first alone.
    absent = [name for name in missing if name not in tied(body)]
    # Older versions saved these constants with the weights.
    unknown = [name for name in unexpected if not name.endswith(".position_ids")]
    if absent or unknown:
        raise ValueError(
            f"The saved weights do not fit {type(body).__name__}: missing {absent}, unexpected "
            f"{unknown}. The files were written by another version or were changed; save the "
            "pipeline again."
        )


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the content of a folder's files by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@contextmanager
def as_folder(files: dict[str, bytes]) -> Iterator[Path]:
    """Lay files out in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        for file, content in files.items():
            (Path(name) / file).write_bytes(content)
        yield Path(name)
