"""Entity labels in columns, a token per line: IOB, IOB2, BIOES, BILUO and BMES files."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trfnb.corpora.corpus import (
    BadSentenceError,
    CorpusError,
    Reading,
    Sentence,
    Span,
    read_bytes,
)

LABEL = re.compile(r"O|[BIESLUM]-\S+")

# "# key = value" (the equals sign tells a comment from a row whose token is "#"), "# newdoc", the
# comments of MultiCoNER ("# id 5e2a domain=en") and GermEval ("#<TAB>http://… [2009-10-17]"), and
# CoNLL-2003's mark of a document.
_COMMENT = re.compile(
    r"#\s*(?:(?P<key>[\w.:-]+(?: id)?)\s*=\s*(?P<value>.*)|(?P<bare>newdoc|newpar)\s*"
    r"|id (?P<id>\S+).*|(?P<source>https?://\S+).*)|(?P<start>-DOCSTART-).*"
)
_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
# Phrases of CoNLL-2000, which stand beside the entities of CoNLL-2003.
_CHUNKS = {"ADJP", "ADVP", "CONJP", "INTJ", "LST", "NP", "PP", "PRT", "SBAR", "UCP", "VP"}


def read_text(path: str | Path) -> str:
    """Return a file's text, which must be UTF-8.

    Raises:
        CorpusError: the file cannot be read, or is not UTF-8.
    """
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            path,
            line=data.count(b"\n", 0, error.start) + 1,
            expected="UTF-8 text",
            got=f"the byte 0x{data[error.start]:02x}",
            hint="Convert the file, e.g. `iconv -f LATIN1 -t UTF-8` (or `-f UTF-16`)",
        ) from error


@dataclass
class Block:
    """One sentence's lines: comments by key, numbered rows, and the document it is from."""

    comments: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[int, str]] = field(default_factory=list)
    doc_id: str | None = None


def blocks(text: str, *, all_hashes: bool = False) -> Iterator[tuple[int, Block]]:
    r"""Yield the blocks between blank lines that have rows, each with its first row's number.

    ``# newdoc``, ``-DOCSTART-`` and GermEval's source lines begin a document. Only ``\n`` and
    ``\r\n`` end a line.

    Args:
        text: The file's text.
        all_hashes: Take every line that starts with ``#`` as a comment, as CoNLL-U does.
    """
    block, count = Block(), 0
    for number, ended in enumerate([*text.split("\n"), ""], start=1):
        line = ended.removesuffix("\r")
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
            yield block.rows[0][0], block
            block = Block(doc_id=block.doc_id)


def spans_from_labels(labels: Sequence[str], lines: Sequence[int] = ()) -> tuple[Span, ...]:
    """Return the entities that IOB1, IOB2, BIOES, BILUO or BMES labels spell out.

    An ``I-`` that follows no entity of its type begins one (IOB1 writes so). ``B-O``, which some
    annotation tools leave behind when an annotation was withdrawn, is outside.

    Args:
        labels: One label per token.
        lines: The tokens' lines, for the error.

    Raises:
        BadSentenceError: a label is of none of these schemes.
    """
    spans: list[Span] = []
    unfinished = False
    for i, label in enumerate(labels):
        if not LABEL.fullmatch(label):
            raise BadSentenceError(
                "an entity label (O, B-TYPE, I-TYPE)",
                f"{label[:40]!r} for word {i + 1}",
                "unknown entity label",
                lines[i] if lines else None,
            )
        prefix, _, kind = label.partition("-")
        outside = kind in ("", "O")
        if unfinished and kind == spans[-1][2] and prefix not in "BSU":
            spans[-1] = (spans[-1][0], i + 1, kind)
        elif not outside:
            spans.append((i, i + 1, kind))
        unfinished = not outside and prefix not in "ELSU"
    return tuple(spans)


