"""Nearest rows by cosine: a word's neighbours, pruning, and a look into a table."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
from spacy.attrs import LOWER
from spacy.vectors import Vectors
from thinc.backends import get_array_ops

from trfnb.vectors.blocks import Floats, Hashes, Ints, VectorsError, unit
from trfnb.vectors.conversion import corpus_words
from trfnb.vectors.store import fingerprint, load

_QUERIES = 1024
_ROWS = 8192
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def nearest(queries: Any, table: Any, n: int = 1) -> Iterator[tuple[slice, Ints, Floats]]:
    """Find each query's nearest rows of a table, a batch of queries at a time.

    Args:
        queries: (queries, width) float32, or anything that gives such blocks for slices.
        table: (rows, width) float32, or anything that gives such blocks for slices.
        n: how many neighbours.

    Yields:
        Which queries; their neighbours' row numbers and cosines, both (batch, n), best first. A
        row or query of zeros has cosine 0 to everything.
    """
    n = min(n, len(table))
    step = max(_ROWS // 2, n)
    for start in range(0, len(queries), _QUERIES):
        batch = unit(np.asarray(queries[start : start + _QUERIES], dtype=np.float32))
        best = np.full((len(batch), n), -np.inf, dtype=np.float32)
        where = np.zeros((len(batch), n), dtype=np.int64)
        for first in range(0, len(table), step):
            cosines = batch @ unit(np.asarray(table[first : first + step], dtype=np.float32)).T
            if n == 1:
                top = cosines.argmax(axis=1)[:, None]
            else:
                k = min(n, cosines.shape[1])
                top = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
            best = np.concatenate([best, np.take_along_axis(cosines, top, axis=1)], axis=1)
            where = np.concatenate([where, top + first], axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :n]
            best = np.take_along_axis(best, order, axis=1)
            where = np.take_along_axis(where, order, axis=1)
        yield slice(start, start + len(batch)), where, np.clip(best, -1, 1)


class _Rows:
    """Some rows of a table, fetched as float32 when asked for."""

    def __init__(self, data: Any, rows: Ints) -> None:
        self._data, self._rows, self._ops = data, rows, get_array_ops(data)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, part: slice) -> Floats:
        fetched: Floats = self._ops.to_numpy(self._data[self._ops.asarray(self._rows[part])])
        return fetched


def word_vectors(vectors: Any, words: Sequence[str]) -> Floats:
    """Return words' vectors from spaCy `Vectors`; zeros where an ordinary table has none.

    Words are lower-cased where the table's attribute is LOWER.
    """
    words = _spelled(vectors, words)
    for word in words:
        vectors.strings.add(word)
    if vectors.mode == "floret":
        ops = get_array_ops(vectors.data)
        return np.asarray(ops.to_numpy(vectors.get_batch(words)), dtype=np.float32)
    rows = _find(vectors, words)
    found: Floats = np.zeros((len(words), vectors.shape[1]), dtype=np.float32)
    found[rows >= 0] = _Rows(vectors.data, rows[rows >= 0])[:]
    return found


def _spelled(vectors: Any, words: Sequence[str]) -> list[str]:
    return [word.lower() if vectors.attr == LOWER else word for word in words]


def _find(vectors: Any, words: Sequence[str]) -> Ints:
    """Return words' rows, -1 for a word that the table lacks."""
    rows = vectors.find(keys=_spelled(vectors, words))
    return np.asarray(get_array_ops(vectors.data).to_numpy(rows), dtype=np.int64)


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
    asked = [] if isinstance(queries, np.ndarray) else list(queries)
    # To look the queries up adds them to the string store: candidates are taken from it before.
    own: Sequence[Any] = asked
    if among is None and vectors.mode != "floret":
        first = {
            row: key for key, row in reversed(vectors.key2row.items()) if key in vectors.strings
        }
        rows = np.array(sorted(first), dtype=np.int64)
        words = [vectors.strings[first[row]] for row in rows.tolist()]
        table, names = _Rows(vectors.data, rows)[:], rows.tolist()
        own = _find(vectors, asked).tolist()
    else:
        words = list(dict.fromkeys(among if among is not None else vectors.strings))
        table, names = word_vectors(vectors, words), words
    filled = np.flatnonzero(table.any(axis=1))
    if not len(filled):
        raise VectorsError(
            "Expected words with vectors to choose neighbours from, found none. A floret table "
            "has no words of its own: name candidates (among=, or a corpus to `inspect`)."
        )
    wanted = word_vectors(vectors, asked) if asked else np.asarray(queries)
    found: list[list[tuple[str, float]]] = []
    for part, near, cosines in nearest(wanted, table[filled], n + bool(asked)):
        for query, row, cosine in zip(
            range(part.start, part.stop), filled[near], cosines, strict=True
        ):
            itself = own[query] if asked else None
            pairs = zip(row.tolist(), cosine.tolist(), strict=True)
            named = [(words[i], c) for i, c in pairs if not asked or names[i] != itself]
            found.append(named[:n] if wanted[query].any() or not asked else [])
    return found


