"""Masking: which units of a text are hidden, and what stands in their place.

A strategy gets a text's units (words or wordpieces) as group numbers, one for each unit: words
without a space between them share a number, and so do the wordpieces of a word, but for more than
ten, as in scripts without spaces. It returns which units to hide. Random units are BERT's (Devlin
et al., 2019, https://arxiv.org/abs/1810.04805), whole words its later release's, spans SpanBERT's
(Joshi et al., 2020, https://arxiv.org/abs/1907.10529).
"""

from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Annotated, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from spacy.tokens import Doc
from spacy.util import registry

from trfnb.flow.wordpieces import Wordpieces

Groups = NDArray[np.int64]
Masked = NDArray[np.bool_]
Strategy = Callable[[Groups, np.random.Generator], Masked]

MASK = "[MASK]"
LONGEST_SPAN = 10


@registry.misc("trfnb.RandomMask.v1")
@dataclass(frozen=True)
class RandomMask:
    """Hide each word or wordpiece with a probability."""

    probability: Annotated[float, Field(gt=0, lt=1)] = 0.15

    def __call__(self, groups: Groups, rng: np.random.Generator) -> Masked:
        """Return which units to hide."""
        return rng.random(len(groups)) < self.probability


@registry.misc("trfnb.WholeWordMask.v1")
@dataclass(frozen=True)
class WholeWordMask(RandomMask):
    """Hide each group with a probability, all of its units together."""

    def __call__(self, groups: Groups, rng: np.random.Generator) -> Masked:
        """Return which units to hide."""
        numbers, group = np.unique(groups, return_inverse=True)
        return super().__call__(numbers, rng)[group]


@registry.misc("trfnb.SpanMask.v1")
@dataclass(frozen=True)
class SpanMask(RandomMask):
    """Hide spans of 1 to 10 groups, 3.8 on average, until about a share of the units is hidden.

    Attributes:
        probability: The share.
    """

    def __call__(self, groups: Groups, rng: np.random.Generator) -> Masked:
        """Return which units to hide."""
        # A span ends after each group with probability 0.2, and is cut at ten.
        lengths = np.arange(1, LONGEST_SPAN + 1)
        chances = 0.2 * 0.8 ** (lengths - 1)
        chances /= chances.sum()
        # Spans may overlap: a group stays open with (1 - start) to the power of the mean length.
        start = 1 - (1 - self.probability) ** (1 / float((lengths * chances).sum()))
        numbers, group = np.unique(groups, return_inverse=True)
        n = len(numbers)
        hidden = np.zeros(n + LONGEST_SPAN, dtype=bool)
        # Spans also begin before the text, so that its first words are as likely as all others.
        begins = np.flatnonzero(rng.random(n + LONGEST_SPAN - 1) < start) - LONGEST_SPAN + 1
        for first in begins:
            end = first + int(rng.choice(lengths, p=chances))
            hidden[max(first, 0) : max(end, 0)] = True
        return hidden[:n][group]


@registry.misc("trfnb.MixedMask.v1")
class MixedMask:
    """Follow one of several strategies for each text, each as often.

    Args:
        strategies: In a config, blocks below ``masking.*`` under any names.
    """

    def __init__(self, *strategies: Strategy) -> None:
        if not strategies:
            raise ValueError("MixedMask expected strategies to choose from, got none.")
        self.strategies = strategies

    def __call__(self, groups: Groups, rng: np.random.Generator) -> Masked:
        """Return which units to hide."""
        return self.strategies[int(rng.integers(len(self.strategies)))](groups, rng)


class Replacement(NamedTuple):
    """What stands in hidden places: a mask, another word, or the word itself.

    With BERT's shares of 0.8, 0.1 and 0.1 an encoder also learns vectors of words that nothing
    marks as hidden.

    Attributes:
        mask: Share of hidden words that become ``word``.
        other: Share that becomes another word, drawn from the batch as often as it occurs there.
        word: The mask, as the encoder reads it: a word, or a wordpiece's id.
    """

    mask: float = 0.8
    other: float = 0.1
    word: Any = MASK


