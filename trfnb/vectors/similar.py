"""Nearest neighbours by cosine, in batches, for ordinary and floret tables."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from trfnb.vectors.blocks import Floats, Ints
from trfnb.vectors.project import unit
from trfnb.vectors.report import VectorsError

_CELLS = 1 << 22


def nearest(queries: Floats, table: Any, n: int = 1) -> Iterator[tuple[slice, Ints, Floats]]:
    """Find each query's nearest rows of a table, a batch of queries at a time.

    The table is walked in blocks, so that memory stays bounded whatever the sizes.

    Args:
        queries: (queries, width) float32.
        table: (rows, width) float32, or anything that gives such blocks for slices.
        n: how many neighbours.

    Yields:
        Which queries; their neighbours' row numbers and cosines, both (batch, n), best first. A
        row or query of zeros has cosine 0 to everything.
    """
    rows = len(table)
    n = min(n, rows)
    step = 1024
    block = max(_CELLS // step, n)
    for start in range(0, len(queries), step):
        batch = unit(np.asarray(queries[start : start + step], dtype=np.float32))
        best = np.full((len(batch), n), -np.inf, dtype=np.float32)
        where = np.zeros((len(batch), n), dtype=np.int64)
        for first in range(0, rows, block):
            cosines = batch @ unit(np.asarray(table[first : first + block], dtype=np.float32)).T
            if n == 1:
                top = cosines.argmax(axis=1)[:, None]
            else:
                k = min(n, cosines.shape[1])
                top = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
            both = np.concatenate([best, np.take_along_axis(cosines, top, axis=1)], axis=1)
            rows_of_both = np.concatenate([where, top + first], axis=1)
            order = np.argsort(-both, axis=1, kind="stable")[:, :n]
            best = np.take_along_axis(both, order, axis=1)
            where = np.take_along_axis(rows_of_both, order, axis=1)
        yield slice(start, start + len(batch)), where, np.clip(best, -1, 1)


def word_vectors(vectors: Any, words: Sequence[str]) -> Floats:
    """Return words' vectors from spaCy `Vectors`; zeros where an ordinary table has none."""
    from thinc.backends import get_array_ops

    ops = get_array_ops(vectors.data)
    for word in words:
        vectors.strings.add(word)
    if vectors.mode == "floret":
        return np.asarray(ops.to_numpy(vectors.get_batch(list(words))), dtype=np.float32)
    rows = ops.to_numpy(vectors.find(keys=list(words)))
    found: Floats = np.zeros((len(words), vectors.shape[1]), dtype=np.float32)
    found[rows >= 0] = ops.to_numpy(vectors.data[ops.asarray(rows[rows >= 0])])
    return found


def most_similar(
    vectors: Any,
    queries: Sequence[str] | Floats,
    *,
    n: int = 10,
    among: Iterable[str] | None = None,
) -> list[list[tuple[str, float]]]:
    """Return the words nearest to words or vectors, by cosine.

    Args:
        vectors: spaCy `Vectors`; a floret table too, when ``among`` names the candidates.
        queries: words (left out of their own neighbours), or (queries, width) float32.
        n: how many neighbours each.
        among: the candidates; by default all of the table's keys, or for a floret table the words
            that its string store knows.

    Returns:
        For each query ``(word, cosine)`` pairs, best first; none for a word without a vector.
    """
    words = list(dict.fromkeys(among if among is not None else _candidates(vectors)))
    table = word_vectors(vectors, words)
    filled = np.flatnonzero(table.any(axis=1))
    words, table = [words[i] for i in filled.tolist()], table[filled]
    if not words:
        raise VectorsError(
            "Expected words with vectors to choose neighbours from, found none. A floret table "
            "has no words of its own: name candidates (among=, or a corpus to `inspect`)."
        )
    asked = [] if isinstance(queries, np.ndarray) else list(queries)
    wanted = queries if isinstance(queries, np.ndarray) else word_vectors(vectors, asked)
    found: list[list[tuple[str, float]]] = []
    for part, rows, cosines in nearest(wanted, table, n + bool(asked)):
        for query, (row, cosine) in enumerate(zip(rows, cosines, strict=True), start=part.start):
            own = asked[query] if asked else None
            pairs = [
                (words[i], c)
                for i, c in zip(row.tolist(), cosine.tolist(), strict=True)
                if words[i] != own
            ]
            found.append(pairs[:n] if own is None or wanted[query].any() else [])
    return found


def _candidates(vectors: Any) -> list[str]:
    if vectors.mode == "floret":
        return list(vectors.strings)
    return [vectors.strings[key] for key in vectors.key2row if key in vectors.strings]
