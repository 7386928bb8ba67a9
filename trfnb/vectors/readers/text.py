"""Vectors as text: fastText's .vec, word2vec, GloVe (no header) and floret."""

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from trfnb.vectors.blocks import Block
from trfnb.vectors.readers.rows import Rows, parse
from trfnb.vectors.readers.source import FloretSettings, Source
from trfnb.vectors.readers.sources import Stream
from trfnb.vectors.report import Report, VectorsError

_BOM = b"\xef\xbb\xbf"
_BYTES = 2 << 20
_LONGEST_LINE = 16 << 20
_SAMPLE = 50
_AHEAD = 4


@dataclass(frozen=True)
class Layout:
    """How a text lays its table out.

    Attributes:
        width: values a line.
        delimiter: a space or a tab.
        header: lines before the first row, 0 or 1.
        declared: rows the header promises, None without one.
        floret: set for a floret table.
    """

    width: int
    delimiter: bytes
    header: int
    declared: int | None = None
    floret: FloretSettings | None = None


def find_layout(head: bytes, name: str, report: Report) -> Layout:
    """Tell a text table's layout from its first lines.

    Raises:
        VectorsError: no line of them looks like a key and its values.
    """
    lines = [line.rstrip(b" \t\r") for line in head.split(b"\n")[: _SAMPLE + 1]]
    first = lines[0].split() if lines else []
    whole = [part.isdigit() for part in first]
    header = len(first) == 2 and all(whole)
    floret = len(first) == 8 and all(whole[:6])
    rows = lines[1:] if header or floret else lines
    rows = [row for row in rows if row.strip()]
    if len(rows) > 1 and not head.endswith(b"\n") and len(lines) <= _SAMPLE:
        rows = rows[:-1]
    delimiter = b"\t" if rows and rows[0].count(b"\t") > rows[0].count(b" ") else b" "
    counts = Counter(row.count(delimiter) for row in rows)
    width = counts.most_common(1)[0][0] if counts else 0
    if header or floret:
        said = int(first[1])
        # Keys with spaces can outnumber plain ones in the sample; the header then settles it.
        if said != width and said > 0 and counts.get(said, 0) * 5 >= sum(counts.values()):
            width = said
        if said != width and width:
            report.note(f"the header says width {said}, the rows have {width}")
    if not width:
        raise VectorsError(
            f"{name}: expected lines of a key and its values, found none in the first "
            f"{len(head):,} bytes. Name the format if it is not text."
        )
    if floret:
        minn, maxn, hash_count, hash_seed = (int(part) for part in first[2:6])
        bow, eow = (part.decode("utf8", "replace") for part in first[6:8])
        settings = FloretSettings(minn, maxn, hash_count, hash_seed, bow, eow)
        return Layout(width, delimiter, 1, int(first[0]), settings)
    return Layout(width, delimiter, int(header), int(first[0]) if header else None)


def read_text(stream: Stream, report: Report, *, threads: int = 2) -> Source:
    """Read a text table; rows that do not fit are skipped and reported by line number."""
    if stream.peek(3) == _BOM:
        stream.read(3)
    layout = find_layout(stream.peek(1 << 18), stream.name, report)
    kind = "floret" if layout.floret else "text with header" if layout.header else "text (GloVe)"
    blocks = _blocks(stream, layout, report, threads)
    return Source(kind, layout.width, blocks, floret=layout.floret)


def _blocks(stream: Stream, layout: Layout, report: Report, threads: int) -> Iterator[Block]:
    line = first = 1 + layout.header
    if layout.header:
        _drop_line(stream)
    pending: deque[Future[Rows]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for data in _stretches(stream, report):
            # Lines are numbered when their turn comes: to count them here would hold up the pool.
            pending.append(pool.submit(parse, data, 0, layout.width, layout.delimiter))
            if len(pending) >= _AHEAD:
                rows = pending.popleft().result()
                yield from _told(rows, line, report)
                line += rows.lines
        while pending:
            rows = pending.popleft().result()
            yield from _told(rows, line, report)
            line += rows.lines
    seen = line - first
    if layout.declared is not None and layout.declared != seen:
        report.note(f"the header says {layout.declared:,} rows, the file has {seen:,}")


def _told(rows: Rows, line: int, report: Report) -> Iterator[Block]:
    """Report problems and yield blocks, with line numbers that begin at ``line``."""
    for reason, place, example in rows.problems:
        report.skip(reason, line + place, example)
    for block in rows.blocks:
        yield replace(block, lines=block.lines + line)


def _drop_line(stream: Stream) -> None:
    while byte := stream.read(1):
        if byte == b"\n":
            return


def _stretches(stream: Stream, report: Report) -> Iterator[bytes]:
    """Yield the stream as stretches of whole lines."""
    rest = b""
    while data := stream.read(_BYTES):
        cut = data.rfind(b"\n") + 1
        if not cut:
            rest += data
            if len(rest) > _LONGEST_LINE:
                raise VectorsError(
                    f"{stream.name}: expected lines of text, found one of more than "
                    f"{_LONGEST_LINE >> 20} MB. Name the format if it is not text."
                )
            continue
        yield b"".join((rest, memoryview(data)[:cut]))
        rest = data[cut:]
    if rest:
        yield rest
