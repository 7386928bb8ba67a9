"""Opening a table, packed or not, and tables of text.

Text is fastText's .vec, word2vec's, GloVe's (without a header) or floret's.
"""

import io
import re
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from trfnb.files import unpacked
from trfnb.vectors.blocks import (
    FLORET,
    Block,
    ConversionReport,
    Floats,
    Ints,
    Source,
    VectorsError,
    usable,
)

_BOM = b"\xef\xbb\xbf"
_BYTES = 1 << 20
LONGEST_LINE = 16 << 20
_SAMPLE = 50
_AHEAD = 4
Parsed = tuple[list[str], Floats, Ints, list[tuple[str, int, str]]]
_NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.I)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")


@contextmanager
def open_table(source: str) -> Iterator[IO[bytes]]:
    """Open a path or a URL that fsspec knows, unpacked as its ending says.

    Args:
        source: what to read; ``zip://table.txt::archive.zip`` names one of several in an archive.

    Raises:
        VectorsError: it cannot be read, or a zip archive holds not one table but several.
    """
    try:
        place, kind = unpacked(source)
        with fsspec.open(place, "rb", compression=kind) as file:
            # Some that fsspec opens cannot read a line of some length.
            yield io.BufferedReader(file)
    except VectorsError:
        raise
    except Exception as problem:  # each compression and file system raises its own
        raise VectorsError(
            f"{source}: could not be read: {problem!r}. Check the name; a file or an archive that "
            "is cut off or broken must be fetched again."
        ) from problem


@dataclass(frozen=True)
class Layout:
    """How a text lays its table out.

    Attributes:
        width: values per line.
        delimiter: a tab, or a space; then tabs, such as one behind the key, count as spaces.
        declared: rows the header promises, None without a header.
        begin: bytes before the first row: a byte order mark, a header.
        floret: its settings, see `Source`.
    """

    width: int
    delimiter: bytes = b" "
    declared: int | None = None
    begin: int = 0
    floret: dict[str, Any] | None = None


def read_text(source: str, head: bytes, report: ConversionReport) -> Source:
    """Read a text table; rows that do not fit are skipped and reported by line number."""
    layout = find_layout(head, source)
    kind = "text (GloVe)" if layout.declared is None else "text with header"
    return Source(
        "floret" if layout.floret else kind,
        layout.width,
        _text_blocks(source, layout, report),
        floret=layout.floret,
    )


def find_layout(head: bytes, name: str) -> Layout:
    """Tell a text table's layout from its first whole lines; refuse it if half do not fit."""
    wrong = f"{name}: expected lines of a key and its numbers, "
    if head.startswith(b"version https://git-lfs"):
        raise VectorsError(f"{wrong}found git-lfs's pointer to a file. Run `git lfs pull`.")
    if b"\0" in head:
        raise VectorsError(
            f"{wrong}found binary data at byte {head.index(0):,}. Unpack an archive, convert "
            "UTF-16 (iconv -f UTF-16 -t UTF-8), or name the format."
        )
    lines = head.removeprefix(_BOM).split(b"\n")
    first = lines[0].split()
    header = len(first) in (2, 8) and all(part.isdigit() for part in first[:6])
    rows = [line.strip(b"\r").rstrip(b" \t") for line in lines[header:] if line.strip()][:_SAMPLE]
    if not rows:
        raise VectorsError(f"{wrong}found none in the first {len(head):,} bytes.")
    behind_tab = rows[0].partition(b"\t")[2]
    delimiter = b"\t" if behind_tab and b" " not in behind_tab else b" "
    rows = [row if delimiter == b"\t" else row.replace(b"\t", b" ") for row in rows]
    width, declared = Counter(row.count(delimiter) for row in rows).most_common(1)[0][0], None
    begin, floret = len(head) - len(head.removeprefix(_BOM)), None
    if header:
        width, declared, begin = int(first[1]), int(first[0]), begin + len(lines[0]) + 1
    if header and len(first) == 8:
        marks = [part.decode("utf8", "replace") for part in first[6:]]
        floret = dict[str, Any](zip(FLORET, [*map(int, first[2:6]), *marks], strict=True))
        if not 1 <= floret["hash_count"] <= 4 or floret["maxn"] < floret["minn"]:
            raise VectorsError(f"{name}: expected floret's settings, got {floret}.")
    layout = Layout(width, delimiter, declared, begin, floret)
    # One value is enough only where a header says so.
    found = [_line(row, layout) if width > (not header) else "too few values" for row in rows]
    problems = {i: problem for i, problem in enumerate(found) if isinstance(problem, str)}
    if 2 * len(problems) >= len(found):
        place, problem = next(iter(problems.items()))
        said = f" (the header says {width} values)" if header else ""
        raise VectorsError(f"{wrong}found {rows[place][:40]!r}: {problem}{said}.")
    return layout


