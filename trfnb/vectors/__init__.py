"""Static vectors: convert, prune, inspect, embed, distil."""

from importlib import import_module
from typing import Any

_HOME = {
    "Report": "trfnb.vectors.report",
    "VectorsError": "trfnb.vectors.report",
    "convert": "trfnb.vectors.conversion",
    "distill": "trfnb.vectors.distillation",
    "fingerprint": "trfnb.vectors.fingerprints",
    "inspect": "trfnb.vectors.inspection",
    "load": "trfnb.vectors.store",
    "most_similar": "trfnb.vectors.similar",
    "prune": "trfnb.vectors.pruning",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'trfnb.vectors' has no attribute {name!r}")
