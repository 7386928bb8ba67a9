"""Everything of pretraining that a config may name, in one import."""

from trfnb.pretraining import (  # noqa: F401
    characters,
    distillation,
    loading,
    masks,
    reader,
    replaced,
    word_vectors,
    wordpieces,
    words,
)