def read_columns(path: str | Path, reading: Reading) -> list[Sentence]:
    """Read a file with a token per line, its entity label in some column, blank lines between.

    Delimiter and columns are found by looking: tabs if the rows have them, else blanks; the word
    comes first, or second after running numbers; the label column is the one that holds nothing
    but entity labels (phrases as in CoNLL-2003 aside), or the one asked for by its index.

    Raises:
        CorpusError: none, several or an unknown label column; a bad sentence, unless it is to be
            skipped.
    """
    found = list(blocks(read_text(path)))
    if not found:
        return []
    rows = [row for _, block in found for _, row in block.rows]
    tabs = sum("\t" in row for row in rows) > 0.9 * len(rows)
    split = re.compile(r"\t" if tabs else r"[ \t]+").split
    table = [split(row.strip(" ")) for row in rows]
    width = Counter(map(len, table)).most_common(1)[0][0]
    firsts = {split(block.rows[0][1].strip(" "))[0] for _, block in found}
    word = int(width > 2 and firsts <= {"0", "1"})
    label, prefixed = _label_column(path, table, range(word + 1, width), reading)

    def sentence(block: Block) -> Sentence:
        words, labels = [], []
        for line, row in block.rows:
            cells = split(row.strip(" "))
            fits = len(cells) > label if tabs else len(cells) == width
            if not fits or not cells[word]:
                raise BadSentenceError(
                    f"{width} columns, no blanks in words",
                    f"{len(cells)}: {row[:40]!r}",
                    "malformed line",
                    line,
                )
            words.append(cells[word])
            # Labels without a prefix are read as IOB1, where I- may begin an entity.
            plain = prefixed or cells[label] == "O"
            labels.append(cells[label] if plain else f"I-{cells[label]}")
        return Sentence(
            words=tuple(words),
            spaces=(True,) * len(words),
            ents=spans_from_labels(labels, [line for line, _ in block.rows]),
            sent_id=block.comments.get("sent_id"),
            doc_id=block.doc_id,
        )

    return reading.collect(path, found, sentence)


def _label_column(
    path: str | Path, table: list[list[str]], indices: range, reading: Reading
) -> tuple[int, bool]:
    """Return the label column's index, and whether its labels begin with B-, I- and so on."""
    columns = {i: [row[i] for row in table if len(row) > i] for i in indices}
    kinds = {i: types for i, cells in columns.items() if (types := _kinds(cells)) is not None}
    asked, expected = reading.column, "one column of entity labels (O, B-TYPE, I-TYPE)"
    if asked is None:
        # Phrases, and a column of O alone, are labels only where nothing else is.
        chosen = [i for i, types in kinds.items() if types - _CHUNKS]
        chosen = chosen or [i for i, types in kinds.items() if types] or list(kinds)
        chosen = chosen or [i for i, cells in columns.items() if _are_plain(cells)]
    else:
        expected = f"a column {asked!r} right of the words"
        chosen = [i for i in indices if asked in (i, i - indices.stop)]
    if len(chosen) != 1:
        some = f"columns {', '.join(map(str, chosen))} with labels, of " if chosen else ""
        raise CorpusError(
            path,
            expected=expected,
            got=f"{some}columns 0 to {indices.stop - 1}",
            hint="Pass column=INDEX with the label column's index, from 0; a table of texts needs "
            "text_column=INDEX too",
        )
    prefixed = chosen[0] in kinds
    if not prefixed:
        reading.notes.append(
            f"{path}: labels have no B- or I-, so neighbours of one type are one entity."
        )
    return chosen[0], prefixed


def _kinds(cells: list[str]) -> set[str] | None:
    """Return the entity types of a column, or None for a column of something else."""
    labels = [cell for cell in cells if LABEL.fullmatch(cell)]
    return {cell[2:] for cell in labels} - {"", "O"} if len(labels) > 0.9 * len(cells) else None


def _are_plain(cells: list[str]) -> bool:
    return "O" in cells and all(map(_PLAIN.fullmatch, cells))
