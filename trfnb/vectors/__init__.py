"""Static vectors: convert, prune, inspect, embed, distil."""

from importlib import import_module
from typing import Any

from trfnb import notebook_side

_HOME = {
    "ConversionReport": "trfnb.vectors.blocks",
    "VectorsError": "trfnb.vectors.blocks",
    "convert": "trfnb.vectors.conversion",
    "distill": "trfnb.vectors.distillation",
    "fingerprint": "trfnb.vectors.store",
    "inspect": "trfnb.vectors.similar",
    "load": "trfnb.vectors.store",
    "most_similar": "trfnb.vectors.similar",
    "prune": "trfnb.vectors.similar",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        with notebook_side():
            return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'trfnb.vectors' has no attribute {name!r}")