@dataclass(frozen=True)
class Pruned:
    """A smaller table and what it cost.

    Attributes:
        vectors: the table, with every key of the larger one.
        cosines: for each key that lost its row, the cosine to the row it has now.
        keys: those keys.
        stand_ins: for each of them, a key whose row it has now.
    """

    vectors: Vectors
    cosines: Floats
    keys: Hashes
    stand_ins: Hashes

    def harmed(self, most: int | None = 20) -> list[tuple[str, str, float]]:
        """Return the words served worst, worst first: word, stand-in, cosine.

        Of words that shared the row they lost, and so their stand-in and cosine, the first.
        """
        order = np.argsort(self.cosines, kind="stable")
        columns = (self.keys[order], self.stand_ins[order], self.cosines[order])
        worst: dict[tuple[int, float], int] = {}
        for key, other, cosine in zip(*(column.tolist() for column in columns), strict=True):
            worst.setdefault((other, cosine), key)
        text = self.vectors.strings.as_string
        return [(text(key), text(other), cos) for (other, cos), key in list(worst.items())[:most]]

    def quantiles(self) -> dict[str, float]:
        """Return quantiles of the cosines, and their mean."""
        cosines = self.cosines if len(self.cosines) else np.ones(1)
        named = {f"{q:g}": float(np.quantile(cosines, q)) for q in _QUANTILES}
        return {"mean": float(cosines.mean())} | named


def prune(vectors: Any, rows: int, *, priority: Sequence[str] = ()) -> Pruned:
    """Shrink a table to ``rows`` rows; words of the others get their nearest kept row.

    The rows of the words in ``priority`` are kept first, then the others in the table's order
    (which for most tables is by frequency).

    Args:
        vectors: spaCy `Vectors` in default mode; it is left as it is.
        rows: how many rows to keep.
        priority: words to keep before others.

    Raises:
        VectorsError: the table is floret's (its rows are shared by all words), or ``rows`` is not
            from 1 to the table's own number.
    """
    if vectors.mode != "default":
        raise VectorsError(
            "A floret table has no row per word and cannot be pruned. Convert it with words= to "
            "make an ordinary table of them first."
        )
    if not 0 < rows <= vectors.shape[0]:
        raise VectorsError(f"Expected to keep from 1 to {vectors.shape[0]} rows, got {rows}.")
    keys = np.fromiter(vectors.key2row.keys(), np.uint64, len(vectors.key2row))
    owned = np.fromiter(vectors.key2row.values(), np.int64, len(vectors.key2row))
    first = [row for row in _find(vectors, list(priority)).tolist() if row >= 0]
    # Row numbers in the order of their worth; rows without a key are worth nothing.
    order = list(dict.fromkeys([*first, *np.unique(owned).tolist()]))
    keep, toss = np.sort(order[:rows]), np.sort(order[rows:]).astype(np.int64)
    table = np.ascontiguousarray(_Rows(vectors.data, keep)[:], dtype=np.float32)
    new_row = np.full(vectors.shape[0], -1, dtype=np.int64)
    new_row[keep] = np.arange(len(keep))
    cosine = np.ones(vectors.shape[0], dtype=np.float32)
    normed = unit(table)
    for part, near, cosines in nearest(_Rows(vectors.data, toss), normed):
        new_row[toss[part]], cosine[toss[part]] = near[:, 0], cosines[:, 0]
    smaller = Vectors(
        strings=vectors.strings, data=get_array_ops(vectors.data).asarray(table),
        name=vectors.name, attr=vectors.attr,
    )  # fmt: skip
    smaller.key2row = dict(zip(keys.tolist(), new_row[owned].tolist(), strict=True))
    smaller._sync_unset()
    lost = ~np.isin(owned, keep)
    stand_in = dict(zip(owned[~lost][::-1].tolist(), keys[~lost][::-1].tolist(), strict=True))
    stand_ins = [stand_in[row] for row in keep[new_row[owned[lost]]].tolist()]
    return Pruned(smaller, cosine[owned[lost]], keys[lost], np.array(stand_ins, dtype=np.uint64))


