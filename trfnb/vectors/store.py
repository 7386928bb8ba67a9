"""The table in a pipeline: mapped from its file, hashed, asked for neighbours, pruned."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import srsly
from spacy.attrs import LOWER
from spacy.util import registry
from spacy.vectors import Vectors
from spacy.vocab import Vocab
from thinc.api import get_current_ops
from thinc.backends import get_array_ops
from thinc.util import to_numpy

from trfnb.files import atomic_write
from trfnb.vectors.blocks import (
    FLORET,
    Floats,
    Ints,
    VectorsError,
    content_hash,
    corpus_words,
    unit,
)

if TYPE_CHECKING:
    import pandas as pd

_COSINES = 1 << 24
_ROWS = 4096


class MappedVectors(Vectors):
    """spaCy's `Vectors`, read by mapping the file: several processes share one copy of a table.

    A float16 table is widened to float32 in memory, which is what spaCy calculates with, and
    saved as float16 again.

    Attributes:
        changes: how often a vector was set; a layer then looks at the table again.
    """

    changes = 0
    dtype = np.dtype("f4")

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> "MappedVectors":
        """Load the table of a ``vocab`` directory; on the CPU its numbers stay in the file.

        Raises:
            VectorsError: its files are damaged, or do not fit each other.
        """
        path, files = Path(path), ("vectors", "key2row", "vectors.cfg")
        there = [name for name in files if (path / name).exists()]
        try:
            # spaCy's own method cannot leave out the numbers and still read the settings.
            super().from_disk(path, exclude=[*exclude, "vectors"])
            if "vectors" in exclude or not there:
                return self
            self._set_cfg(srsly.read_json(path / "vectors.cfg"))
            # Copy-on-write: a vector may be set, the file never changes.
            data = np.load(path / "vectors", mmap_mode="c", allow_pickle=False)
            if len(there) < len(files) or max(self.key2row.values(), default=-1) >= len(data):
                raise ValueError(f"only {' and '.join(there)}, or keys without a row")
        except Exception as problem:  # a damaged header is evaluated and may raise anything
            raise VectorsError(
                f"{path}: expected the files {', '.join(files)} as they were saved, got: "
                f"{problem}. Copy the table or the pipeline again."
            ) from problem
        self.dtype = data.dtype
        self.data = data if data.dtype == np.float32 else np.array(data, dtype=np.float32)
        self.to_ops(get_current_ops())
        self._sync_unset()
        return self

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Save the table as stored, in one step: the file may be the one that is mapped."""
        path = Path(path)
        super().to_disk(path, exclude=[*exclude, "vectors"])
        srsly.write_json(path / "vectors.cfg", self._get_cfg())
        if "vectors" not in exclude:
            data = get_current_ops().to_numpy(self.data)
            with atomic_write(path / "vectors", "wb") as file:
                np.save(file, data.astype(self.dtype, copy=False), allow_pickle=False)

    def add(self, key: Any, *, vector: Any = None, row: int | None = None) -> int:
        """Add a key or set its vector, as in spaCy."""
        self.changes += 1
        return int(super().add(key, vector=vector, row=row))

    def _get_cfg(self) -> dict[str, Any]:
        # spaCy keeps the attribute of floret tables only.
        return {**super()._get_cfg(), "attr": self.attr}


@registry.vectors("trfnb.Vectors.v1")
def configure_vectors() -> Callable[[Vocab], Vectors]:
    """Make the vectors of ``[nlp.vectors]`` memory-mapped when they are loaded from disk."""
    return _make_vectors


def _make_vectors(vocab: Vocab) -> Vectors:
    return MappedVectors(strings=vocab.strings)


def load(path: str | PathLike[str], vocab: Vocab | None = None) -> Vectors:
    """Load a converted table, or any pipeline's, as memory-mapped spaCy `Vectors`.

    Args:
        path: the table's directory, or an installed pipeline's name.
        vocab: takes the table as its own, with its strings; a new one by default.

    Raises:
        VectorsError: there is no table, or it cannot be read.
    """
    place, name = Path(path), str(path)
    if not place.is_dir() and name.isidentifier() and (spec := find_spec(name)):
        place = Path(next(iter(spec.submodule_search_locations or [name])))
    # An installed package keeps its pipeline a directory deeper; a folder of many is none.
    places = [place / "vocab", place, *place.glob("*/vocab")]
    found = [one for one in places if (one / "vectors").is_file()]
    if not found or (len(found) > 1 and found[0].parent != place):
        raise VectorsError(
            f"{path}: expected a file with vectors, a directory with one vector table or an "
            "installed pipeline's name, found none of them. Tables in other formats are converted "
            "first: `trfnb vectors convert`."
        )
    vocab = vocab if vocab is not None else Vocab()
    try:
        for string in srsly.read_json(found[0] / "strings.json"):
            vocab.strings.add(string)
        vectors = MappedVectors(strings=vocab.strings).from_disk(found[0], exclude=["strings"])
    except (OSError, ValueError, TypeError) as problem:
        raise VectorsError(f"{path}: expected spaCy vectors, got {problem}.") from problem
    vocab.vectors = vectors
    return vectors


