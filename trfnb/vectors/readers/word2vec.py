"""word2vec's binary format: a header line, then ``key SPACE float32… [NEWLINE]`` a row."""

from collections.abc import Iterator

import numpy as np

from trfnb.vectors.blocks import Block, Keys, checked
from trfnb.vectors.readers.source import Source
from trfnb.vectors.readers.sources import Stream
from trfnb.vectors.report import Report, VectorsError

_BYTES = 4 << 20
_LONGEST_KEY = 1 << 16


def read_word2vec(stream: Stream, report: Report) -> Source:
    """Read a binary word2vec table, as written by word2vec and gensim.

    Raises:
        VectorsError: the first line does not hold two whole numbers.
    """
    head = stream.peek(64).split(b"\n")[0]
    parts = head.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or int(parts[1]) == 0:
        raise VectorsError(
            f"{stream.name}: expected a first line of rows and width, got {head[:40]!r}."
        )
    stream.read(len(head) + 1)
    rows, width = int(parts[0]), int(parts[1])
    return Source("word2vec binary", width, _blocks(stream, rows, width, report))


def _blocks(stream: Stream, rows: int, width: int, report: Report) -> Iterator[Block]:
    size = 4 * width
    done = 0
    rest = b""
    while done < rows:
        data = stream.read(max(_BYTES, 2 * size))
        buffer = rest + data
        keys, starts, end = _cut(buffer, size, rows - done)
        if starts:
            values = b"".join([buffer[start : start + size] for start in starts])
            # A view would be read-only and big-endian machines would misread it.
            vectors = np.frombuffer(values, dtype="<f4").astype(np.float32).reshape(-1, width)
            block, problems = checked(
                Block(Keys.of(keys), vectors, np.arange(done + 1, done + len(keys) + 1))
            )
            for reason, line, example in problems:
                report.skip(reason, line, example)
            done += len(keys)
            if len(block.keys):
                yield block
        rest = buffer[end:]
        if len(rest) > _LONGEST_KEY + size + 1:
            raise VectorsError(
                f"{stream.name}: expected a key before row {done + 1}, found none in "
                f"{_LONGEST_KEY:,} bytes. The file is no word2vec table, or a broken one."
            )
        if not data:
            break
    if done < rows:
        report.note(f"the header says {rows:,} rows, the file ends after {done:,}")
    elif (rest + stream.read(64)).strip(b"\r\n"):
        report.note(f"the header says {rows:,} rows, the file goes on after them; the rest is left")


def _cut(buffer: bytes, size: int, most: int) -> tuple[list[bytes], list[int], int]:
    """Find the complete rows at the front: their keys, where their values begin, and the end."""
    keys: list[bytes] = []
    starts: list[int] = []
    position = 0
    while len(keys) < most:
        # word2vec ends a row by a newline, gensim by none: it then stands before the next key.
        space = buffer.find(b" ", position)
        if space < 0 or space + 1 + size > len(buffer):
            break
        keys.append(buffer[position:space].lstrip(b"\n"))
        starts.append(space + 1)
        position = space + 1 + size
    return keys, starts, position
