"""Low-rank adapters through peft, saved as adapter weights."""

import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from .saved import read_files

ADAPTER = "adapter"


def with_adapter(body: torch.nn.Module, settings: dict[str, Any]) -> torch.nn.Module:
    """Freeze a model and give it low-rank updates that learn in its place.

    Raises:
        ImportError: peft is not installed.
        ValueError: peft does not take the settings.
    """
    peft = _peft()
    try:
        return peft.get_peft_model(body, peft.LoraConfig(**settings))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"lora expected settings of peft's LoraConfig, such as {{'r': 8, 'lora_alpha': 16, "
            f"'target_modules': ['query', 'value']}}, got {settings}. ({error})"
        ) from error


def restored_adapter(body: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """Load saved adapter weights onto their model, ready to learn on."""
    return _peft().PeftModel.from_pretrained(body, str(folder), is_trainable=True)


def adapter_files(body: Any) -> dict[str, bytes]:
    """Return the adapter's files by name."""
    with tempfile.TemporaryDirectory() as folder:
        body.save_pretrained(folder)
        return read_files(Path(folder))


def without_adapter(body: Any) -> Any:
    """Return a copy of the model as it was before the adapter."""
    return deepcopy(body).unload()


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError("lora needs peft: run `pip install 'trfnb[lora]'`.") from error
    return peft
