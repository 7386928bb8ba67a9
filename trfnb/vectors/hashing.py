"""The three hashes that word-vector formats rely on, a batch of words at a time."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_M = np.uint64(0xC6A4A7935BD1E995)
_R = np.uint64(47)
_LONGEST = 64
# Keys at once: each takes some 700 bytes while it is hashed.
_AT_ONCE = 1 << 15
_MASK = (1 << 64) - 1


def _murmur_scalar(key: bytes, seed: int) -> int:
    m = int(_M)
    h = (seed ^ (len(key) * m)) & _MASK
    full = len(key) // 8 * 8
    for start in range(0, full, 8):
        k = (int.from_bytes(key[start : start + 8], "little") * m) & _MASK
        k = ((k ^ (k >> 47)) * m) & _MASK
        h = ((h ^ k) * m) & _MASK
    if len(key) > full:
        h = ((h ^ int.from_bytes(key[full:], "little")) * m) & _MASK
    h = ((h ^ (h >> 47)) * m) & _MASK
    return h ^ (h >> 47)


def murmur64(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], seed: int = 1
) -> npt.NDArray[np.uint64]:
    """Hash each key with MurmurHash64A, as spaCy's string store does (``seed=1``).

    Args:
        data: the keys' UTF-8 bytes, one key after the other.
        offsets: where each key begins, and where the last one ends; (keys + 1,).
        seed: the hash's seed.

    Returns:
        One uint64 a key. spaCy gives the empty string and its own symbols other numbers.
    """
    if len(offsets) - 1 > _AT_ONCE:
        firsts = range(0, len(offsets) - 1, _AT_ONCE)
        parts = (offsets[first : first + _AT_ONCE + 1] for first in firsts)
        return np.concatenate(
            [murmur64(data[part[0] : part[-1]], part - part[0], seed) for part in parts]
        )
    starts, lengths = offsets[:-1], np.diff(offsets)
    short = lengths <= _LONGEST
    width = int(lengths[short].max(initial=0)) // 8 + 1
    columns = np.arange(width * 8)
    inside = columns < lengths[:, None]
    padded = np.append(data, np.uint8(0))
    taken = padded[np.where(inside, starts[:, None] + columns, len(data))]
    words = np.ascontiguousarray(taken).view("<u8").astype(np.uint64)
    with np.errstate(over="ignore"):
        h = np.uint64(seed) ^ (lengths.astype(np.uint64) * _M)
        full = lengths // 8
        for column in range(width):
            k = words[:, column] * _M
            k = (k ^ (k >> _R)) * _M
            h = np.where(column < full, (h ^ k) * _M, h)
        tail = words[np.arange(len(words)), np.minimum(full, width - 1)]
        h = np.where(lengths % 8 > 0, (h ^ tail) * _M, h)
        h = (h ^ (h >> _R)) * _M
        h ^= h >> _R
    for row in np.flatnonzero(~short):
        h[row] = _murmur_scalar(data[starts[row] : starts[row] + lengths[row]].tobytes(), seed)
    return h


def fasttext_ngram_rows(
    words: Sequence[str], *, first: int, buckets: int, minn: int, maxn: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the table rows of every word's character n-grams, fastText's way.

    A word is wrapped in ``<`` and ``>``; each n-gram of ``minn`` to ``maxn`` characters is hashed
    with 32-bit FNV-1a over its bytes taken as signed, modulo ``buckets``; single characters at
    either end do not count. Source: `Dictionary::computeSubwords` of fastText.

    Returns:
        ``(word, row)``: for each n-gram the word's position in ``words`` and the row it hashes to.
    """
    encoded = [f"<{word}>".encode("utf8", "surrogateescape") for word in words]
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    ends = np.cumsum([len(word) for word in encoded])
    begins = np.flatnonzero((data & 0xC0) != 0x80)
    owner = np.searchsorted(ends, begins, side="right")
    after = np.append(begins, len(data))
    signed = data.view(np.int8).astype(np.int32).view(np.uint32)
    first_char = np.append(True, owner[1:] != owner[:-1])
    last_char = np.append(owner[1:] != owner[:-1], True)
    found_words, found_rows = [], []
    for n in range(minn, maxn + 1):
        if n < 1 or n > len(begins):
            continue
        start = np.arange(len(begins) - n + 1)
        keep = owner[start] == owner[start + n - 1]
        if n == 1:
            keep &= ~(first_char[start] | last_char[start])
        start = start[keep]
        low, high = begins[start], after[start + n]
        h = np.full(len(start), 2166136261, dtype=np.uint32)
        with np.errstate(over="ignore"):
            for step in range(int((high - low).max(initial=0))):
                live = low + step < high
                h[live] = (h[live] ^ signed[low[live] + step]) * np.uint32(16777619)
        found_words.append(owner[start])
        found_rows.append(first + (h % np.uint32(buckets)).astype(np.int64))
    if not found_words:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(found_words), np.concatenate(found_rows)
