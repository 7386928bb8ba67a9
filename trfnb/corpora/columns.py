"""Entity labels in columns, a token per line: IOB, IOB2, BIOES, BILUO and BMES files."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trfnb.corpora.corpus import SPANS_KEY, CorpusError, Reading, Sentence, Span, read_bytes

LABEL = re.compile(r"O|[BIESLUM]-\S+")

# "# key = value" (the equals sign tells a comment from a row whose token is "#"), "# newdoc", the
# comments of MultiCoNER ("# id 5e2a domain=en") and GermEval ("#<TAB>http://… [2009-10-17]"), and
# CoNLL-2003's mark of a document.
_COMMENT = re.compile(
    r"#\s*(?:(?P<key>[\w.:-]+(?: id)?)\s*=\s*(?P<value>.*)|(?P<bare>newdoc|newpar)\s*"
    r"|id (?P<id>\S+).*|(?P<source>https?://\S+).*)|(?P<start>-DOCSTART-).*"
)
_BLANKS = re.compile(r"[ \t]+")
_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
# Phrases of CoNLL-2000, which stand beside the entities of CoNLL-2003.
_CHUNKS = {"ADJP", "ADVP", "CONJP", "INTJ", "LST", "NP", "PP", "PRT", "SBAR", "UCP", "VP"}


def read_text(path: str | Path) -> str:
    """Return a file's text, which must be UTF-8.

    Raises:
        CorpusError: the file cannot be read, is empty, or is not UTF-8.
    """
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise CorpusError(
            path,
            line=None if utf16 else data.count(b"\n", 0, error.start) + 1,
            expected="UTF-8 text",
            got="UTF-16 text" if utf16 else f"the byte 0x{data[error.start]:02x}",
            hint=f"Convert the file, e.g. `iconv -f {'UTF-16' if utf16 else 'LATIN1'} -t UTF-8`",
        ) from error
    if not text.strip():
        raise CorpusError(
            path, expected="annotated sentences", got="an empty file", hint="Check the path"
        )
    return text


def read_lines(path: str | Path) -> list[str]:
    r"""Return a UTF-8 file's lines, split at ``\n`` and ``\r\n`` only."""
    return [line.removesuffix("\r") for line in read_text(path).split("\n")]


@dataclass
class Block:
    """One sentence's lines: comments by key, numbered rows, and the document it is from."""

    comments: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[int, str]] = field(default_factory=list)
    doc_id: str | None = None


def blocks(lines: list[str], *, all_hashes: bool = False) -> Iterator[Block]:
    """Yield the blocks between blank lines that have at least one row.

    ``# newdoc``, ``-DOCSTART-`` and GermEval's source lines begin a document.

    Args:
        lines: The file's lines.
        all_hashes: Take every line that starts with ``#`` as a comment, as CoNLL-U does.
    """
    block, count = Block(), 0
    for number, line in enumerate([*lines, ""], start=1):
        if match := _COMMENT.fullmatch(line):
            key, value = match["key"] or match["bare"] or "sent_id", match["value"] or match["id"]
            if match["start"] or match["source"]:
                key, value = "newdoc", match["source"]
            block.comments[key] = (value or "").strip()
            if key in ("newdoc", "newdoc id"):
                count += 1
                block.doc_id = value or f"doc{count}"
        elif line.strip() and not (all_hashes and line.startswith("#")):
            block.rows.append((number, line))
        elif block.rows and not line.strip():
            yield block
            block = Block(doc_id=block.doc_id)


def spans_from_labels(labels: Sequence[str]) -> tuple[Span, ...]:
    """Return the entities that IOB1, IOB2, BIOES, BILUO or BMES labels spell out.

    An ``I-`` that follows no entity of its type begins one (IOB1 writes so). ``B-O``, which some
    annotation tools leave behind when an annotation was withdrawn, is outside.

    Raises:
        ValueError: a label is of none of these schemes; names the position, from 0.
    """
    spans: list[Span] = []
    start, open_type = 0, ""
    for i, label in enumerate(labels):
        if not LABEL.fullmatch(label):
            raise ValueError(f"token {i} is labelled {label!r}, not O, B-TYPE or I-TYPE")
        prefix, _, kind = label.partition("-")
        kind = "" if kind == "O" else kind
        if open_type and (prefix in "BSU" or kind != open_type):
            spans.append((start, i, open_type))
            open_type = ""
        if kind and not open_type:
            start, open_type = i, kind
        if open_type and prefix in "ESLU":
            spans.append((start, i + 1, open_type))
            open_type = ""
    if open_type:
        spans.append((start, len(labels), open_type))
    return tuple(spans)


@dataclass(frozen=True)
class Layout:
    """Where a column file keeps what.

    Attributes:
        tabs: Whether tabs alone stand between columns, rather than any blanks.
        width: Number of columns; where tabs delimit, of the shortest rows.
        word: Index of the word.
        labels: Indices of the label columns.
        prefixed: Whether labels begin with B-, I- and so on.
    """

    tabs: bool
    width: int = 0
    word: int = 0
    labels: tuple[int, ...] = ()
    prefixed: bool = True

    def split(self, row: str) -> list[str]:
        """Return a row's columns."""
        return row.split("\t") if self.tabs else _BLANKS.split(row.strip(" \t"))


