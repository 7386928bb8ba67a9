"""Streams of bytes, packed or not, and the tables read from them: text and word2vec's binary.

Text is fastText's .vec, word2vec's, GloVe's (without a header) or floret's.
"""

import lzma
import re
import sys
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from fsspec.compression import compr  # type: ignore[import-untyped]

from trfnb.vectors.blocks import (
    Block,
    Floats,
    FloretSettings,
    Report,
    Source,
    VectorsError,
    checked_block,
    is_utf8,
    usable,
)

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_BOM = b"\xef\xbb\xbf"
_BYTES = 2 << 20
_HEAD = 1 << 18
_LONGEST_LINE = 16 << 20
_LONGEST_KEY = 1 << 16
_SAMPLE = 50
_AHEAD = 4
_FEW = 1 << 14
_NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.I)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")


class Stream:
    """Bytes read once, from the front, with a look ahead.

    Args:
        raw: an open binary file.
        name: what messages call it.
        file: where its bytes lie, unpacked; None for what can be read only once.
    """

    def __init__(self, raw: Any, name: str, file: Path | None = None) -> None:
        self.raw, self.name, self.file = raw, name, file
        self._ahead = b""

    def _pull(self, size: int) -> bytes:
        try:
            data = self.raw.read(size)
        except _BROKEN as problem:
            raise VectorsError(
                f"{self.name}: could not be read ({problem}): the file or archive is cut off or "
                "broken. Fetch it again."
            ) from problem
        if not isinstance(data, bytes):
            raise VectorsError(f"{self.name}: expected a stream of bytes, got text. Open it 'rb'.")
        return data

    def peek(self, size: int) -> bytes:
        """Return up to ``size`` bytes without consuming them."""
        while len(self._ahead) < size and (data := self._pull(size - len(self._ahead))):
            self._ahead += data
        return self._ahead[:size]

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes, or fewer at the end."""
        parts, self._ahead = [self._ahead[:size]], self._ahead[size:]
        missing = size - len(parts[0])
        while missing > 0 and (data := self._pull(missing)):
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def to_file(self, path: Path) -> Path:
        """Write what is left to a file, for readers that map or seek."""
        with path.open("wb") as file:
            while data := self.read(_BYTES):
                file.write(data)
        return path


def open_stream(source: str | PathLike[str] | IO[bytes], scratch: Path, stack: ExitStack) -> Stream:
    """Open a path, a URL that fsspec knows, ``"-"`` or a binary file; unpack it by its first bytes.

    Args:
        source: what to read; ``zip://table.txt::archive.zip`` names one of several in an archive.
        scratch: a file that may be written, for a zip archive that comes through a pipe.
        stack: closes what is opened here.

    Raises:
        VectorsError: it cannot be opened, or a zip archive holds not one table but several.
    """
    if hasattr(source, "read"):
        raw, name = source, str(getattr(source, "name", "stream"))
    elif str(source) == "-":
        raw, name = sys.stdin.buffer, "standard input"
    else:
        raw, name = _open(str(source), stack), str(source)
    file = Path(name) if raw is not source and Path(name).is_file() else None
    stream = Stream(raw, name, file)
    head = stream.peek(6)
    kind = next((kind for magic, kind in _PACKED.items() if head.startswith(magic)), None)
    if kind is None:
        return stream
    if kind not in compr:
        raise VectorsError(f"{name}: packed by {kind}: install zstandard to read it.")
    if kind == "zip":
        # The directory of a zip archive is at its end: a pipe goes to disk first.
        return Stream(stack.enter_context(_only_member(stream.to_file(scratch), name)), name)
    return Stream(stack.enter_context(compr[kind](stream, mode="rb")), name)


def _open(source: str, stack: ExitStack) -> IO[bytes]:
    try:
        if "://" not in source:
            return stack.enter_context(Path(source).open("rb"))
        import fsspec  # type: ignore[import-untyped]

        opened: IO[bytes] = stack.enter_context(fsspec.open(source, "rb"))
        return opened
    except (OSError, ImportError, ValueError, KeyError) as problem:
        raise VectorsError(f"{source}: could not be read: {problem}.") from problem


def _only_member(path: Path, name: str) -> IO[bytes]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as problem:
        raise VectorsError(
            f"{name}: the zip archive is cut off or broken ({problem}). Fetch it again."
        ) from problem
    names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n]
    if len(names) != 1:
        raise VectorsError(
            f"{name}: expected one table in the zip archive, found {len(names)}: "
            f"{', '.join(names[:10])}. Name the one wanted: zip://TABLE.txt::{name}"
        )
    return archive.open(names[0])


@dataclass(frozen=True)
class Layout:
    """How a text lays its table out.

    Attributes:
        width: values per line.
        delimiter: a space or a tab.
        declared: rows the header promises, None without a header.
        replaced: bytes to replace before lines are read.
    """

    width: int
    delimiter: bytes = b" "
    declared: int | None = None
    replaced: tuple[tuple[bytes, bytes], ...] = ()


def read_text(stream: Stream, report: Report) -> Source:
    """Read a text table; rows that do not fit are skipped and reported by line number."""
    if stream.peek(3) == _BOM:
        stream.read(3)
    head = stream.peek(_HEAD)
    layout = find_layout(head, stream.name)
    first = head.split(b"\n")[0].decode("utf8", "replace").split()
    kind = "text (GloVe)" if layout.declared is None else "text with header"
    floret = None
    if layout.declared is not None and len(first) == 8:
        kind, floret = "floret", FloretSettings(*map(int, first[2:6]), *first[6:])  # type: ignore[arg-type]
        if not 1 <= floret.hash_count <= 4 or floret.maxn < floret.minn:
            raise VectorsError(f"{stream.name}: expected floret's settings, got {first[2:]}.")
    return Source(kind, layout.width, _text_blocks(stream, layout, report), floret=floret)


def find_layout(head: bytes, name: str) -> Layout:
    """Tell a text table's layout from its first lines; refuse it if half of them do not fit."""
    wrong = f"{name}: expected lines of a key and its numbers, "
    if head.startswith(b"version https://git-lfs"):
        raise VectorsError(f"{wrong}found git-lfs's pointer to a file. Run `git lfs pull`.")
    if b"\0" in head:
        raise VectorsError(
            f"{wrong}found binary data at byte {head.index(0):,}. Unpack an archive, or name the "
            "format."
        )
    lines = head.split(b"\n")
    lines = lines[:-1] if len(head) >= _HEAD else lines
    first = lines[0].split() if lines else []
    header = len(first) in (2, 8) and all(part.isdigit() for part in first[:6])
    rows = [line.strip(b"\r").rstrip(b" \t") for line in lines[header:] if line.strip()][:_SAMPLE]
    if not rows:
        raise VectorsError(f"{wrong}found none in the first {len(head):,} bytes.")
    replaced = []
    if b"\r" in head:
        replaced.append((b"\r\n", b"\n"))
    if any(line.rstrip(b"\r").endswith(b" ") for line in lines[:_SAMPLE]):
        # Some tools end every line by a space.
        replaced.append((b" \n", b"\n"))
    delimiter = b"\t" if b"\t" in rows[0] else b" "
    if rows[0].count(b"\t") == 1 and b" " in rows[0].partition(b"\t")[2]:
        # A tab stands behind the key, and spaces between the values.
        replaced.append((b"\t", b" "))
        delimiter, rows = b" ", [row.replace(b"\t", b" ") for row in rows]
    counts = Counter(row.count(delimiter) for row in rows)
    width = int(first[1]) if header else counts.most_common(1)[0][0]
    layout = Layout(width, delimiter, int(first[0]) if header else None, tuple(replaced))
    # One value is enough only where a header says so.
    found = [_line(row, layout) if width > (not header) else "too few values" for row in rows]
    problems = {i: problem for i, problem in enumerate(found) if isinstance(problem, str)}
    if 2 * len(problems) >= len(found):
        place, problem = next(iter(problems.items()))
        said = f" (the header says {width} values)" if header else ""
        raise VectorsError(f"{wrong}found {rows[place][:40]!r}: {problem}{said}.")
    return layout


