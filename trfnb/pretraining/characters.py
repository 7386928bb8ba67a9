"""Predict a hidden word's first and last bytes.

The targets are those of spaCy's ``PretrainCharacters``
(https://spacy.io/api/architectures#pretrain_chars), an approximation of BERT's objective whose
output layer does not grow with the vocabulary.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model

from trfnb.pipe.registries import registry
from trfnb.pretraining.corruption import Replacement, hidden_words, texts
from trfnb.pretraining.heads import choices_head, linear_head
from trfnb.pretraining.losses import categorical, one_hot
from trfnb.pretraining.masking import Strategy, random_mask
from trfnb.pretraining.objective import Objective, objective_model
from trfnb.pretraining.probing import tokenizer_of
from trfnb.pretraining.task import Targets

BYTES = 256


def character_targets(n_characters: int) -> Targets:
    """Return what makes (rows, n_characters) bytes of hidden words."""

    def targets(
        docs: Sequence[Doc], words: list[list[str]], rows: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        flat = [word for doc in docs for word in texts(doc)]
        joined = b"".join([outer_bytes(flat[row], n_characters) for row in rows.tolist()])
        return np.frombuffer(joined, dtype="uint8").reshape(-1, n_characters).astype(np.int64)

    return targets


@lru_cache(maxsize=1 << 16)
def outer_bytes(word: str, n: int) -> bytes:
    """Return a word's first byte, its last, its second, its last but one, …, filled up with 255.

    This is the order of ``Doc.to_utf8_array``.
    """
    utf8 = word.encode()
    inward = bytearray()
    for i in range(min(n, len(utf8))):
        inward.append(utf8[i // 2] if i % 2 == 0 else utf8[-(i // 2) - 1])
    return bytes(inward.ljust(n, b"\xff"))


@registry.architectures("trfnb.PretrainCharacters.v1")
def PretrainCharacters(  # noqa: N802
    maxout_pieces: int = 3,
    hidden_size: int = 300,
    n_characters: int = 4,
    masking: Strategy | None = None,
    replacement: Replacement | None = None,
    loss: Literal["cross_entropy", "squared"] = "cross_entropy",
) -> Objective:
    """Build the objective of hidden words' bytes.

    Args:
        maxout_pieces: Of the head's hidden layer.
        hidden_size: Its width.
        n_characters: Bytes to predict, half from the front and half from the back.
        masking: Which words to hide; 15 % at random by default.
        replacement: What to show instead; 80 % masks, 10 % other words by default.
        loss: ``"squared"`` is what spaCy's objective computes: the distance from one-hot rows,
            since its ``MultiSoftmax`` makes no probabilities.
    """
    if loss not in ("cross_entropy", "squared"):
        raise ValueError(f"loss expected cross_entropy or squared, got {loss!r}.")

    def build(vocab: Vocab, tok2vec: Model) -> Model:
        squared = loss == "squared"
        if squared:
            head = linear_head(hidden_size, maxout_pieces, n_characters * BYTES)
        else:
            head = choices_head(hidden_size, maxout_pieces, n_characters, BYTES)
        make_task = hidden_words(masking or random_mask(), replacement, tokenizer_of(tok2vec))
        targets = character_targets(n_characters)
        distance = one_hot(BYTES) if squared else categorical(BYTES)
        return objective_model(vocab, tok2vec, head, make_task, targets, distance)

    return build