def read_columns(path: str | Path, reading: Reading) -> list[Sentence]:
    """Read a file with a token per line, its entity label in some column, blank lines between.

    Delimiter and columns are found by looking: tabs if the rows have them, else blanks; the word
    comes first, or second after running numbers; the label column is the one that holds nothing
    but entity labels (phrases as in CoNLL-2003 aside). Several label columns, asked for by
    ``column=[2, 3]``, give spans that may overlap, and the first of them the entities.

    Raises:
        CorpusError: none, several or an unknown label column; a bad sentence, unless it is to be
            skipped.
    """
    lines = read_lines(path)
    found = list(blocks(lines))
    named = _COMMENT.fullmatch(lines[0])
    names = named["value"].split() if named and named["key"] == "global.columns" else []
    layout = _layout(path, found, names, reading)
    sentences: list[Sentence] = []
    for block in found:
        try:
            sentences.append(_sentence(path, block, layout))
        except CorpusError as error:
            reading.meet(error)
    return sentences


def _layout(path: str | Path, found: list[Block], names: list[str], reading: Reading) -> Layout:
    rows = [row for block in found for _, row in block.rows]
    tabs = sum("\t" in row for row in rows) > 0.9 * len(rows)
    table = [Layout(tabs).split(row) for row in rows]
    # A few damaged rows must not hide a column that all others have.
    widths = sorted(len(row) for row in table) or [0]
    width = widths[len(widths) // 50] if tabs else Counter(widths).most_common(1)[0][0]
    firsts = {Layout(tabs).split(block.rows[0][1])[0] for block in found}
    word = int(width > 2 and firsts <= {"0", "1"})
    columns = {i: [row[i] for row in table if len(row) > i] for i in range(word + 1, width)}
    kinds = {i: types for i, cells in columns.items() if (types := _kinds(cells)) is not None}
    known = f"columns 0 to {width - 1}" + (f" named {', '.join(names)}" if names else " (unnamed)")
    hint = "Pass column=INDEX with the label column's index, from 0"
    if reading.column is not None:
        asked = [reading.column] if isinstance(reading.column, int | str) else reading.column
        indices = [names.index(c) if isinstance(c, str) and c in names else c for c in asked]
        if wrong := [c for c in indices if isinstance(c, str) or not -width <= c < width]:
            raise CorpusError(path, expected=f"a column {wrong[0]!r}", got=known, hint=hint)
        chosen = [int(c) % width for c in indices]
    else:
        # Phrases, and a column of O alone, are labels only where nothing else is.
        chosen = [i for i, types in kinds.items() if types - _CHUNKS]
        chosen = chosen or [i for i, types in kinds.items() if types] or list(kinds)
        chosen = chosen or [i for i, cells in columns.items() if _are_plain(cells)]
    if len(chosen) != 1 and reading.column is None:
        several = f"columns {', '.join(map(str, chosen))} with labels, of {known}"
        raise CorpusError(
            path,
            expected="one column of entity labels (O, B-TYPE, I-TYPE)",
            got=several if chosen else known,
            hint=f"{hint}, or column=[INDEX, …] for nested spans; a table of texts needs "
            "text_column=INDEX too",
        )
    prefixed = any(i in kinds for i in chosen)
    if not prefixed:
        reading.note(f"{path}: labels have no B- or I-, so neighbours of one type are one entity.")
    return Layout(tabs, width, word, tuple(chosen), prefixed)


def _kinds(cells: list[str]) -> set[str] | None:
    """Return the entity types of a column, or None for a column of something else."""
    labels = [cell for cell in cells if LABEL.fullmatch(cell)]
    return {cell[2:] for cell in labels} - {"", "O"} if len(labels) > 0.9 * len(cells) else None


def _are_plain(cells: list[str]) -> bool:
    return "O" in cells and all(map(_PLAIN.fullmatch, cells))


def _sentence(path: str | Path, block: Block, layout: Layout) -> Sentence:
    words: list[str] = []
    labels: list[list[str]] = [[] for _ in layout.labels]
    for line, row in block.rows:
        cells = layout.split(row)
        fits = len(cells) > max(layout.labels) if layout.tabs else len(cells) == layout.width
        if not fits or not cells[layout.word]:
            raise CorpusError(
                path,
                line=line,
                expected=f"{layout.width} columns, no blanks in words",
                got=f"{len(cells)}: {row[:40]!r}",
                reason="malformed line",
            )
        words.append(cells[layout.word])
        for column, i in zip(labels, layout.labels, strict=True):
            # Labels without a prefix are read as IOB1, where I- may begin an entity.
            label = cells[i] if layout.prefixed or cells[i] == "O" else f"I-{cells[i]}"
            if not LABEL.fullmatch(label):
                raise CorpusError(
                    path,
                    line=line,
                    expected=f"an entity label (O, B-TYPE, I-TYPE) in column {i}",
                    got=repr(cells[i][:40]),
                    hint='Correct it, pass column=INDEX, or on_error="skip"',
                    reason="unknown entity label",
                )
            column.append(label)
    layers = [spans_from_labels(column) for column in labels]
    nested = tuple(sorted({span for spans in layers for span in spans}))
    return Sentence(
        words=tuple(words),
        spaces=(True,) * len(words),
        ents=layers[0],
        spans={SPANS_KEY: nested} if len(layers) > 1 else None,
        sent_id=block.comments.get("sent_id"),
        doc_id=block.doc_id,
    )
