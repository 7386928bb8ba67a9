"""Pretraining on raw text: masking, objectives, and a loop that resumes exactly."""

from importlib import import_module
from typing import Any

__all__ = [
    "PretrainingError",
    "load_weights",
    "pretrain",
    "pretraining_config",
    "with_pretrained",
    "write_text",
]

_CHAPTERS = {
    "PretrainingError": "text",
    "load_weights": "weights",
    "pretrain": "loop",
    "pretraining_config": "config",
    "with_pretrained": "config",
    "write_text": "config",
}


def __getattr__(name: str) -> Any:
    # They need torch and spaCy; the command line imports this package without them.
    if name in _CHAPTERS:
        return getattr(import_module(f"{__name__}.{_CHAPTERS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
