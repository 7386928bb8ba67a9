"""What is in a table, and how much of a corpus it covers."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import Any

import numpy as np

from trfnb.vectors.fingerprints import fingerprint
from trfnb.vectors.similar import most_similar, word_vectors
from trfnb.vectors.wanted import corpus_words

_ROWS = 8192


@dataclass(frozen=True)
class Coverage:
    """How much of a corpus has a vector.

    Attributes:
        tokens, types: running words and different words of the corpus.
        covered_tokens, covered_types: those with a vector.
        missing: the most frequent words without one, with their counts.
    """

    tokens: int
    types: int
    covered_tokens: int
    covered_types: int
    missing: list[tuple[str, int]]

    @property
    def by_token(self) -> float:
        """The share of running words with a vector."""
        return self.covered_tokens / self.tokens if self.tokens else 0.0

    @property
    def by_type(self) -> float:
        """The share of different words with a vector."""
        return self.covered_types / self.types if self.types else 0.0


@dataclass(frozen=True)
class Inspection:
    """A table's facts; see `inspect`."""

    name: str
    mode: str
    rows: int
    width: int
    keys: int
    dtype: str
    megabytes: float
    fingerprint: str
    norms: dict[str, float]
    zero_rows: int
    duplicate_rows: int
    unused_rows: int
    coverage: Coverage | None = None
    neighbours: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        norms = ", ".join(f"{name} {value:.4g}" for name, value in self.norms.items())
        lines = [
            f"{self.name} ({self.mode}): {self.rows:,} rows x {self.width} ({self.dtype}), "
            f"{self.keys:,} keys, {self.megabytes:.1f} MB, fingerprint {self.fingerprint[:12]}",
            f"norms: {norms}",
            f"rows of zeros {self.zero_rows:,}, duplicate rows {self.duplicate_rows:,}, "
            f"rows without a key {self.unused_rows:,}",
        ]
        if self.coverage:
            c = self.coverage
            lines.append(
                f"coverage: {c.by_token:.1%} of {c.tokens:,} tokens, "
                f"{c.by_type:.1%} of {c.types:,} types"
            )
            lines.append("without a vector: " + ", ".join(f"{w} {n}" for w, n in c.missing))
        for word, near in self.neighbours.items():
            named = ", ".join(f"{other} {cosine:.2f}" for other, cosine in near)
            lines.append(f"{word}: {named or 'no vector'}")
        return "\n".join(lines)


def coverage(vectors: Any, counts: Counter[str], *, most: int = 20) -> Coverage:
    """Say how many of a corpus's words have a vector that is not zero.

    Args:
        vectors: spaCy `Vectors`; words are looked up as they stand, lower-cased where the table's
            attribute is LOWER.
        counts: how often each word occurs, see `wanted.corpus_words`.
        most: how many missing words to name.
    """
    words = list(counts)
    found: list[bool] = []
    for start in range(0, len(words), _ROWS):
        part = word_vectors(vectors, words[start : start + _ROWS])
        found += np.asarray(part.any(axis=1)).tolist()
    has = [word for word, covered in zip(words, found, strict=True) if covered]
    missing = Counter(
        {w: counts[w] for w, covered in zip(words, found, strict=True) if not covered}
    )
    return Coverage(
        tokens=counts.total(),
        types=len(words),
        covered_tokens=sum(counts[word] for word in has),
        covered_types=len(has),
        missing=missing.most_common(most),
    )


def inspect(table: Any, *, corpus: Any = None, words: Any = (), n: int = 8) -> Inspection:
    """Look into a table.

    Args:
        table: spaCy `Vectors`, a pipeline or vocabulary, or the path or package name of one.
        corpus: count coverage of this corpus, see `wanted.corpus_words`.
        words: show these words' neighbours.
        n: how many neighbours each.
    """
    if isinstance(table, (str, PathLike)):
        from trfnb.vectors.store import load

        vectors = load(str(table))
    else:
        vocab = getattr(table, "vocab", table)
        vectors = getattr(vocab, "vectors", vocab)
    counts = corpus_words(corpus) if corpus is not None else None
    norms, hashes = [], []
    for start in range(0, vectors.shape[0], _ROWS):
        rows = np.asarray(_numpy(vectors.data[start : start + _ROWS]), dtype=np.float32)
        norms.append(np.linalg.norm(rows, axis=1))
        packed = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1] * 4)))
        hashes += [hash(row.tobytes()) for row in packed[:, 0]]
    norm = np.concatenate(norms) if norms else np.zeros(1)
    at = {"smallest": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "largest": 1.0}
    data = vectors.data
    return Inspection(
        name=str(vectors.name or (table if isinstance(table, (str, PathLike)) else "vectors")),
        mode=vectors.mode,
        rows=vectors.shape[0],
        width=vectors.shape[1],
        keys=len(vectors.key2row),
        dtype=str(data.dtype),
        megabytes=data.nbytes / 1e6,
        fingerprint=fingerprint(vectors),
        norms={name: float(np.quantile(norm, q)) for name, q in at.items()},
        zero_rows=int((norm == 0).sum()),
        duplicate_rows=len(hashes) - len(set(hashes)),
        unused_rows=0
        if vectors.mode == "floret"
        else vectors.shape[0] - len(set(vectors.key2row.values())),
        coverage=coverage(vectors, counts) if counts is not None else None,
        neighbours=_neighbours(vectors, list(words), n, counts),
    )


def _neighbours(
    vectors: Any, words: list[str], n: int, counts: Counter[str] | None
) -> dict[str, list[tuple[str, float]]]:
    if not words:
        return {}
    among = list(counts) if vectors.mode == "floret" and counts else None
    found = most_similar(vectors, words, n=n, among=among)
    return dict(zip(words, found, strict=True))


def _numpy(data: Any) -> Any:
    return data.get() if hasattr(data, "get") else data
