"""Build pipelines, train them, measure what they cost and gain, and compare them."""

from importlib import import_module
from typing import Any

from trfnb import notebook_side

_HOME = {
    "build_config": "configs",
    "compare": "comparison",
    "starved": "measures",
    "train": "training",
    "tune": "search",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        with notebook_side():
            return getattr(import_module(f"trfnb.experiments.{_HOME[name]}"), name)
    raise AttributeError(f"module 'trfnb.experiments' has no attribute {name!r}")