def corrupt(
    docs: Sequence[Doc], strategy: Strategy, replacement: Replacement, rng: np.random.Generator
) -> tuple[list[list[str]], Masked]:
    """Return the words of docs with hidden ones replaced, and which of all words were hidden."""
    words = [words_of(doc) for doc in docs]
    hidden = _hide(strategy, [word_groups(doc) for doc in docs], rng)
    flat = np.array(list(chain.from_iterable(words)), dtype=object)
    seen = iter(_replaced(flat, hidden, replacement, rng).tolist())
    return [list(islice(seen, len(doc))) for doc in docs], hidden


def corrupt_wordpieces(
    wordpieces: Wordpieces,
    strategy: Strategy,
    replacement: Replacement,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], Masked]:
    """Return the ids with hidden ones replaced, and which were hidden: never a special token."""
    groups, content = wordpiece_groups(wordpieces)
    hidden, seen = np.zeros(len(content), dtype=bool), wordpieces.ids.copy()
    hidden[content] = _hide(strategy, groups, rng)
    seen[content] = _replaced(seen[content], hidden[content], replacement, rng)
    return seen, hidden


def words_of(doc: Doc) -> list[str]:
    """Return a doc's words; much faster than token by token."""
    return [doc.vocab.strings[key] for key in cast(Any, doc.to_array("ORTH")).tolist()]


def word_groups(doc: Doc) -> Groups:
    """Number the words of a doc; words without a space between them share a number."""
    spaces = cast(Any, doc.to_array("SPACY")).astype(bool)
    return _numbered(np.concatenate([np.zeros(1, dtype=bool), spaces[:-1]])[: len(doc)])


def wordpiece_groups(wordpieces: Wordpieces) -> tuple[list[Groups], Masked]:
    """Number each text's wordpieces by word, and say which wordpieces stand for text at all.

    Returns:
        One array for each text, without special tokens; and (n,) True at wordpieces of text.
    """
    content = wordpieces.offsets[:, 1] > wordpieces.offsets[:, 0]
    groups, ends = [], np.cumsum(wordpieces.lengths)
    for end, n in zip(ends.tolist(), wordpieces.lengths.tolist(), strict=True):
        offsets = wordpieces.offsets[end - n : end][content[end - n : end]]
        apart = offsets[1:, 0] > offsets[:-1, 1]
        groups.append(_numbered(np.concatenate([np.zeros(len(offsets[:1]), dtype=bool), apart])))
    return groups, content


# Number units by which of them begin a group. Where a script has no spaces, a whole text would be
# one group: each unit of a group longer than a span is one of its own.
def _numbered(begins: NDArray[np.bool_]) -> Groups:
    groups = np.cumsum(begins)
    return np.cumsum(begins | (np.bincount(groups)[groups] > LONGEST_SPAN))


# What to hide of all units, one text after another; at least one where there is any.
def _hide(strategy: Strategy, texts: Sequence[Groups], rng: np.random.Generator) -> Masked:
    hidden: Masked = np.concatenate(
        [np.zeros(0, bool), *(strategy(groups, rng) for groups in texts)]
    )
    if len(hidden) and not hidden.any():
        hidden[int(rng.integers(len(hidden)))] = True
    return hidden


def _replaced(
    units: NDArray[Any], hidden: Masked, replacement: Replacement, rng: np.random.Generator
) -> NDArray[Any]:
    places, seen = np.flatnonzero(hidden), units.copy()
    rolls = rng.random(len(places))
    others = units[rng.integers(max(len(units), 1), size=len(places))]
    masked = rolls < replacement.mask
    other = ~masked & (rolls < replacement.mask + replacement.other)
    seen[places[masked]] = replacement.word
    seen[places[other]] = others[other]
    return seen
