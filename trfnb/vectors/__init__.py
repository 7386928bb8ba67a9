"""Static vectors: convert, prune, inspect, embed, distil."""

from trfnb import on_first_use

__getattr__, __dir__, __all__ = on_first_use(
    __name__,
    {
        "ConversionReport": "trfnb.vectors.blocks",
        "VectorsError": "trfnb.vectors.blocks",
        "convert": "trfnb.vectors.conversion",
        "distill": "trfnb.vectors.distillation",
        "fingerprint": "trfnb.vectors.store",
        "inspect": "trfnb.vectors.store",
        "load": "trfnb.vectors.store",
        "most_similar": "trfnb.vectors.store",
        "prune": "trfnb.vectors.store",
        "word_vectors": "trfnb.vectors.store",
    },
)