@dataclass(frozen=True)
class Coverage:
    """How much of a corpus has a vector.

    Attributes:
        tokens, types: running words and different words of the corpus.
        by_token, by_type: the share of each with a vector.
        missing: the most frequent words without one, with their counts.
    """

    tokens: int
    types: int
    by_token: float
    by_type: float
    missing: list[tuple[str, int]]


@dataclass(frozen=True)
class Inspection:
    """A table's facts; see `inspect`."""

    name: str
    mode: str
    rows: int
    width: int
    keys: int
    megabytes: float
    fingerprint: str
    norms: dict[str, float]
    zero_rows: int
    duplicate_rows: int
    unused_rows: int
    coverage: Coverage | None = None
    neighbours: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    def __str__(self) -> str:
        norms = ", ".join(f"{name} {value:.4g}" for name, value in self.norms.items())
        lines = [
            f"{self.name} ({self.mode}): {self.rows:,} rows x {self.width}, {self.keys:,} keys, "
            f"{self.megabytes:.1f} MB, fingerprint {self.fingerprint[:12]}",
            f"norms: {norms}",
            f"rows of zeros {self.zero_rows:,}, duplicate rows {self.duplicate_rows:,}, "
            f"rows without a key {self.unused_rows:,}",
        ]
        if c := self.coverage:
            missing = ", ".join(f"{word} {count}" for word, count in c.missing)
            lines.append(
                f"coverage: {c.by_token:.1%} of {c.tokens:,} tokens, {c.by_type:.1%} of "
                f"{c.types:,} types; without a vector: {missing or 'none'}"
            )
        for word, near in self.neighbours.items():
            named = ", ".join(f"{other} {cosine:.2f}" for other, cosine in near)
            lines.append(f"{word}: {named or 'no vector'}")
        return "\n".join(lines)


def coverage(vectors: Any, counts: Counter[str], *, most: int = 20) -> Coverage:
    """Say how many of a corpus's words have a vector that is not zero.

    Args:
        vectors: spaCy `Vectors`; words are looked up as by `word_vectors`.
        counts: how often each word occurs, see `corpus_words`.
        most: how many missing words to name.
    """
    words, missing = list(counts), Counter(counts)
    for start in range(0, len(words), _ROWS):
        part = words[start : start + _ROWS]
        for word, covered in zip(
            part, np.asarray(word_vectors(vectors, part).any(axis=1)), strict=True
        ):
            if covered:
                del missing[word]
    tokens, types = max(counts.total(), 1), max(len(counts), 1)
    return Coverage(
        counts.total(), len(counts), 1 - missing.total() / tokens, 1 - len(missing) / types,
        missing.most_common(most),
    )  # fmt: skip


def inspect(table: Any, *, corpus: Any = None, words: Iterable[str] = (), n: int = 8) -> Inspection:
    """Look into a table.

    Args:
        table: spaCy `Vectors`, a pipeline or vocabulary, or the path or package name of one.
        corpus: count coverage of this corpus, see `corpus_words`.
        words: show these words' neighbours.
        n: how many neighbours each.
    """
    vectors, words = table, list(words)
    if isinstance(table, (str, PathLike)):
        vectors = load(table)
    elif not isinstance(table, Vectors):
        vectors = getattr(table, "vocab", table).vectors
    counts = corpus_words(corpus) if corpus is not None else None
    norms = [np.zeros(0)]
    contents: set[int] = set()
    for start in range(0, vectors.shape[0], _ROWS):
        rows = _Rows(vectors.data, np.arange(start, min(start + _ROWS, vectors.shape[0])))[:]
        norms.append(np.linalg.norm(rows, axis=1))
        contents.update(hash(row.tobytes()) for row in rows)
    norm = np.concatenate(norms)
    at = {"smallest": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "largest": 1.0}
    among = list(counts) if vectors.mode == "floret" and counts else None
    near = most_similar(vectors, words, n=n, among=among) if words else []
    used = len(norm) if vectors.mode == "floret" else len(set(vectors.key2row.values()))
    return Inspection(
        name=str(vectors.name or (table if isinstance(table, (str, PathLike)) else "vectors")),
        mode=vectors.mode,
        rows=vectors.shape[0],
        width=vectors.shape[1],
        keys=len(vectors.key2row),
        megabytes=vectors.data.nbytes / 1e6,
        fingerprint=fingerprint(vectors),
        norms={name: float(np.quantile(norm, q)) if len(norm) else 0.0 for name, q in at.items()},
        zero_rows=int((norm == 0).sum()),
        duplicate_rows=len(norm) - len(contents),
        unused_rows=len(norm) - used,
        coverage=coverage(vectors, counts) if counts is not None else None,
        neighbours=dict(zip(words, near, strict=True)),
    )
