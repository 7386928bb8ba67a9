"""Spans -> length-sorted micro-batches under a budget of wordpieces."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .wordpieces import Wordpieces

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """A padded block of texts of about the same length.

    Attributes:
        ids: (texts, longest) int64, padded.
        mask: (texts, longest) bool, True at real wordpieces.
        rows: (wordpieces,) int64, where each real position lies in the flat batch.
        texts: (texts,) int64, the texts' numbers in the flat batch.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    rows: Ints
    texts: Ints

    @property
    def is_full(self) -> bool:
        """Whether no position is padding."""
        return self.rows.size == self.ids.size


def length_sorted(lengths: Ints, max_items: int, max_padding: int | None = None) -> list[Ints]:
    """Group texts by length so that padding stays small.

    Args:
        lengths: (texts,) wordpieces of each text.
        max_items: The most positions of a group, padding included; a longer text stands alone.
        max_padding: The most padded positions of a group: what one more forward pass costs,
            counted in positions. None sets no limit.

    Returns:
        Groups of indices into `lengths`, the longest texts first; empty texts are in none.

    Raises:
        ValueError: `max_items` is not positive.
    """
    if max_items < 1:
        raise ValueError(f"max_batch_items expected at least 1 wordpiece, got {max_items}.")
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    groups = []
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        end = start + max(max_items // longest, 1)
        if max_padding is not None:
            wasted = np.cumsum(longest - lengths[order[start:end]])
            end = start + int(np.searchsorted(wasted, max_padding, side="right"))
        groups.append(order[start:end])
        start = end
    return groups


def micro_batches(
    wordpieces: Wordpieces,
    max_items: int,
    pad_id: int,
    max_padding: int | None = None,
    texts: Ints | None = None,
) -> list[MicroBatch]:
    """Cut a flat batch of wordpieces, or some of its texts, into padded micro-batches."""
    lengths = wordpieces.lengths
    texts = np.arange(len(lengths)) if texts is None else texts
    starts = np.cumsum(lengths) - lengths
    batches = []
    for places in length_sorted(lengths[texts], max_items, max_padding):
        group = texts[places]
        columns = np.arange(lengths[group].max())
        mask = columns < lengths[group][:, None]
        rows = (starts[group][:, None] + columns)[mask]
        ids = np.full(mask.shape, pad_id, dtype="int64")
        ids[mask] = wordpieces.ids[rows]
        batches.append(MicroBatch(ids, mask, rows, group))
    return batches