@dataclass
class _Parsed:
    """What a stretch of whole lines gave; line numbers count from 0."""

    parts: list[tuple[list[str], Floats, list[int]]] = field(default_factory=list)
    problems: list[tuple[str, int, str]] = field(default_factory=list)
    lines: int = 0


def _text_blocks(stream: Stream, layout: Layout, report: Report) -> Iterator[Block]:
    line, rows = 1, 0
    if layout.declared is not None:
        while stream.read(1) not in (b"\n", b""):
            pass
        line = 2
    pending: deque[Future[_Parsed]] = deque()
    stretches = _stretches(stream)
    with ThreadPoolExecutor(2) as pool:
        while True:
            while len(pending) < _AHEAD and (data := next(stretches, b"")):
                pending.append(pool.submit(parse, data, layout))
            if not pending:
                break
            parsed = pending.popleft().result()
            rows += parsed.lines
            for reason, place, example in parsed.problems:
                rows -= reason == "empty line"
                report.skip(reason, line + place, example)
            for keys, vectors, places in parsed.parts:
                lines = np.array(places) + line
                yield from usable(Block(keys, vectors, lines, np.arange(len(keys))), report)
            line += parsed.lines
    if layout.declared not in (None, rows):
        raise VectorsError(
            f"{stream.name}: the header says {layout.declared:,} rows, the file has {rows:,}: it "
            "is cut off, or line breaks are lost or added. Fetch it again, or mend the header."
        )


