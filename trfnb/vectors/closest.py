"""The one nearest row of a table for many queries, at the speed of 8-bit products.

Both sides are turned by one random rotation, which spreads every vector evenly over the
dimensions, and rounded to 8 bits. A rounding error is then as good as random: a cosine is off by
more than eight of its standard deviations about once in 10^15. Only rows that close to the best
can be the nearest; those few are computed again in float32.
"""

import time
from functools import cache
from typing import Any

import numpy as np
import torch

from trfnb.vectors.blocks import Floats, Ints
from trfnb.vectors.project import unit

# Small enough that the products of a batch stay in the processor's cache.
_QUERIES = 256
_FOLD = 32
_SPREAD = 5.5
_SIGMAS = 8.0


@cache
def _int8_is_faster() -> bool:
    """Time both on a small product: what a processor offers natively differs."""
    if not hasattr(torch, "_int_mm"):
        return False
    a = torch.ones(_QUERIES, 320, dtype=torch.int8)
    b = torch.ones(320, 8192, dtype=torch.int8)
    seconds = [_fastest(torch._int_mm, a, b), _fastest(torch.mm, a.float(), b.float())]
    return seconds[0] < 0.7 * seconds[1]


def _fastest(product: Any, a: torch.Tensor, b: torch.Tensor) -> float:
    seconds = []
    for _ in range(8):
        begun = time.perf_counter()
        product(a, b)
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def closest(queries: Any, table: Floats) -> tuple[Ints, Floats]:
    """Return each query's nearest row of a table by cosine, and the cosine.

    Args:
        queries: (queries, width) float32, or anything that gives such blocks for slices.
        table: (rows, width) float32.

    Returns:
        Row numbers and float32 cosines, one a query. Queries or rows of zeros have cosine 0.
    """
    rows = torch.from_numpy(unit(np.asarray(table, dtype=np.float32)))
    rounded = _Rounded(rows) if _int8_is_faster() else None
    turned = rows.T.contiguous()
    found = np.zeros(len(queries), dtype=np.int64)
    cosines = np.zeros(len(queries), dtype=np.float32)
    for start in range(0, len(queries), _QUERIES):
        part = slice(start, start + _QUERIES)
        batch = torch.from_numpy(unit(np.asarray(queries[part], dtype=np.float32)))
        if rounded is None:
            cosine, best = (batch @ turned).max(dim=1)
        else:
            best, cosine = rounded.closest(batch)
        found[part], cosines[part] = best.numpy(), cosine.numpy()
    return found, np.clip(cosines, -1, 1)


class _Rounded:
    """A table of unit rows, rotated and rounded to 8 bits with one scale."""

    def __init__(self, rows: torch.Tensor) -> None:
        width = rows.shape[1]
        generator = torch.Generator().manual_seed(0)
        self.rotation = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
        self.scale = _SPREAD / width**0.5 / 127
        self.rows = rows
        self.folds = -(-len(rows) // _FOLD)
        # Filled up with copies of the last row, so that columns fold evenly.
        index = torch.arange(self.folds * _FOLD).clamp_(max=len(rows) - 1)
        codes, error = self._round(rows)
        self.error = error.max()
        self.columns = codes[index].T.contiguous()

    def _round(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return codes, and the length of each row's rounding error."""
        steps = (rows @ self.rotation) / self.scale
        codes = steps.round().clamp_(-127, 127)
        # The product of very narrow int8 matrices comes out wrong in some versions: widen them.
        filled = torch.nn.functional.pad(codes, (0, -codes.shape[1] % 16))
        return filled.to(torch.int8), torch.linalg.vector_norm(steps - codes, dim=1) * self.scale

    def closest(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each unit query's nearest row and its cosine."""
        codes, error = self._round(batch)
        folded = torch._int_mm(codes, self.columns).view(len(batch), _FOLD, self.folds)
        slack = _SIGMAS * (error**2 + self.error**2).sqrt() / batch.shape[1] ** 0.5
        largest = folded.amax(dim=1)
        floor = largest.amax(dim=1) - (2 * slack / self.scale**2).ceil().int()
        query, fold = torch.nonzero(largest >= floor[:, None], as_tuple=True)
        pair, place = torch.nonzero(folded[query, :, fold] >= floor[query][:, None], as_tuple=True)
        query, row = query[pair], (place * self.folds + fold[pair]).clamp_(max=len(self.rows) - 1)
        return self._refined(batch, query, row)

    def _refined(
        self, batch: torch.Tensor, query: torch.Tensor, row: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        best = torch.zeros(len(batch), dtype=torch.long)
        cosine = torch.full((len(batch),), -torch.inf)
        # Tables of many near copies give many pairs: a bounded number at a time.
        for part in torch.arange(len(query)).split(1 << 16):
            asked, rows = query[part], row[part]
            exact = (batch[asked] * self.rows[rows]).sum(dim=1)
            leading = cosine.scatter_reduce(0, asked, exact, "amax")
            wins = (exact == leading[asked]) & (leading > cosine)[asked]
            best[asked[wins]] = rows[wins]
            cosine = leading
        return best, cosine