def fingerprint(vectors: Any, keys: int | None = None) -> str:
    """Return the content hash of spaCy `Vectors`, of every number, however they are stored.

    Args:
        vectors: the table.
        keys: of the first keys alone, this many: those that were there before others were added.
    """
    count = len(vectors.key2row) if keys is None else min(keys, len(vectors.key2row))
    hashes = np.fromiter(vectors.key2row.keys(), np.uint64, count)
    rows = np.fromiter(vectors.key2row.values(), np.int64, count)
    settings = {"mode": vectors.mode, "attr": vectors.attr}
    if vectors.mode == "floret":
        settings |= {name: getattr(vectors, name) for name in FLORET}
        rows = np.arange(len(vectors.data))
    digest, used = hashlib.blake2b(digest_size=16), np.unique(rows)
    for start in range(0, len(used), _ROWS):
        digest.update(_fetch(vectors, used[start : start + _ROWS]).data)
    return content_hash(hashes, rows, digest.digest(), settings)


def word_vectors(vectors: Any, words: Sequence[str | int]) -> Floats:
    """Return words' vectors from spaCy `Vectors`; zeros where an ordinary table has none.

    Args:
        vectors: the table.
        words: lower-cased where the table's attribute is LOWER; or the hashes that it knows.
    """
    if vectors.mode == "floret":
        batch = vectors.get_batch(_keys(vectors, words))
        return np.asarray(to_numpy(batch), dtype=np.float32)
    rows = _find(vectors, words)
    found: Floats = np.zeros((len(words), vectors.shape[1]), dtype=np.float32)
    found[rows >= 0] = _fetch(vectors, rows[rows >= 0])
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
        among: the candidates. By default the words of an ordinary table, of those that share a
            row its first; of a floret table those that its string store knows.

    Returns:
        For each query ``(word, cosine)`` pairs, best first; none for a word without a vector.

    Raises:
        VectorsError: no candidate has a vector.
    """
    asked: list[Any] = [] if isinstance(queries, np.ndarray) else list(queries)
    own = asked
    if among is None and vectors.mode != "floret":
        # Of the words that share a row its first stands for all.
        keys = reversed(vectors.key2row.items())
        first = {row: vectors.strings[key] for key, row in keys if key in vectors.strings}
        among = (word for _, word in sorted(first.items()))
        own = [first.get(row) for row in _find(vectors, asked).tolist()]
    words = list(dict.fromkeys(vectors.strings if among is None else among))
    table = word_vectors(vectors, words)
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
            named = [(words[i], c) for i, c in near if not asked or words[i] != own[query]]
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
    replaced: "pd.DataFrame"


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
    import pandas as pd

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
    import pandas as pd

    words = list(words)
    opened: Any = load(table) if isinstance(table, (str, PathLike)) else table
    vectors: Any = getattr(getattr(opened, "vocab", opened), "vectors", opened)
    counts = corpus_words(corpus) if corpus is not None else Counter()
    rows = to_numpy(vectors.data)
    norm = np.sqrt(np.einsum("ij,ij->i", rows, rows))  # without a copy of the table
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


def _fetch(vectors: Any, rows: Ints) -> Floats:
    rows = get_array_ops(vectors.data).asarray(rows)
    return np.ascontiguousarray(to_numpy(vectors.data[rows]), dtype=np.float32)


def _find(vectors: Any, words: Sequence[str | int]) -> Ints:
    # Each word's row, -1 where it has none.
    return np.asarray(to_numpy(vectors.find(keys=_keys(vectors, words))), dtype=np.int64)


def _keys(vectors: Any, words: Sequence[str | int]) -> list[str | int]:
    lower = vectors.attr == LOWER
    return [word.lower() if lower and isinstance(word, str) else word for word in words]


def _cosines(queries: Floats, table: Floats) -> Iterator[tuple[int, Floats]]:
    # Yield the cosines of some queries to all rows, and the first query's number.
    table = unit(table)
    step = max(1, _COSINES // len(table))
    for start in range(0, len(queries), step):
        cosines: Floats = np.clip(unit(queries[start : start + step]) @ table.T, -1, 1)
        yield start, cosines
