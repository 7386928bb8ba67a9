"""fastText's and floret's ``.bin`` models: a word is the mean of its own and its subwords' rows.

The layout is that of fastText's `FastText::saveModel`, version 12: settings, dictionary, then the
input matrix (words first, then n-gram buckets) as float32; floret adds two settings.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trfnb.vectors.blocks import Block, Floats, Ints, Keys, Stacked, checked, forget
from trfnb.vectors.hashing import fasttext_ngram_rows
from trfnb.vectors.readers.source import FloretSettings, Source
from trfnb.vectors.readers.sources import Stream, on_disk
from trfnb.vectors.report import Report, VectorsError

MAGIC = struct.pack("<i", 793712314)
_EOS = "</s>"
_ROWS = 2048
_FLORET_SEED = 2166136261


@dataclass(frozen=True)
class Model:
    """The parts of a ``.bin`` that word vectors need.

    Attributes:
        words: the vocabulary, most frequent first (labels left out).
        matrix: (words + buckets, width) float32, mapped from the file or files.
        minn, maxn: n-gram lengths in characters; ``maxn`` 0 means no subwords.
        buckets: rows that n-grams hash to.
        floret: settings, when the model was trained in floret mode.
    """

    words: Keys
    matrix: Floats | Stacked
    minn: int
    maxn: int
    buckets: int
    floret: FloretSettings | None

    def compose(self, words: Sequence[str], own_rows: Ints) -> Floats:
        """Average the rows of words and their subwords.

        Args:
            words: the words.
            own_rows: each word's own row, -1 for a word that the model has not seen.
        """
        known = np.flatnonzero(own_rows >= 0)
        owners, rows = [known], [own_rows[known]]
        if self.maxn > 0 and self.buckets > 0:
            first = len(self.matrix) - self.buckets
            position, row = fasttext_ngram_rows(
                words, first=first, buckets=self.buckets, minn=self.minn, maxn=self.maxn
            )
            # fastText gives the end-of-sentence mark no subwords.
            plain = np.array([word != _EOS for word in words], dtype=bool)[position]
            owners.append(position[plain])
            rows.append(row[plain])
        owner, row = np.concatenate(owners), np.concatenate(rows)
        order = np.argsort(owner, kind="stable")
        owner, row = owner[order], row[order]
        vectors = np.zeros((len(words), self.matrix.shape[1]), dtype=np.float32)
        if len(owner):
            begins = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
            counts = np.diff(np.append(begins, len(owner)))
            sums = np.add.reduceat(self.matrix[row], begins, axis=0)
            vectors[owner[begins]] = sums / counts[:, None].astype(np.float32)
        return vectors


def find(words: Keys, asked: Sequence[str]) -> Ints:
    """Return each asked word's position in the vocabulary, -1 where it is not."""
    if not len(words):
        return np.full(len(asked), -1)
    hashes = words.hashes()
    order = np.argsort(hashes, kind="stable")
    wanted = Keys.of(asked).hashes()
    place = np.minimum(np.searchsorted(hashes[order], wanted), len(order) - 1)
    return np.where(hashes[order[place]] == wanted, order[place], -1)


def _need(data: bytes, size: int, name: str, what: str) -> bytes:
    if len(data) < size:
        raise VectorsError(
            f"{name}: expected {what}, the file ends before it ({len(data):,} of {size:,} bytes). "
            "It is truncated: fetch it again."
        )
    return data


def _settings(head: bytes, name: str) -> tuple[tuple[int, ...], bool, int]:
    """Return (dim … maxn, [mode, hash count]), whether floret wrote them, and their length."""
    for extra in (0, 2):
        size = 8 + 4 * (12 + extra) + 8
        values = struct.unpack_from(f"<{12 + extra}i", head, 8)
        count, words, labels = struct.unpack_from("<3i", head, size)
        tokens, pruned = struct.unpack_from("<2q", head, size + 12)
        sound = count == words + labels and min(words, labels, tokens) >= 0 and pruned >= -1
        if sound and values[0] > 0:
            return values, extra == 2, size
    raise VectorsError(
        f"{name}: expected fastText's settings and dictionary after its magic number, got neither "
        "fastText's nor floret's. The file is broken, or of a version this reader does not know."
    )


