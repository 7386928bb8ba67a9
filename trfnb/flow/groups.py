"""Texts of about one length attend together: fewer, larger operations, over friendly lengths.

A text's attention is a dozen small operations each way, each with a cost of its own. Texts whose
lengths differ a little share them, padded; nothing else of a pass is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

# (texts, length) of each run of texts of one length, in order, the longest first.
Runs = Sequence[tuple[int, int]]
# Scores (queries times keys, a head) that a run may waste by joining a group: what its own
# operations cost instead.
_WASTE, _WASTE_IN_HALF = 2048, 512
# Rows of scores that fill vector registers: torch's fused attention takes 1,440 ns a wordpiece and
# layer over texts of 48 wordpieces (12 heads, 32 wide, bf16), 2,660 over texts of 50.
_REGISTER = 16
# Up to here texts attend by exponentials alone in bf16, where any length will do.
SHORT = 32


@dataclass(frozen=True, eq=False)
class Group:
    """Consecutive texts of a pack, the longest first.

    Attributes:
        size: (texts, length), the length that all are padded to.
        rows: The first row in the pack, and the one after the last.
        places: (rows,) for each row its place in the padded block; None where nothing is padded.
        real: (texts, 1, 1, length) whether a place of the block holds a wordpiece.
    """

    size: tuple[int, int]
    rows: tuple[int, int]
    places: torch.Tensor | None = None
    real: torch.Tensor | None = None

    def block(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """Lay rows of (n, width) out as (texts, heads, length, width / heads), zero-filled."""
        own = x[slice(*self.rows)]
        if self.places is not None:
            count, length = self.size
            own = own.new_zeros(count * length, x.shape[1]).index_copy_(0, self.places, own)
        return own.view(*self.size, heads, -1).transpose(1, 2)

    def gather(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """Do as `block`, faster; a place without a wordpiece holds its text's first one.

        Not another text's: a number that is not finite passes every mask.
        """
        own = x[slice(*self.rows)]
        if self.places is not None:
            own = own.index_select(0, self._sources)
        return own.view(*self.size, heads, -1).transpose(1, 2)

    def unblock(self, block: torch.Tensor, out: torch.Tensor) -> None:
        """Write a block's real places into its rows of (n, width)."""
        flat = block.transpose(1, 2).reshape(-1, out.shape[1])
        rows = out[slice(*self.rows)]
        if self.places is None:
            rows.copy_(flat)
        else:
            torch.index_select(flat, 0, self.places, out=rows)

    @cached_property
    def _sources(self) -> torch.Tensor:
        assert self.places is not None
        assert self.real is not None
        count, length = self.size
        sources = self.places.new_empty(count * length)
        sources[self.places] = torch.arange(len(self.places), device=sources.device)
        block = sources.view(count, length)
        block[:] = torch.where(self.real.view(count, length), block, block[:, :1])
        return sources


def grouped(runs: Runs, waste: int = _WASTE) -> list[Group]:
    """Join runs of texts of one length into groups of about one length.

    Args:
        runs: (texts, length) of each run, the longest first.
        waste: The most padded scores that a run may cost by joining the group before it.
    """
    return _groups(_joined(runs, waste))


def padded(runs: Runs) -> list[Group]:
    """Join runs for inference in bf16: long ones by registers to fill, short ones as `grouped`.

    Args:
        runs: (texts, length) of each run, the longest first.
    """
    joined: dict[int, list[tuple[int, int]]] = {}
    for count, length in runs:
        if length > SHORT:
            joined.setdefault(-(-length // _REGISTER) * _REGISTER, []).append((count, length))
    long = list(joined.items())
    return _groups([*long, *_joined([run for run in runs if run[1] <= SHORT], _WASTE_IN_HALF)])


def _joined(runs: Runs, waste: int) -> list[tuple[int, Runs]]:
    joined: list[list[tuple[int, int]]] = []
    for count, length in runs:
        longest = joined[-1][0][1] if joined else 0
        if joined and count * (longest**2 - length**2) <= waste:
            joined[-1].append((count, length))
        else:
            joined.append([(count, length)])
    return [(one[0][1], one) for one in joined]


def _groups(joined: Iterable[tuple[int, Runs]]) -> list[Group]:
    found, first = [], 0
    for longest, runs in joined:
        lengths = np.repeat([length for _, length in runs], [count for count, _ in runs])
        rows = first, first + int(lengths.sum())
        size = len(lengths), longest
        real = np.arange(longest) < lengths[:, None]
        if real.all():
            found.append(Group(size, rows))
        else:
            places = torch.from_numpy(np.flatnonzero(real))
            found.append(Group(size, rows, places, torch.from_numpy(real)[:, None, None]))
        first = rows[1]
    return found
