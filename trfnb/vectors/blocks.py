"""A block of rows on their way from a file to a table."""

import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from trfnb.vectors.hashing import murmur64

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Keys:
    """Many short byte strings held in one array: no Python object a word.

    Attributes:
        data: their bytes, one after the other.
        offsets: where each begins, and where the last ends; (keys + 1,).
    """

    data: npt.NDArray[np.uint8]
    offsets: Ints

    @classmethod
    def of(cls, words: Iterable[str | bytes]) -> "Keys":
        """Pack words; strings become UTF-8."""
        encoded = [w.encode("utf8", "replace") if isinstance(w, str) else w for w in words]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends)

    @classmethod
    def joined(cls, parts: "Sequence[Keys]") -> "Keys":
        """Put several packs behind one another."""
        ends = [np.zeros(1, dtype=np.int64)]
        for part in parts:
            ends.append(part.offsets[1:] - part.offsets[0] + ends[-1][-1])
        data = [part.data[part.offsets[0] : part.offsets[-1]] for part in parts]
        return cls(np.concatenate([np.empty(0, np.uint8), *data]), np.concatenate(ends))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def bytes_list(self) -> list[bytes]:
        """Return each key's bytes."""
        whole, ends = self.data.tobytes(), self.offsets.tolist()
        return [whole[a:b] for a, b in pairwise(ends)]

    def strings(self) -> list[str]:
        """Return the keys as strings; they must be valid UTF-8."""
        return [key.decode() for key in self.bytes_list()]

    def part(self, start: int, stop: int) -> "Keys":
        """Return the keys from ``start`` up to ``stop``."""
        offsets = self.offsets[start : stop + 1]
        return Keys(self.data[offsets[0] : offsets[-1]], offsets - offsets[0])

    def take(self, index: npt.NDArray[np.bool_] | Ints) -> "Keys":
        """Return the keys chosen by a mask or by positions."""
        if index.dtype == bool and index.all():
            return self
        lengths = np.diff(self.offsets)[index]
        ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        shifts = self.offsets[:-1][index] - ends[:-1]
        return Keys(self.data[np.arange(ends[-1]) + np.repeat(shifts, lengths)], ends)

    def hashes(self) -> Hashes:
        """Return spaCy's hash of each key (symbols aside)."""
        return murmur64(self.data, self.offsets)

    def valid(self) -> npt.NDArray[np.bool_]:
        """Say which keys are UTF-8."""
        lengths = np.diff(self.offsets)
        heads = self.data[self.offsets[:-1][lengths > 0]]
        try:
            self.data.tobytes().decode()
            if not ((heads & 0xC0) == 0x80).any():
                return np.ones(len(self), dtype=bool)
        except UnicodeDecodeError:
            pass
        return np.array([_decodes(key) for key in self.bytes_list()], dtype=bool)


def _decodes(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class Block:
    """Rows read together.

    Attributes:
        keys: a key a row, or several (then ``rows`` says whose).
        vectors: (rows, width) float32.
        lines: each key's line number in a text, or its 1-based position otherwise.
        rows: each key's row in ``vectors``; None when the n-th key belongs to the n-th row.
    """

    keys: Keys
    vectors: Floats
    lines: Ints
    rows: Ints | None = None

    def take(self, index: npt.NDArray[np.bool_]) -> "Block":
        """Return the keys chosen by a mask, with the rows that they need."""
        if index.all():
            return self
        keys, lines = self.keys.take(index), self.lines[index]
        if self.rows is None:
            return Block(keys, self.vectors[index], lines)
        used, rows = np.unique(self.rows[index], return_inverse=True)
        return Block(keys, self.vectors[used], lines, rows.astype(np.int64))


def checked(block: Block) -> tuple[Block, list[tuple[str, int, str]]]:
    """Part a block's usable keys from those that are empty, broken or have no finite row.

    Returns:
        The usable part, and for each other key its problem, line and an example.
    """
    finite = np.asarray(np.isfinite(block.vectors).all(axis=1))
    if block.rows is not None:
        finite = finite[block.rows]
    valid = block.keys.valid()
    filled = np.diff(block.keys.offsets) > 0
    good = np.asarray(finite & valid & filled)
    problems = []
    for key in np.flatnonzero(~good).tolist():
        if not filled[key]:
            reason = "empty key"
        elif not valid[key]:
            reason = "key is not UTF-8"
        else:
            reason = "a value is not a finite float32"
        problems.append((reason, int(block.lines[key]), repr(block.keys[key][:40])))
    return block.take(good), problems


class Stacked:
    """Tables behind one another, read as one without being copied into one."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts
        self._begins = np.cumsum([0, *map(len, parts)])
        self.shape = (int(self._begins[-1]), int(parts[0].shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Ints) -> Floats:
        out = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        for part, begin, end in zip(self.parts, self._begins[:-1], self._begins[1:], strict=True):
            here = (rows >= begin) & (rows < end)
            out[here] = part[rows[here] - begin]
        return out


def forget(array: Any) -> None:
    """Let go of a mapped file's pages: read once in order, it would come to fill the memory."""
    for part in getattr(array, "parts", ()):
        forget(part)
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "_mmap", None) or getattr(array, "base", None)
    if array is not None and hasattr(array, "madvise"):
        array.madvise(mmap.MADV_DONTNEED)
