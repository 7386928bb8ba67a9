"""The one nearest row of a table for many queries, at the speed of 8-bit products.

Both sides are turned by one random rotation, which spreads a vector evenly over groups of
dimensions, and rounded to 8 bits. A rounding error is then as good as random: a cosine is off by
more than eight of its standard deviations about once in 10^15. Only rows that close to the best
can be the nearest; those few are computed again in float32.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch

from trfnb.vectors.blocks import Floats, Ints
from trfnb.vectors.project import unit

# Small enough that the products of a batch with some columns stay in the processor's cache.
_QUERIES = 1024
_COLUMNS = 2048
_FOLD = 32
# Dimensions are turned in groups: as good against a few large ones, and cheaper than all in one.
_TURNED = 76
_SPREAD = 5.5
_SIGMAS = 8.0


@cache
def _int8_is_faster() -> bool:
    """Time both on a small product: what a processor offers natively differs."""
    if not hasattr(torch, "_int_mm"):
        return False
    a = torch.ones(256, 320, dtype=torch.int8)
    b = torch.ones(320, 2048, dtype=torch.int8)
    # By the thread's own time: on a busy machine the clock on the wall says little.
    with _single():
        seconds = [_fastest(torch._int_mm, a, b), _fastest(torch.mm, a.float(), b.float())]
    return seconds[0] < 0.7 * seconds[1]


@contextmanager
def _single() -> Iterator[int]:
    """Let every operation of torch use one thread; give how many it used before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def _fastest(product: Any, a: torch.Tensor, b: torch.Tensor) -> float:
    seconds = []
    for _ in range(8):
        begun = time.thread_time()
        product(a, b)
        seconds.append(time.thread_time() - begun)
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

    def search(start: int) -> None:
        part = slice(start, start + _QUERIES)
        batch = torch.from_numpy(unit(np.asarray(queries[part], dtype=np.float32)))
        if rounded is None:
            cosine, best = (batch @ turned).max(dim=1)
        else:
            best, cosine = rounded.closest(batch)
        found[part], cosines[part] = best.numpy(), cosine.numpy()

    # A batch a thread: many small operations would wait for one another inside a batch.
    with _single() as threads, ThreadPoolExecutor(threads) as pool:
        list(pool.map(search, range(0, len(queries), _QUERIES)))
    return found, np.clip(cosines, -1, 1)


class _Rounded:
    """A table of unit rows, rotated and rounded to 8 bits with one scale."""

    def __init__(self, rows: torch.Tensor) -> None:
        width = rows.shape[1]
        generator = torch.Generator().manual_seed(0)
        self.widths = [len(part) for part in torch.arange(width).split(_TURNED)]
        squares = [torch.randn(w, w, generator=generator) for w in self.widths]
        self.rotations = [torch.linalg.qr(square)[0] for square in squares]
        self.scale = _SPREAD / width**0.5 / 127
        self.rows = rows
        # Filled up with copies of the last row, so that columns fold evenly.
        index = torch.arange(-(-len(rows) // _FOLD) * _FOLD).clamp_(max=len(rows) - 1)
        codes, error = self._round(rows)
        self.error = error.max()
        self.columns = [codes[part].T.contiguous() for part in index.split(_COLUMNS)]
        self.spare: list[torch.Tensor] = []

    def _round(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return codes, and the length of each row's rounding error."""
        parts = zip(rows.split(self.widths, dim=1), self.rotations, strict=True)
        steps = torch.cat([part @ rotation for part, rotation in parts], dim=1) / self.scale
        codes = steps.round().clamp_(-127, 127)
        # The product of very narrow int8 matrices comes out wrong in some versions: widen them.
        filled = torch.nn.functional.pad(codes, (0, -codes.shape[1] % 16))
        return filled.to(torch.int8), torch.linalg.vector_norm(steps - codes, dim=1) * self.scale

    def closest(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each unit query's nearest row and its cosine."""
        codes, error = self._round(batch)
        slack = _SIGMAS * (error**2 + self.error**2).sqrt() / batch.shape[1] ** 0.5
        margin = (2 * slack / self.scale**2).ceil().int()
        floor = torch.full((len(batch),), torch.iinfo(torch.int32).min, dtype=torch.int32)
        found = []
        # A buffer a thread, used again: fresh memory would cost as much as the sums in it.
        try:
            buffer = self.spare.pop()
        except IndexError:
            buffer = torch.empty(_QUERIES * _COLUMNS, dtype=torch.int32)
        for number, columns in enumerate(self.columns):
            size = len(batch) * columns.shape[1]
            products = buffer[:size].view(len(batch), columns.shape[1])
            folded = torch._int_mm(codes, columns, out=products).view(len(batch), _FOLD, -1)
            largest = folded.amax(dim=1)
            floor = torch.maximum(floor, largest.amax(dim=1) - margin)
            query, fold = torch.nonzero(largest >= floor[:, None], as_tuple=True)
            near = folded[query, :, fold]
            pair, place = torch.nonzero(near >= floor[query][:, None], as_tuple=True)
            row = number * _COLUMNS + place * folded.shape[2] + fold[pair]
            found.append((query[pair], row, near[pair, place]))
        self.spare.append(buffer)
        query, row, score = (torch.cat(part) for part in zip(*found, strict=True))
        # The floor has risen since the first columns.
        keep = score >= floor[query]
        return self._refined(batch, query[keep], row[keep].clamp_(max=len(self.rows) - 1))

    def _refined(
        self, batch: torch.Tensor, query: torch.Tensor, row: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        best = torch.zeros(len(batch), dtype=torch.long)
        cosine = torch.full((len(batch),), -torch.inf)
        # Tables of many near copies give many pairs: a bounded number at a time.
        for part in torch.arange(len(query)).split(1 << 16):
            asked, rows = query[part], row[part]
            near = self.rows.index_select(0, rows).mul_(batch.index_select(0, asked))
            exact = near.sum(dim=1)
            leading = cosine.scatter_reduce(0, asked, exact, "amax")
            wins = (exact == leading[asked]) & (leading > cosine)[asked]
            best[asked[wins]] = rows[wins]
            cosine = leading
        return best, cosine
