"""Texts of about one length attend together while training: fewer, larger operations.

A text's attention is a dozen small operations each way, each with a cost of its own. Texts whose
lengths differ a little share them, padded; nothing else of a pass is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

# Scores (queries times keys, a head) that a run may waste by joining a group: what its own
# operations cost instead.
_WASTE = 2048


@dataclass(frozen=True, eq=False)
class Group:
    """Consecutive texts of a pack, the longest first.

    Attributes:
        size: (texts, longest length).
        rows: The first row in the pack, and the one after the last.
        places: (rows,) for each row its place in the padded block; None where nothing is padded.
        real: (texts, 1, 1, longest) whether a place of the block holds a wordpiece.
    """

    size: tuple[int, int]
    rows: tuple[int, int]
    places: torch.Tensor | None = None
    real: torch.Tensor | None = None

    def block(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """Lay rows of (n, width) out as (texts, heads, longest, width / heads)."""
        own = x[slice(*self.rows)]
        if self.places is not None:
            count, length = self.size
            own = own.new_zeros(count * length, x.shape[1]).index_copy_(0, self.places, own)
        return own.view(*self.size, heads, -1).transpose(1, 2)

    def unblock(self, block: torch.Tensor, out: torch.Tensor) -> None:
        """Write a block's real places into its rows of (n, width)."""
        flat = block.transpose(1, 2).reshape(-1, out.shape[1])
        rows = out[slice(*self.rows)]
        rows.copy_(flat if self.places is None else flat.index_select(0, self.places))


def grouped(runs: Sequence[tuple[int, int]], waste: int = _WASTE) -> list[Group]:
    """Join runs of texts of one length into groups of about one length.

    Args:
        runs: (texts, length) of each run, the longest first.
        waste: The most padded scores that a run may cost by joining the group before it.
    """
    groups: list[list[tuple[int, int]]] = []
    for count, length in runs:
        longest = groups[-1][0][1] if groups else 0
        if groups and count * (longest**2 - length**2) <= waste:
            groups[-1].append((count, length))
        else:
            groups.append([(count, length)])
    found, first = [], 0
    for group in groups:
        lengths = np.repeat([length for _, length in group], [count for count, _ in group])
        rows = first, first + int(lengths.sum())
        size = len(lengths), int(lengths[0])
        if len(group) == 1:
            found.append(Group(size, rows))
        else:
            real = np.arange(size[1]) < lengths[:, None]
            places = torch.from_numpy(np.flatnonzero(real))
            found.append(Group(size, rows, places, torch.from_numpy(real)[:, None, None]))
        first = rows[1]
    return found
