"""What stands in a hidden place: mostly a mask, sometimes another word, sometimes the word itself.

The shares are BERT's (Devlin et al., 2019): with 80, 10 and 10 in a hundred a body also learns
vectors of places that nothing marks as hidden.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from spacy.tokens import Doc

from trfnb.pretraining.masking import Groups, Hidden, Strategy, hide
from trfnb.pretraining.task import MakeTask, Task

MASK = "[MASK]"


@dataclass(frozen=True)
class Replacement:
    """Shares of what replaces a hidden word; the rest keeps the word.

    Attributes:
        mask: Share that becomes ``word``.
        other: Share that becomes another word, drawn from the batch as often as it occurs there.
        word: What a body sees as the mask.
    """

    mask: float = 0.8
    other: float = 0.1
    word: str = MASK

    def __post_init__(self) -> None:
        if min(self.mask, self.other) < 0 or self.mask + self.other > 1:
            raise ValueError(
                "Replacement expected shares of at least 0 that sum to at most 1, got "
                f"mask={self.mask!r}, other={self.other!r}."
            )


def step_rng() -> np.random.Generator:
    """Return a generator that follows from Python's random state, which `fix_random_seed` sets."""
    return np.random.default_rng(random.getrandbits(64))


def texts(doc: Doc) -> list[str]:
    """Return a doc's words; much faster than token by token."""
    strings = doc.vocab.strings
    return [strings[key] for key in cast(Any, doc.to_array("ORTH")).tolist()]


def word_groups(doc: Doc) -> Groups:
    """Number the words of a doc; words without a space between them share a number."""
    spaces = cast(Any, doc.to_array("SPACY")).astype(np.int64)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(spaces)[:-1]])[: len(doc)]


def corrupt(
    docs: Sequence[Doc], strategy: Strategy, replacement: Replacement, rng: np.random.Generator
) -> tuple[list[list[str]], Hidden]:
    """Return the words of docs with hidden ones replaced, and which were hidden."""
    words = [texts(doc) for doc in docs]
    hidden = hide(strategy, [word_groups(doc) for doc in docs], rng)
    flat = [word for one in words for word in one]
    places = np.flatnonzero(hidden)
    rolls = rng.random(len(places))
    others = rng.integers(max(len(flat), 1), size=len(places))
    changed = list(flat)
    for place, roll, other in zip(places.tolist(), rolls.tolist(), others.tolist(), strict=True):
        if roll < replacement.mask:
            changed[place] = replacement.word
        elif roll < replacement.mask + replacement.other:
            changed[place] = flat[other]
    ends = np.cumsum([len(one) for one in words]).tolist()
    return [changed[end - len(one) : end] for end, one in zip(ends, words, strict=True)], hidden


def hidden_words(
    strategy: Strategy, replacement: Replacement | None, tokenizer: Any = None
) -> MakeTask:
    """Return the task of telling hidden words.

    Args:
        strategy: Which words to hide.
        replacement: What to show instead.
        tokenizer: A transformer's, whose own mask is shown.
    """
    shown = replacement or Replacement(word=getattr(tokenizer, "mask_token", None) or MASK)

    def make_task(docs: Sequence[Doc], rng: np.random.Generator) -> Task:
        return Task(*corrupt(docs, strategy, shown, rng))

    return make_task
