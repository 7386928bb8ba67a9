"""Entity labels in columns: IOB, IOB2, BIOES, BILUO files, with or without ids and comments."""

from dataclasses import dataclass
from pathlib import Path

from trfnb.corpora.errors import FIX_OR_SKIP, CorpusError, Problems
from trfnb.corpora.iob import LABEL, spans_from_labels
from trfnb.corpora.lines import Block, blocks, comment, document_of, read_lines
from trfnb.corpora.sentence import Sentence


@dataclass(frozen=True)
class Layout:
    """Where a column file keeps what: the delimiter (``None``: any white space) and two columns."""

    delimiter: str | None
    word: int
    label: int

    def split(self, line: str) -> list[str]:
        """Return a row's columns."""
        return line.split(self.delimiter)


def read_columns(path: Path, problems: Problems, column: int | str | None = None) -> list[Sentence]:
    """Read a file with a token a line, its entity label in some column, blank lines between.

    Delimiter and columns are found by looking: tabs if every row has one, else white space; the
    word comes first, or second after running numbers; the label is the last column that holds
    nothing but entity labels. ``-DOCSTART-`` rows and ``# newdoc`` begin a document.

    Args:
        path: The file.
        problems: What to do with a bad sentence.
        column: The label column: an index from 0 (negative: from the end of the shortest row),
            or a name that the file gives in a ``# global.columns = …`` line.

    Raises:
        CorpusError: no or an unknown label column; a bad sentence, unless ``problems`` skips it.
    """
    lines = read_lines(path)
    found = list(blocks(lines))
    layout = _layout(path, found, column, _column_names(lines))
    sentences: list[Sentence] = []
    doc_id, count = None, 0
    for block in found:
        marked = [row for row in block.rows if row[1].startswith("-DOCSTART-")]
        if marked:
            count += 1
            doc_id = f"doc{count}"
            block.rows = [row for row in block.rows if row not in marked]
        elif "newdoc" in block.comments or "newdoc id" in block.comments:
            count += 1
            doc_id = document_of(block, doc_id, count)
        if block.rows:
            try:
                sentences.append(_sentence(path, block, layout, doc_id))
            except CorpusError as error:
                problems.meet(error)
    return sentences


def _column_names(lines: list[str]) -> list[str]:
    pair = comment(lines[0])
    return pair[1].split() if pair and pair[0] == "global.columns" else []


def _layout(path: Path, found: list[Block], column: int | str | None, names: list[str]) -> Layout:
    rows = [line for block in found for _, line in block.rows if not line.startswith("-DOCSTART-")]
    delimiter = "\t" if rows and all("\t" in row for row in rows) else None
    table = [row.split(delimiter) for row in rows]
    # A few damaged rows must not hide a column that all others have.
    widths = sorted(len(row) for row in table)
    width = widths[len(widths) // 50] if widths else 0
    word = int(width > 2 and all(b.rows[0][1].split(delimiter)[0] in ("0", "1") for b in found))
    candidates = [
        i
        for i in range(word + 1, width)
        if sum(len(row) > i and bool(LABEL.fullmatch(row[i])) for row in table) > 0.9 * len(table)
    ]
    known = f"columns 0 to {width - 1}" + (f" named {', '.join(names)}" if names else " (unnamed)")
    if column is None and candidates:
        return Layout(delimiter, word, candidates[-1])
    if isinstance(column, str) and column in names:
        return Layout(delimiter, word, names.index(column))
    if isinstance(column, int) and -width <= column < width:
        return Layout(delimiter, word, column % width)
    raise CorpusError(
        path,
        expected="a column of entity labels (O, B-TYPE, I-TYPE)"
        if column is None
        else f"a column {column!r}",
        got=known,
        hint="Pass column=INDEX with the label column's index, from 0",
    )


def _sentence(path: Path, block: Block, layout: Layout, doc_id: str | None) -> Sentence:
    words, labels = [], []
    for line, text in block.rows:
        columns = layout.split(text)
        label = columns[layout.label] if len(columns) > layout.label else None
        if label is None or not columns[layout.word] or not LABEL.fullmatch(label):
            raise CorpusError(
                path,
                line=line,
                expected=f"an entity label (O, B-TYPE, I-TYPE) in column {layout.label}",
                got=f"{text[:60]!r}",
                hint=f"{FIX_OR_SKIP}; column=INDEX chooses another column",
                reason="malformed line" if label is None else "unknown entity label",
            )
        words.append(columns[layout.word])
        labels.append(label)
    return Sentence(
        words=tuple(words),
        spaces=(True,) * len(words),
        ents=spans_from_labels(labels),
        sent_id=block.comments.get("sent_id"),
        doc_id=doc_id,
    )
