"""Predict a hidden word's static vector.

As spaCy's ``PretrainVectors`` (https://spacy.io/api/architectures#pretrain_vectors), with the von
Mises–Fisher loss of Kumar and Tsvetkov (2019, https://arxiv.org/abs/1812.04616) besides.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model

from trfnb.pipe.registries import registry
from trfnb.pretraining.corruption import Replacement, hidden_words
from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.heads import linear_head
from trfnb.pretraining.losses import vector_loss
from trfnb.pretraining.masking import Strategy, random_mask
from trfnb.pretraining.objective import Objective, objective_model
from trfnb.pretraining.probing import tokenizer_of


def vector_targets(
    docs: Sequence[Doc], words: list[list[str]], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the static vectors of the hidden words, from any kind of table; zeros if unknown."""
    vectors: Any = docs[0].vocab.vectors
    keys = np.concatenate([np.asarray(doc.to_array(vectors.attr)) for doc in docs])[rows]
    found = vectors.get_batch(keys)
    return np.asarray(found.get() if hasattr(found, "get") else found, dtype="f")


@registry.architectures("trfnb.PretrainVectors.v1")
def PretrainVectors(  # noqa: N802
    maxout_pieces: int = 3,
    hidden_size: int = 300,
    loss: Literal["cosine", "L2", "vmf"] = "cosine",
    masking: Strategy | None = None,
    replacement: Replacement | None = None,
) -> Objective:
    """Build the objective of hidden words' static vectors.

    Args:
        maxout_pieces: Of the head's hidden layer.
        hidden_size: Its width.
        loss: Distance between a prediction and the vector; see `trfnb.pretraining.losses`.
        masking: Which words to hide; 15 % at random by default.
        replacement: What to show instead; 80 % masks, 10 % other words by default.
    """
    distance = vector_loss(loss)

    def build(vocab: Vocab, tok2vec: Model) -> Model:
        width = vocab.vectors.shape[1]
        if width == 0 or vocab.vectors.shape[0] == 0:
            raise PretrainingError(
                "The objective of word vectors expected a vocabulary with vectors, got one "
                "without. Set [initialize] vectors to a table (trfnb vectors convert makes one), "
                "or take another objective."
            )
        make_task = hidden_words(masking or random_mask(), replacement, tokenizer_of(tok2vec))
        head = linear_head(hidden_size, maxout_pieces, width)
        return objective_model(vocab, tok2vec, head, make_task, vector_targets, distance)

    return build
