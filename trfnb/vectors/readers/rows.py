"""Lines of text to rows of float32, exactly as Python's float() reads them."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trfnb.vectors.blocks import Block, Floats, Keys, checked

try:
    import pyarrow as pa
    import pyarrow.csv as pa_csv
except ImportError:
    pa = None

_BOM = b"\xef\xbb\xbf"
_FEW = 1 << 14
_NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.I)
Problem = tuple[str, int, str]


@dataclass
class Rows:
    """What a stretch of text gave.

    Attributes:
        blocks: usable rows, in order.
        problems: (reason, line, example) of the other lines, in order.
        lines: how many lines it had.
    """

    blocks: list[Block] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    lines: int = 0


def parse(data: bytes, first_line: int, width: int, delimiter: bytes = b" ") -> Rows:
    """Read whole lines of ``key value … value``.

    Whole stretches go through Arrow's CSV reader, as float64 (so that rounding to float32 is the
    same as Python's). Where a line does not fit, the stretch is halved until the odd lines are
    alone; those are read one by one, which also finds keys that hold the delimiter.

    Args:
        data: complete lines.
        first_line: the number of the first of them.
        width: values a line.
        delimiter: a space or a tab.
    """
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    rows = Rows()
    table = _arrow(data, width, delimiter)
    if table is not None:
        _keep(table, first_line, rows)
        return rows
    # Some tools end every line by a space. Looking for that takes longer than trying without.
    _parse(data.replace(b" \n", b"\n"), first_line, width, delimiter, rows)
    return rows


def _parse(data: bytes, line: int, width: int, delimiter: bytes, rows: Rows) -> None:
    if not data:
        return
    table = _arrow(data, width, delimiter)
    if table is not None:
        _keep(table, line, rows)
        return
    middle = data.find(b"\n", len(data) // 2) + 1
    if len(data) < _FEW or middle in (0, len(data)):
        _line_by_line(data, line, width, delimiter, rows)
        return
    before = rows.lines
    _parse(data[:middle], line, width, delimiter, rows)
    _parse(data[middle:], line + rows.lines - before, width, delimiter, rows)


def _keep(parsed: tuple[Keys, Floats], line: int, rows: Rows) -> None:
    keys, vectors = parsed
    block, problems = checked(Block(keys, vectors, np.arange(line, line + len(keys))))
    rows.lines += len(keys)
    rows.problems += problems
    if len(block.keys):
        rows.blocks.append(block)


def _options(width: int, delimiter: bytes) -> dict[str, Any]:
    types = {"key": pa.binary()} | {str(i): pa.float64() for i in range(width)}
    return {
        "parse_options": pa_csv.ParseOptions(
            delimiter=delimiter.decode(),
            quote_char=False,
            double_quote=False,
            escape_char=False,
            newlines_in_values=False,
            ignore_empty_lines=False,
        ),
        "convert_options": pa_csv.ConvertOptions(
            column_types=types, null_values=[], strings_can_be_null=False, check_utf8=False
        ),
    }


_CACHE: dict[tuple[int, bytes], dict[str, Any]] = {}


def _arrow(data: bytes, width: int, delimiter: bytes) -> tuple[Keys, Floats] | None:
    # Arrow drops a byte order mark wherever it starts to read, and takes a lone \r for a line end.
    if pa is None or data.startswith(_BOM) or b"\r" in data:
        return None
    options = _CACHE.setdefault((width, delimiter), _options(width, delimiter))
    read = pa_csv.ReadOptions(
        column_names=["key", *map(str, range(width))], use_threads=False, block_size=len(data) + 1
    )
    try:
        table = pa_csv.read_csv(pa.BufferReader(data), read_options=read, **options)
    except pa.ArrowInvalid:
        return None
    # One batch: the block is as large as the data, and one thread reads it.
    values = table.remove_column(0).to_batches()[0].to_tensor()
    with np.errstate(over="ignore"):
        vectors = values.to_numpy().astype(np.float32)
    keys = table.column(0).combine_chunks()
    _, offsets, content = keys.buffers()
    ends = np.frombuffer(offsets, np.int32, len(keys) + 1, keys.offset * 4).astype(np.int64)
    bytes_ = np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8)
    return Keys(bytes_[ends[0] : ends[-1]].copy(), ends - ends[0]), vectors


def _line_by_line(data: bytes, line: int, width: int, delimiter: bytes, rows: Rows) -> None:
    lines = data.split(b"\n")
    if data.endswith(b"\n"):
        lines.pop()
    keys, vectors, numbers = [], [], []
    for number, text in enumerate(lines, start=line):
        found = _line(text, width, delimiter)
        if isinstance(found, str):
            rows.problems.append((found, number, repr(text[:40])))
            continue
        keys.append(found[0])
        vectors.append(found[1])
        numbers.append(number)
    rows.lines += len(lines)
    if keys:
        with np.errstate(over="ignore"):
            table = np.array(vectors, dtype=np.float64).astype(np.float32)
        block, problems = checked(Block(Keys.of(keys), table, np.array(numbers, dtype=np.int64)))
        rows.problems += problems
        if len(block.keys):
            rows.blocks.append(block)


def _line(text: bytes, width: int, delimiter: bytes) -> tuple[bytes, list[float]] | str:
    text = text.rstrip(b" \t\r")
    parts = text.rsplit(delimiter, width)
    if len(parts) != width + 1 or not all(map(_NUMBER.fullmatch, parts[1:])):
        parts = text.rsplit(None, width)
    if not text.strip():
        return "empty line"
    if len(parts) <= width:
        return "too few values"
    key, values = parts[0], parts[1:]
    if not all(map(_NUMBER.fullmatch, values)):
        # With a key of one word, a value that is no number may also be a value too few.
        return "a value is not a number"
    spare = key.split()[1:]
    if spare and all(map(_NUMBER.fullmatch, spare)):
        return "too many values"
    return key, [float(value) for value in values]