def read_fasttext(stream: Stream, report: Report) -> Source:
    """Read a ``.bin`` model; unpacked archives and streams are put on disk first to be mapped.

    Raises:
        VectorsError: the file is truncated, broken, quantised or of another version.
    """
    head = _need(stream.peek(128), 128, stream.name, "fastText's settings")
    version = struct.unpack_from("<i", head, 4)[0]
    if version not in (11, 12):
        raise VectorsError(f"{stream.name}: expected fastText version 11 or 12, got {version}.")
    values, by_floret, size = _settings(head, stream.name)
    stream.read(size)
    count, n_words, _ = struct.unpack("<3i", stream.read(12))
    _, pruned = struct.unpack("<2q", stream.read(16))
    words = _words(stream, count).part(0, n_words)
    _need(stream.read(8 * max(pruned, 0)), 8 * max(pruned, 0), stream.name, "its pruned buckets")
    quantised = _need(stream.read(1), 1, stream.name, "its matrix")
    if quantised != b"\0":
        raise VectorsError(
            f"{stream.name}: expected a full model, got a quantised one (.ftz). Give the .bin it "
            "was made from, or its vectors as .vec."
        )
    rows, width = struct.unpack("<2q", _need(stream.read(16), 16, stream.name, "its matrix"))
    if width != values[0] or rows < n_words:
        raise VectorsError(f"{stream.name}: the matrix ({rows} x {width}) does not fit its model.")
    matrix = _matrix(stream, rows, width)
    floret = None
    if by_floret and values[11] == 2:
        floret = FloretSettings(values[9], values[10], values[12], _FLORET_SEED, "<", ">")
        # floret's own table of a model leaves the words' rows out, too.
        matrix = matrix[rows - values[8] :]
    model = Model(words, matrix, values[9], values[10], min(values[8], rows - n_words), floret)
    if floret:
        blocks = _floret_rows(matrix)
        return Source("floret binary", width, blocks, floret=floret)

    def compose(asked: Sequence[str]) -> Floats:
        vectors = model.compose(asked, find(words, asked))
        forget(matrix)
        return vectors

    return Source("fastText binary", width, vocabulary(model, report), compose=compose)


def _words(stream: Stream, count: int) -> Keys:
    packs: list[Keys] = []
    done, rest = 0, b""
    while done < count:
        data = stream.read(1 << 16)
        rest += data
        words: list[bytes] = []
        position = 0
        # An entry is the word, a zero byte, its count (8 bytes) and its type (1 byte).
        while done + len(words) < count:
            end = rest.find(b"\0", position)
            if end < 0 or end + 10 > len(rest):
                break
            words.append(rest[position:end])
            position = end + 10
        packs.append(Keys.of(words))
        done += len(words)
        rest = rest[position:]
        if not data and done < count:
            _need(b"", 1, stream.name, f"{count:,} dictionary entries (found {done:,})")
    stream.unread(rest)
    return Keys.joined(packs)


def _matrix(stream: Stream, rows: int, width: int) -> Floats:
    size = rows * width * 4
    begin = stream.tell()
    if begin is not None and isinstance(path := getattr(stream.raw, "name", None), str):
        _need(b"\0" * min(1, Path(path).stat().st_size // (begin + size)), 1, path, "its vectors")
        return np.memmap(path, dtype="<f4", mode="r", offset=begin, shape=(rows, width))
    with on_disk(stream, size) as spool:
        if (found := spool.stat().st_size) < size:
            _need(b"", 1, stream.name, f"{size:,} bytes of vectors (found {found:,})")
        return np.memmap(spool, dtype="<f4", mode="r", shape=(rows, width))


def vocabulary(model: Model, report: Report) -> Iterator[Block]:
    """Yield a model's words with their composed vectors."""
    for start in range(0, len(model.words), _ROWS):
        part = model.words.part(start, min(start + _ROWS, len(model.words)))
        rows = np.arange(start, start + len(part))
        strings = [word.decode("utf8", "surrogateescape") for word in part.bytes_list()]
        vectors = model.compose(strings, rows)
        forget(model.matrix)
        block, problems = checked(Block(part, vectors, rows + 1))
        for reason, line, example in problems:
            report.skip(reason, line, example)
        if len(block.keys):
            yield block


def _floret_rows(matrix: Floats) -> Iterator[Block]:
    for start in range(0, len(matrix), _ROWS):
        part = np.array(matrix[start : start + _ROWS], dtype=np.float32)
        numbers = np.arange(start, start + len(part))
        yield Block(Keys.of(map(str, numbers.tolist())), part, numbers + 1)
        forget(matrix)