def _stretches(stream: Stream) -> Iterator[bytes]:
    """Yield the stream as stretches of whole lines."""
    rest = b""
    while data := stream.read(_BYTES):
        cut = data.rfind(b"\n") + 1
        if cut:
            yield b"".join((rest, memoryview(data)[:cut]))
            rest = b""
        rest += data[cut:]
        if len(rest) > _LONGEST_LINE:
            raise VectorsError(
                f"{stream.name}: expected lines of text, found one of more than "
                f"{_LONGEST_LINE >> 20} MB. Name the format if it is not text."
            )
    if rest:
        yield rest


def parse(data: bytes, layout: Layout, parsed: _Parsed | None = None) -> _Parsed:
    """Read whole lines of ``key value … value``, exactly as Python's float() reads them.

    Whole stretches go through Arrow's CSV reader, as float64 (so that rounding to float32 is the
    same as Python's). Where a line does not fit, the stretch is halved until the odd lines are
    alone; those are read one by one, which also finds keys that hold the delimiter.
    """
    if parsed is None:
        parsed = _Parsed()
        for old, new in layout.replaced:
            data = data.replace(old, new)
    middle = data.find(b"\n", len(data) // 2) + 1
    if table := _arrow(data, layout):
        keys, vectors = table
        parsed.parts.append((keys, vectors, list(range(parsed.lines, parsed.lines + len(keys)))))
        parsed.lines += len(keys)
    elif len(data) < _FEW or middle in (0, len(data)):
        _line_by_line(data, layout, parsed)
    else:
        parse(data[:middle], layout, parsed)
        parse(data[middle:], layout, parsed)
    return parsed


def _arrow(data: bytes, layout: Layout) -> tuple[list[str], Floats] | None:
    # Arrow drops a byte order mark wherever it starts to read, and takes a lone \r for a line end.
    if not data or data.startswith(_BOM) or b"\r" in data:
        return None
    names = ["key", *map(str, range(layout.width))]
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
            pa_csv.ParseOptions(
                delimiter=layout.delimiter.decode(), quote_char=False, ignore_empty_lines=False
            ),
            pa_csv.ConvertOptions(
                column_types={"key": pa.binary()} | dict.fromkeys(names[1:], pa.float64()),
                null_values=[],
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    # One batch: the block is as large as the data, and one thread reads it.
    values = table.remove_column(0).to_batches()[0].to_tensor()
    with np.errstate(over="ignore"):
        vectors = values.to_numpy().astype(np.float32)
    keys = table.column(0).to_pylist()
    return [key.decode("utf8", "surrogateescape") for key in keys], vectors


def _line_by_line(data: bytes, layout: Layout, parsed: _Parsed) -> None:
    keys: list[str] = []
    rows, places = [], []
    for text in data.removesuffix(b"\n").split(b"\n"):
        found = _line(text, layout)
        if isinstance(found, str):
            parsed.problems.append((found, parsed.lines, repr(text[:40])))
        else:
            keys.append(found[0].decode("utf8", "surrogateescape"))
            rows.append(found[1])
            places.append(parsed.lines)
        parsed.lines += 1
    if keys:
        with np.errstate(over="ignore"):
            parsed.parts.append((keys, np.array(rows).astype(np.float32), places))


def _line(text: bytes, layout: Layout) -> tuple[bytes, list[float]] | str:
    """Return a line's key and values, or what is wrong with it."""
    key, *values = text.rstrip(b" \t\r").rsplit(layout.delimiter, layout.width)
    if not text.strip():
        return "empty line"
    if len(values) < layout.width:
        return "too few values"
    if not all(map(_NUMBER.fullmatch, values)):
        return "a value is not a number"
    if key != key.strip(layout.delimiter):
        return "an empty value"
    if layout.delimiter == b"\t":
        return "too many values" if b"\t" in key else (key, [float(value) for value in values])
    parts = key.split()
    numbers = [part for part in parts if _NUMBER.fullmatch(part)]
    if len(parts) > 1 and numbers:
        # A key such as "windows 10" is believed where a header tells the width and no value was
        # torn in two: then all are written alike.
        alike = len({b"." in value or b"e" in value.lower() for value in values}) == 1
        if layout.declared is None or not alike or not all(map(bytes.isdigit, numbers)):
            return "too many values"
    return key, [float(value) for value in values]


def looks_like_word2vec(head: bytes) -> bool:
    """Say whether the bytes after a header of two numbers are float32 rather than text."""
    first, _, rest = head.partition(b"\n")
    parts = first.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return False
    if not _CONTROL.search(rest):
        return False
    # A line of text is a key and numbers; packed floats make such a line by no likely chance.
    fields = (line.split(None, 4)[1:4] for line in rest.split(b"\n")[:20])
    return not any(part and all(map(_NUMBER.fullmatch, part)) for part in fields)


def read_word2vec(stream: Stream, report: Report) -> Source:
    """Read word2vec's binary table: a header, then ``key SPACE float32… [NEWLINE]`` per row."""
    head = stream.peek(64).split(b"\n")[0]
    parts = head.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or int(parts[1]) == 0:
        raise VectorsError(
            f"{stream.name}: expected a first line of rows and width, got {head[:40]!r}."
        )
    stream.read(len(head) + 1)
    rows, width = int(parts[0]), int(parts[1])
    return Source("word2vec binary", width, _word2vec_blocks(stream, rows, width, report))


def _word2vec_blocks(stream: Stream, rows: int, width: int, report: Report) -> Iterator[Block]:
    done, buffer, size = 0, b"", 4 * width
    while done < rows and (data := stream.read(max(_BYTES, 2 * size))):
        buffer += data
        keys: list[str] = []
        values: list[bytes] = []
        at = 0
        while done + len(keys) < rows:
            space = buffer.find(b" ", at)
            if space < 0 or space + size >= len(buffer):
                break
            # word2vec ends a row by a newline, gensim by none: it then stands before the next key.
            key = buffer[at:space].lstrip(b"\n").decode("utf8", "surrogateescape")
            if not is_utf8(key) or min(key, default=" ") < " ":
                raise VectorsError(
                    f"{stream.name}: row {done + len(keys) + 1:,}: expected a word, found "
                    f"{key[:20]!a}. The file is damaged, or a word before holds a space, which "
                    "this format cannot keep: save the table as text."
                )
            keys.append(key)
            values.append(buffer[space + 1 : space + 1 + size])
            at = space + 1 + size
        buffer = buffer[at:]
        if len(buffer) > _LONGEST_KEY + size:
            raise VectorsError(f"{stream.name}: expected a word at row {done + len(keys) + 1:,}.")
        vectors = np.frombuffer(b"".join(values), dtype="<f4").astype(np.float32)
        yield from checked_block(keys, vectors.reshape(-1, width), done + 1, report)
        done += len(keys)
    if done < rows or (buffer + stream.read(64)).strip(b"\r\n"):
        seen = f"ends after {done:,}" if done < rows else "goes on after them"
        raise VectorsError(
            f"{stream.name}: the header says {rows:,} rows, the file {seen}. Fetch it again."
        )
