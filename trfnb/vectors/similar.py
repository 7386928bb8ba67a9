"""Nearest neighbours by cosine, in batches, for ordinary and floret tables."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from trfnb.vectors.blocks import Floats, Ints
from trfnb.vectors.project import unit
from trfnb.vectors.report import VectorsError

_CELLS = 1 << 22
_ROWS = 8192


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


def spelled(vectors: Any, words: Sequence[str]) -> list[str]:
    """Return words as a table's keys spell them: lower-cased where its attribute is LOWER."""
    from spacy.attrs import LOWER

    lower = getattr(vectors, "attr", None) == LOWER
    return [word.lower() for word in words] if lower else list(words)


def word_vectors(vectors: Any, words: Sequence[str]) -> Floats:
    """Return words' vectors from spaCy `Vectors`; zeros where an ordinary table has none."""
    from thinc.backends import get_array_ops

    ops = get_array_ops(vectors.data)
    words = spelled(vectors, words)
    for word in words:
        vectors.strings.add(word)
    if vectors.mode == "floret":
        return np.asarray(ops.to_numpy(vectors.get_batch(list(words))), dtype=np.float32)
    rows = ops.to_numpy(vectors.find(keys=list(words)))
    found: Floats = np.zeros((len(words), vectors.shape[1]), dtype=np.float32)
    found[rows >= 0] = ops.to_numpy(vectors.data[ops.asarray(rows[rows >= 0])])
    return found


class SomeRows:
    """Some rows of a table, fetched as float32 when asked for.

    Args:
        data: a table, perhaps on a GPU.
        rows: which of its rows, in which order.
    """

    def __init__(self, data: Any, rows: Ints) -> None:
        from thinc.backends import get_array_ops

        self._data, self._rows, self._ops = data, rows, get_array_ops(data)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, part: slice) -> Floats:
        fetched: Floats = self._ops.to_numpy(self._data[self._ops.asarray(self._rows[part])])
        return fetched


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
        among: the candidates. By default the words of an ordinary table, of those that share a
            row its first; of a floret table those that its string store knows.

    Returns:
        For each query ``(word, cosine)`` pairs, best first; none for a word without a vector.

    Raises:
        VectorsError: no candidate has a vector.
    """
    asked = None if isinstance(queries, np.ndarray) else list(queries)
    # To look the queries up adds them to the string store: candidates are taken from it before.
    if among is None and vectors.mode != "floret":
        words, rows = _words_by_row(vectors)
        table: Any = SomeRows(vectors.data, rows)
        own = vectors.find(keys=spelled(vectors, asked)).tolist() if asked else []
        places = dict(zip(rows.tolist(), range(len(rows)), strict=True))
    else:
        words = list(dict.fromkeys(among if among is not None else vectors.strings))
        table = word_vectors(vectors, words)
        filled = np.flatnonzero(table.any(axis=1))
        words, table = [words[i] for i in filled.tolist()], table[filled]
        own = asked or []
        places = dict(zip(words, range(len(words)), strict=True))
    wanted = np.asarray(queries) if asked is None else word_vectors(vectors, asked)
    if not words:
        raise VectorsError(
            "Expected words with vectors to choose neighbours from, found none. A floret table "
            "has no words of its own: name candidates (among=, or a corpus to `inspect`)."
        )
    found: list[list[tuple[str, float]]] = []
    for part, near, cosines in nearest(wanted, table, n + (asked is not None)):
        for query, (row, cosine) in enumerate(zip(near, cosines, strict=True), start=part.start):
            own_row = places.get(own[query]) if asked is not None else None
            pairs = zip(row.tolist(), cosine.tolist(), strict=True)
            named = [(words[i], c) for i, c in pairs if i != own_row]
            found.append(named[:n] if asked is None or wanted[query].any() else [])
    return found


def _words_by_row(vectors: Any) -> tuple[list[str], Ints]:
    """Return each row's first word and its number, for rows with a word that are not zeros."""
    known = {key: row for key, row in vectors.key2row.items() if key in vectors.strings}
    rows, first = np.unique(np.fromiter(known.values(), np.int64, len(known)), return_index=True)
    keys = np.fromiter(known, np.uint64, len(known))[first]
    steps = range(0, len(rows), _ROWS)
    table = SomeRows(vectors.data, rows)
    filled = [np.asarray(table[i : i + _ROWS]).any(axis=1) for i in steps]
    kept = np.concatenate(filled) if filled else np.zeros(0, dtype=bool)
    return [vectors.strings[key] for key in keys[kept].tolist()], rows[kept]