def _text_blocks(source: str, layout: Layout, report: ConversionReport) -> Iterator[Block]:
    line, rows = 1 if layout.declared is None else 2, 0
    with open_table(source) as file, ThreadPoolExecutor(2) as pool:
        file.read(layout.begin)
        stretches = iter(lambda: _stretch(file, report), b"")
        pending = deque(pool.submit(parse, data, layout) for data in islice(stretches, _AHEAD))
        while pending:
            keys, vectors, places, problems = pending.popleft().result()
            pending.extend(pool.submit(parse, data, layout) for data in islice(stretches, 1))
            for reason, place, example in problems:
                rows += reason != "empty line"
                report.skip(reason, line + place, example)
            yield usable(keys, vectors, places + line, report)
            rows += len(keys)
            line += len(keys) + len(problems)
    if layout.declared not in (None, rows):
        raise VectorsError(
            f"{source}: the header says {layout.declared:,} rows, the file has {rows:,}: it "
            "is cut off, or line breaks are lost or added. Fetch it again, or mend the header."
        )


# Return the next whole lines, about a megabyte.
def _stretch(file: IO[bytes], report: ConversionReport) -> bytes:
    data = file.read(_BYTES) + file.readline(LONGEST_LINE)
    if len(data) > LONGEST_LINE:
        raise VectorsError(
            f"{report.source}: expected lines of text, found one of more than "
            f"{LONGEST_LINE - _BYTES >> 20} MB. Name the format if it is not text."
        )
    if data and not data.endswith(b"\n"):
        report.measures["rows without a line end; cut off there, their last value is wrong"] = 1
    return data


def parse(data: bytes, layout: Layout) -> Parsed:
    """Read whole lines of ``key value … value``, exactly as Python's float() reads them.

    Whole stretches go through Arrow's CSV reader, as float64 (so that rounding to float32 is the
    same as Python's). Where a line does not fit, the stretch is read line by line, which also finds
    keys that hold the delimiter.

    Returns:
        Keys, their vectors and line numbers, and for each line that does not fit the reason, its
        number and its beginning. Lines are numbered from 0.
    """
    # Some tools end every line by a space.
    data = data.replace(b"\r\n", b"\n").replace(b" \n", b"\n")
    data = data if layout.delimiter == b"\t" else data.replace(b"\t", b" ")
    # Arrow drops a byte order mark wherever it starts to read, and takes a lone \r for a line end.
    if not data.startswith(_BOM) and b"\r" not in data:
        with suppress(pa.ArrowInvalid):
            keys, vectors = _arrow(data, layout)
            return keys, vectors, np.arange(len(keys)), []
    return _line_by_line(data, layout)


def _arrow(data: bytes, layout: Layout) -> tuple[list[str], Floats]:
    names = ["key", *map(str, range(layout.width))]
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
    # One batch: the block is as large as the data, and one thread reads it.
    values = table.remove_column(0).to_batches()[0].to_tensor().to_numpy()
    with np.errstate(over="ignore"):
        vectors = values.astype(np.float32)
    keys = [key.decode("utf8", "surrogateescape") for key in table.column(0).to_pylist()]
    return keys, vectors


def _line_by_line(data: bytes, layout: Layout) -> Parsed:
    keys, rows, places, problems = [], [], [], []
    for place, text in enumerate(data.removesuffix(b"\n").split(b"\n")):
        found = _line(text, layout)
        if isinstance(found, str):
            problems.append((found, place, repr(text[:40])))
        else:
            keys.append(found[0].decode("utf8", "surrogateescape"))
            rows.append(found[1])
            places.append(place)
    with np.errstate(over="ignore"):
        vectors = np.array(rows).reshape(-1, layout.width).astype(np.float32)
    return keys, vectors, np.array(places, dtype=np.int64), problems


def _line(text: bytes, layout: Layout) -> tuple[bytes, list[float]] | str:
    key, *values = text.rstrip(b" \t\r").rsplit(layout.delimiter, layout.width)
    if not text.strip():
        return "empty line"
    if len(values) < layout.width:
        return "too few values"
    if not all(map(_NUMBER.fullmatch, values)):
        return "a value is not a number"
    if key != key.strip(layout.delimiter):
        return "an empty value"
    parts = key.split(b"\t") if layout.delimiter == b"\t" else key.split()
    numbers = [part for part in parts if _NUMBER.fullmatch(part)]
    # A key such as "windows 10" is believed where a header tells the width and no value was torn
    # in two: then all are written alike.
    alike = len({b"." in value or b"e" in value.lower() for value in values}) == 1
    sure = layout.declared is not None and alike and all(map(bytes.isdigit, numbers))
    if len(parts) > 1 and (layout.delimiter == b"\t" or (numbers and not sure)):
        return "too many values"
    return key, [float(value) for value in values]


def looks_like_word2vec(head: bytes) -> bool:
    """Say whether the bytes after a header of two numbers are float32 rather than text."""
    first, _, rest = head.partition(b"\n")
    parts = first.split()
    if len(parts) != 2 or not all(map(bytes.isdigit, parts)) or not _CONTROL.search(rest):
        return False
    # A line of text is a key and numbers; packed floats make such a line by no likely chance.
    fields = (line.split(None, 4)[1:4] for line in rest.split(b"\n")[:20])
    return not any(part and all(map(_NUMBER.fullmatch, part)) for part in fields)
