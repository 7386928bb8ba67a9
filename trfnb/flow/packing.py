"""Texts -> flat batches without any padding, for encoders that can read them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .wordpieces import Wordpieces

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pack:
    """Texts laid end to end, the longest first.

    Attributes:
        ids: (n,) int64, the texts' wordpieces.
        positions: (n,) int64, each wordpiece's place in its text, from 0.
        rows: (n,) int64, where each lies in the flat batch.
        runs: (texts, length) of each run of texts of one length, in order.
    """

    ids: Ints
    positions: Ints
    rows: Ints
    runs: list[tuple[int, int]]


def packs(wordpieces: Wordpieces, max_items: int, texts: Ints) -> list[Pack]:
    """Cut texts into packs under a budget; a longer text stands alone.

    Args:
        wordpieces: A flat batch.
        max_items: The most wordpieces of a pack.
        texts: The numbers of the texts to lay out; empty ones are left out.
    """
    starts = np.cumsum(wordpieces.lengths) - wordpieces.lengths
    order = texts[np.argsort(-wordpieces.lengths[texts], kind="stable")]
    order = order[wordpieces.lengths[order] > 0]
    ends = np.cumsum(wordpieces.lengths[order])
    found, first, before = [], 0, 0
    while first < len(order):
        last = max(int(np.searchsorted(ends, before + max_items, side="right")), first + 1)
        found.append(_pack(wordpieces, starts, order[first:last]))
        first, before = last, int(ends[last - 1])
    return found


def _pack(wordpieces: Wordpieces, starts: Ints, texts: Ints) -> Pack:
    lengths = wordpieces.lengths[texts]
    positions = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = np.repeat(starts[texts], lengths) + positions
    negative, counts = np.unique(-lengths, return_counts=True)
    runs = list(zip(counts.tolist(), (-negative).tolist(), strict=True))
    return Pack(wordpieces.ids[rows], positions, rows, runs)


def distinct(wordpieces: Wordpieces) -> tuple[Ints, list[tuple[int, int]]]:
    """Find texts whose wordpieces an earlier text has too.

    Returns:
        The numbers of the texts that are the first of their kind, and for each other text its
        own number and the first one's.
    """
    ends = np.cumsum(wordpieces.lengths)
    first: dict[bytes, int] = {}
    copies = []
    for i, (end, n) in enumerate(zip(ends.tolist(), wordpieces.lengths.tolist(), strict=True)):
        original = first.setdefault(wordpieces.ids[end - n : end].tobytes(), i)
        if original != i and n:
            copies.append((i, original))
    return np.asarray(list(first.values()), dtype="int64"), copies


def copy_rows(wordpieces: Wordpieces, copies: Sequence[tuple[int, int]]) -> tuple[Ints, Ints]:
    """Return the rows of texts that were left out, and the rows that hold their states."""
    starts = np.cumsum(wordpieces.lengths) - wordpieces.lengths
    to, source = np.asarray(copies, dtype="int64").reshape(-1, 2).T
    lengths = wordpieces.lengths[to]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(starts[to], lengths) + within, np.repeat(starts[source], lengths) + within
