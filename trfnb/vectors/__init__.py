"""Static vectors: convert, prune, inspect, embed, distil."""

from trfnb import on_first_use

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

__getattr__ = on_first_use(__name__, _HOME)
