"""A teacher's token vectors, computed once and kept on disk.

A cache is a folder: a file of half-precision rows that only grows, and an index of texts by hash.
A row is written before its index entry, so that a process that dies leaves nothing wrong behind.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc

Vectors = NDArray[np.float16]


class Teacher(Protocol):
    """What knows vectors of tokens."""

    width: int
    name: str

    def __call__(self, docs: Sequence[Doc]) -> list[NDArray[np.float32]]:
        """Return one (tokens, width) array a doc."""
        ...


class CachedTeacher:
    """A teacher that is asked once a text.

    Args:
        teacher: What to ask.
        folder: Where to keep what it says; another teacher's folder is refused.
    """

    def __init__(self, teacher: Teacher, folder: Path) -> None:
        self.teacher, self.folder, self.width = teacher, folder, teacher.width
        folder.mkdir(parents=True, exist_ok=True)
        self._check()
        self._index: dict[str, tuple[int, int]] = {}
        self._rows, self._entries = folder / "rows.f16", folder / "index.jsonl"
        self._rows.touch()
        whole = self._rows.stat().st_size // (2 * self.width)
        if self._entries.exists():
            for line in self._entries.read_text(encoding="utf8").splitlines():
                try:
                    key, start, n = json.loads(line)
                except ValueError:  # the line that a dying process left unfinished
                    continue
                if start + n <= whole:
                    self._index[key] = (start, n)

    def __len__(self) -> int:
        """Return how many texts are kept."""
        return len(self._index)

    def __call__(self, docs: Sequence[Doc]) -> list[Vectors]:
        """Return one (tokens, width) array a doc."""
        keys = [_key(doc) for doc in docs]
        new = {key: doc for key, doc in zip(keys, docs, strict=True) if key not in self._index}
        if new:
            self._keep(list(new), self.teacher(list(new.values())))
        rows = np.memmap(self._rows, dtype=np.float16, mode="r").reshape(-1, self.width)
        places = [self._index[key] for key in keys]
        return [np.array(rows[start : start + n]) for start, n in places]

    def _keep(self, keys: list[str], vectors: list[NDArray[np.float32]]) -> None:
        at = self._rows.stat().st_size // (2 * self.width)
        with self._rows.open("r+b") as file:
            file.truncate(at * 2 * self.width)
            file.seek(0, 2)
            for one in vectors:
                file.write(np.ascontiguousarray(one, dtype=np.float16).tobytes())
        with self._entries.open("a", encoding="utf8") as file:
            for key, one in zip(keys, vectors, strict=True):
                file.write(json.dumps([key, at, len(one)]) + "\n")
                self._index[key] = (at, len(one))
                at += len(one)

    def _check(self) -> None:
        about, path = (
            {"teacher": self.teacher.name, "width": self.width},
            self.folder / "about.json",
        )
        if not path.exists():
            path.write_text(json.dumps(about))
        elif (found := json.loads(path.read_text())) != about:
            raise ValueError(
                f"{self.folder}: expected a cache of {about}, got one of {found}. Name another "
                "cache folder."
            )


def _key(doc: Doc) -> str:
    given: Any = [[token.text for token in doc], doc.to_array("SPACY").tolist()]
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()[:32]
