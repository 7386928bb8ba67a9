"""Which keys of a table to keep, and in what spelling."""

from collections import Counter
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trfnb.vectors.blocks import Block, Hashes, Keys
from trfnb.vectors.report import Report, VectorsError

Words = str | PathLike[str] | Iterable[str]


def load_words(words: Words) -> list[str]:
    """Return the words of a list, or of a file with one a line, each once, in their order."""
    if isinstance(words, (str, PathLike)):
        path = Path(words)
        if not path.exists() or path.is_dir():
            raise VectorsError(f"{path}: expected a file with a word a line, found none there.")
        try:
            words = path.read_text("utf8").removeprefix("\ufeff").splitlines()
        except UnicodeDecodeError as problem:
            raise VectorsError(f"{path}: expected words in UTF-8, got {problem}.") from problem
    return list(dict.fromkeys(word for word in words if word))


def corpus_words(corpus: Any) -> Counter[str]:
    """Count the words of a corpus.

    Args:
        corpus: what `trfnb.corpora.load` gives or takes (a name or a path), Docs, lists of
            words, or texts (split at spaces).
    """
    if isinstance(corpus, (str, PathLike)):
        from trfnb import corpora

        corpus = corpora.load(str(corpus))
    sentences: Iterable[Any] = corpus.train if hasattr(corpus, "train") else corpus
    counts: Counter[str] = Counter()
    for sentence in sentences:
        if isinstance(sentence, str):
            counts.update(sentence.split())
        elif hasattr(sentence, "words"):
            counts.update(sentence.words)
        elif hasattr(sentence, "reference"):
            counts.update(token.text for token in sentence.reference)
        else:
            counts.update(token if isinstance(token, str) else token.text for token in sentence)
    return counts


def asked_words(words: Words | None, corpus: Any, *, lower: bool) -> list[str] | None:
    """Return the words to keep, from a list and a corpus; None where neither is given."""
    if words is None and corpus is None:
        return None
    asked = load_words(words) if words is not None else []
    asked += corpus_words(corpus) if corpus is not None else ()
    if not asked:
        raise VectorsError("Expected words to keep, the list or corpus given has none.")
    return list(dict.fromkeys(word.lower() if lower else word for word in asked))


class Seen:
    """The hashes met so far, in a few sorted arrays: 8 bytes each, no Python object."""

    def __init__(self) -> None:
        self._runs: list[Hashes] = []

    def new(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Say which hashes come for the first time, and remember them."""
        first = np.zeros(len(hashes), dtype=bool)
        first[np.unique(hashes, return_index=True)[1]] = True
        for run in self._runs:
            place = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            first &= run[place] != hashes
        fresh = np.sort(hashes[first])
        # Runs of like size are merged, so that there are never more than a few.
        while self._runs and len(self._runs[-1]) <= 2 * len(fresh):
            fresh = np.sort(np.concatenate([self._runs.pop(), fresh]), kind="stable")
        if len(fresh):
            self._runs.append(fresh)
        return first


class KeyFilter:
    """Keep the first rows, the words asked for, the first of each key.

    Args:
        report: is told of keys left out as duplicates.
        words: keep these only.
        lower: lower-case every key first; the first (most frequent) spelling's vector stands for
            all of them.
        limit: keep this many rows.
    """

    def __init__(
        self, report: Report, words: list[str] | None, *, lower: bool, limit: int | None
    ) -> None:
        self.report, self.lower, self.limit = report, lower, limit
        self._seen = Seen()
        self._wanted = None if words is None else np.sort(Keys.of(words).hashes())
        self.kept = 0
        self.found = 0

    @property
    def full(self) -> bool:
        """Whether no more rows are wanted."""
        enough = self._wanted is not None and self.found >= len(self._wanted)
        return enough or self.at_limit

    @property
    def at_limit(self) -> bool:
        """Whether as many rows as may be are kept."""
        return self.limit is not None and self.kept >= self.limit

    def __call__(self, block: Block) -> tuple[Block, Hashes]:
        """Return what is kept of a block, and its keys' hashes."""
        if self.lower:
            lowered = Keys.of([key.lower() for key in block.keys.strings()])
            block = Block(lowered, block.vectors, block.lines, block.rows)
        hashes = block.keys.hashes()
        if self._wanted is not None:
            place = np.searchsorted(self._wanted, hashes)
            asked = np.append(self._wanted, np.uint64(0))[place] == hashes
            block, hashes = block.take(asked), hashes[asked]
        new = self._seen.new(hashes)
        if not self.lower:
            for key in np.flatnonzero(~new).tolist():
                example = repr(block.keys[key].decode())
                self.report.skip("the key is a duplicate", int(block.lines[key]), example)
        block, hashes = block.take(new), hashes[new]
        if self.limit is not None and self.kept + len(block.vectors) > self.limit:
            rows = block.rows if block.rows is not None else np.arange(len(block.keys))
            fits = rows < self.limit - self.kept
            block, hashes = block.take(fits), hashes[fits]
        self.kept += len(block.vectors)
        self.found += len(block.keys)
        return block, hashes
