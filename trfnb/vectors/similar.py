"""Nearest rows by cosine: a word's neighbours, pruning, and a look into a table."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from spacy.attrs import LOWER
from spacy.vectors import Vectors
from thinc.backends import get_array_ops
from thinc.util import to_numpy

from trfnb.vectors.blocks import Floats, Ints, VectorsError, unit
from trfnb.vectors.conversion import corpus_words
from trfnb.vectors.store import fingerprint, load

_COSINES = 1 << 24
_ROWS = 8192


def _fetch(vectors: Any, rows: Any) -> Floats:
    rows = rows if isinstance(rows, slice) else get_array_ops(vectors.data).asarray(rows)
    return np.ascontiguousarray(to_numpy(vectors.data[rows]), dtype=np.float32)


def _cosines(queries: Floats, table: Floats) -> Iterator[tuple[int, Floats]]:
    # Yield the cosines of some queries to all rows, and the first query's number.
    table = unit(table)
    step = max(1, _COSINES // len(table))
    for start in range(0, len(queries), step):
        cosines: Floats = np.clip(unit(queries[start : start + step]) @ table.T, -1, 1)
        yield start, cosines


def word_vectors(vectors: Any, words: Sequence[str]) -> Floats:
    """Return words' vectors from spaCy `Vectors`; zeros where an ordinary table has none.

    Words are lower-cased where the table's attribute is LOWER.
    """
    if vectors.mode == "floret":
        keys = [vectors.strings.add(w.lower() if vectors.attr == LOWER else w) for w in words]
        return np.asarray(to_numpy(vectors.get_batch(keys)), dtype=np.float32)
    rows = _find(vectors, words)
    found: Floats = np.zeros((len(words), vectors.shape[1]), dtype=np.float32)
    found[rows >= 0] = _fetch(vectors, rows[rows >= 0])
    return found


def _find(vectors: Any, words: Sequence[str]) -> Ints:
    rows = vectors.find(keys=[w.lower() if vectors.attr == LOWER else w for w in words])
    return np.asarray(to_numpy(rows), dtype=np.int64)


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
    if among is None and vectors.mode != "floret":
        keys = reversed(vectors.key2row.items())
        first = {row: key for key, row in keys if key in vectors.strings}
        names: list[Any] = sorted(first)
        words = [vectors.strings[first[row]] for row in names]
        table, own = _fetch(vectors, np.array(names, dtype=np.int64)), _find(vectors, asked)
    else:
        # To look the queries up adds them to the string store: candidates are taken before.
        words = names = list(dict.fromkeys(among if among is not None else vectors.strings))
        table, own = word_vectors(vectors, words), np.array(asked)
    filled = np.flatnonzero(table.any(axis=1))
    if not len(filled):
        raise VectorsError(
            "Expected words with vectors to choose neighbours from, found none. A floret table "
            "has no words of its own: name candidates (among=, or a corpus to `inspect`)."
        )
    wanted = word_vectors(vectors, asked) if asked else np.asarray(queries, dtype=np.float32)
    found: list[list[tuple[str, float]]] = []
    for start, cosines in _cosines(wanted, table[filled]):
        for query, row in enumerate(cosines, start=start):
            some = np.argpartition(-row, min(n, len(row) - 1))[: n + 1]
            best = some[np.argsort(-row[some], kind="stable")]
            near = [(filled[i], float(row[i])) for i in best]
            named = [(words[i], c) for i, c in near if not asked or names[i] != own[query]]
            found.append(named[:n] if wanted[query].any() or not asked else [])
    return found


class Pruned(NamedTuple):
    """A smaller table and what it cost.

    Attributes:
        vectors: the table, with every key of the larger one.
        replaced: one row per word that lost its row: ``word``, ``stand_in`` (a word whose row it
            has now) and their ``cosine``; worst first.
    """

    vectors: Vectors
    replaced: pd.DataFrame


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
    if vectors.mode != "default" or not 0 < rows <= vectors.shape[0]:
        raise VectorsError(
            f"Expected to keep from 1 to {vectors.shape[0]} rows of a table with a row per word, "
            f"got {rows} of one in mode {vectors.mode!r}. A floret table cannot be pruned."
        )
    keys = np.fromiter(vectors.key2row.keys(), np.uint64, len(vectors.key2row))
    owned = np.fromiter(vectors.key2row.values(), np.int64, len(vectors.key2row))
    first = [row for row in _find(vectors, list(priority)).tolist() if row >= 0]
    # Row numbers in the order of their worth; rows without a key are worth nothing.
    order = list(dict.fromkeys([*first, *np.unique(owned).tolist()]))
    keep, toss = np.sort(order[:rows]), np.sort(order[rows:]).astype(np.int64)
    table = _fetch(vectors, keep)
    new_row = np.full(vectors.shape[0], -1, dtype=np.int64)
    new_row[keep] = np.arange(len(keep))
    cosine = np.ones(vectors.shape[0], dtype=np.float32)
    for start, cosines in _cosines(_fetch(vectors, toss), table):
        part, best = toss[start : start + len(cosines)], cosines.argmax(axis=1)
        new_row[part], cosine[part] = best, cosines[np.arange(len(best)), best]
    smaller = Vectors(
        strings=vectors.strings, data=get_array_ops(vectors.data).asarray(table),
        name=vectors.name, attr=vectors.attr,
    )  # fmt: skip
    smaller.key2row = dict(zip(keys.tolist(), new_row[owned].tolist(), strict=True))
    smaller._sync_unset()
    lost = ~np.isin(owned, keep)
    store = vectors.strings
    names = [store[key] if key in store else str(key) for key in keys.tolist()]
    of_row = dict(zip(owned[::-1].tolist(), names[::-1], strict=True))
    replaced = pd.DataFrame(
        {
            "word": [name for name, gone in zip(names, lost, strict=True) if gone],
            "stand_in": [of_row[row] for row in keep[new_row[owned[lost]]].tolist()],
            "cosine": cosine[owned[lost]],
        }
    )
    return Pruned(smaller, replaced.sort_values("cosine", kind="stable", ignore_index=True))


def inspect(
    table: Any, *, corpus: Any = None, words: Iterable[str] = (), n: int = 8
) -> dict[str, Any]:
    """Look into a table.

    Args:
        table: spaCy `Vectors`, a pipeline or vocabulary, or the path or package name of one.
        corpus: count the coverage of this corpus, see `corpus_words`.
        words: show these words' neighbours.
        n: how many neighbours each.

    Returns:
        The table's facts by name; with ``corpus`` also its ``coverage``: how many tokens and types
        it has, the share of each with a vector that is not zero, and its most frequent words
        without one; with ``words`` their ``neighbours``.
    """
    words = list(words)
    opened: Any = load(table) if isinstance(table, (str, PathLike)) else table
    vectors: Any = getattr(getattr(opened, "vocab", opened), "vectors", opened)
    counts = corpus_words(corpus) if corpus is not None else Counter()
    starts = range(0, vectors.shape[0], _ROWS)
    parts = (_fetch(vectors, slice(start, start + _ROWS)) for start in starts)
    norm = np.concatenate([np.zeros(0), *(np.linalg.norm(rows, axis=1) for rows in parts)])
    used = len(norm) if vectors.mode == "floret" else len(set(vectors.key2row.values()))
    facts = {
        "name": str(vectors.name or (table if isinstance(table, (str, PathLike)) else "vectors")),
        "mode": vectors.mode,
        "rows": vectors.shape[0],
        "width": vectors.shape[1],
        "keys": len(vectors.key2row),
        "megabytes": vectors.data.nbytes / 1e6,
        "fingerprint": fingerprint(vectors),
        "norms": pd.Series(norm).describe().drop("count").to_dict(),
        "zero_rows": int((norm == 0).sum()),
        "unused_rows": len(norm) - used,
    }
    if corpus is not None:
        covered = np.asarray(word_vectors(vectors, list(counts)).any(axis=1))
        missing = Counter({w: counts[w] for w, has in zip(counts, covered, strict=True) if not has})
        facts["coverage"] = {
            "tokens": counts.total(),
            "types": len(counts),
            "tokens_covered": 1 - missing.total() / max(counts.total(), 1),
            "types_covered": 1 - len(missing) / max(len(counts), 1),
            "missing": missing.most_common(20),
        }
    if words:
        among = counts if vectors.mode == "floret" and counts else None
        near = most_similar(vectors, words, n=n, among=among)
        facts["neighbours"] = dict(zip(words, near, strict=True))
    return facts
