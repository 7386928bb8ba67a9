"""One token per line: CoNLL-U, and columns of entity labels in IOB, IOB2, BIOES, BILUO or BMES.

CoNLL-U: https://universaldependencies.org/format.html .
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from conllu.parser import parse_dict_value

from trfnb.corpora.corpus import (
    BadSentenceError,
    CorpusError,
    Reading,
    Sentence,
    Span,
    read_bytes,
)

LABEL = re.compile(r"O|[BIESLUM]-\S+")
_PLAIN = re.compile(r"[A-Za-z][\w./-]*")  # a label without a prefix
_OTHER = re.compile(r"(?i)[BIESLUM][-_].+|.+-[BIESLUM]|_")  # other ways to write a label

# "# key = value" (the equals sign tells a comment from a row whose token is "#"), "# newdoc", the
# comments of MultiCoNER ("# id 5e2a domain=en") and GermEval ("#<TAB>http://… [2009-10-17]"), and
# CoNLL-2003's mark of a document.
_COMMENT = re.compile(
    r"#\s*(?:(?P<key>[\w.:-]+(?: id)?)\s*=\s*(?P<value>.*)|(?P<bare>newdoc|newpar)\s*"
    r"|id (?P<id>\S+).*|(?P<source>https?://\S+).*)|(?P<start>-DOCSTART-).*"
)
_UPOS = re.compile(
    "ADJ|ADP|ADV|AUX|CCONJ|DET|INTJ|NOUN|NUM|PART|PRON|PROPN|PUNCT|SCONJ|SYM|VERB|X|_"
)
# Keys under which tools write entity labels to MISC; spaCy's converter reads "name" and "NE".
_NER_KEYS = ("NER", "NE", "NAME")
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
class LineBlock:
    """One sentence's lines: comments by key, numbered rows, and the document it is from."""

    comments: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[int, str]] = field(default_factory=list)
    doc_id: str | None = None


def blocks(text: str, *, all_hashes: bool = False) -> Iterator[tuple[int, LineBlock]]:
    r"""Yield the blocks between blank lines that have rows, each with its first row's number.

    ``# newdoc``, ``-DOCSTART-`` and GermEval's source lines begin a document. Only ``\n`` and
    ``\r\n`` end a line.

    Args:
        text: The file's text.
        all_hashes: Take every line that starts with ``#`` as a comment, as CoNLL-U does.
    """
    block, count = LineBlock(), 0
    for number, ended in enumerate([*text.split("\n"), ""], start=1):
        line = ended.removesuffix("\r")
        match = _COMMENT.fullmatch(line)
        if match and (all_hashes or not (match["key"] and "\t" in line)):
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
            block = LineBlock(doc_id=block.doc_id)


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
        if not LABEL.fullmatch(str(label)):
            raise BadSentenceError(
                "an entity label (O, B-TYPE, I-TYPE)",
                f"{str(label)[:40]!r} for word {i + 1}",
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
    numbered = list(blocks(read_text(path)))
    if not numbered:
        return []
    rows = [row for _, block in numbered for _, row in block.rows]
    tabs = sum("\t" in row for row in rows) > 0.9 * len(rows)
    split = re.compile(r"\t" if tabs else r"[ \t]+").split
    table = [split(row.strip(" ")) for row in rows]
    width = Counter(map(len, table)).most_common(1)[0][0]
    firsts = {split(block.rows[0][1].strip(" "))[0] for _, block in numbered}
    word = int(width > 2 and firsts <= {"0", "1"})
    label, prefixed = _label_column(path, table, range(word + 1, width), reading)

    def sentence(block: LineBlock) -> Sentence:
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
            labels.append(cells[label] if prefixed or cells[label] == "O" else f"I-{cells[label]}")
        return Sentence(
            words=tuple(words),
            spaces=(True,) * len(words),
            ents=spans_from_labels(labels, [line for line, _ in block.rows]),
            sent_id=block.comments.get("sent_id"),
            doc_id=block.doc_id,
        )

    return reading.collect(path, numbered, sentence)


# Return the label column's index, and whether its labels begin with B-, I- and so on.
def _label_column(
    path: str | Path, table: list[list[str]], indices: range, reading: Reading
) -> tuple[int, bool]:
    columns = {i: [row[i] for row in table if len(row) > i] for i in indices}
    kinds = {i: types for i, cells in columns.items() if (types := _kinds(cells)) is not None}
    asked, expected = reading.column, "one column of entity labels (O, B-TYPE, I-TYPE)"
    if asked is None:
        # Phrases, and a column of O alone, are labels only where nothing else is.
        chosen = [i for i, types in kinds.items() if types - _CHUNKS]
        chosen = chosen or [i for i, types in kinds.items() if types] or list(kinds)
        chosen = chosen or [
            i
            for i, cells in columns.items()
            if "O" in cells and all(_PLAIN.fullmatch(cell) for cell in cells)
        ]
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
        for cell in columns[chosen[0]]:
            if _OTHER.fullmatch(cell):
                raise CorpusError(
                    path,
                    expected="labels as O and B-TYPE, or as O and TYPE",
                    got=repr(cell),
                    hint="Write the file's labels so",
                )
        reading.notes.append(
            f"{path}: labels have no B- or I-, so neighbours of one type are one entity."
        )
    return chosen[0], prefixed


def _kinds(cells: list[str]) -> set[str] | None:
    labels = [cell for cell in cells if LABEL.fullmatch(cell)]
    return {cell[2:] for cell in labels} - {"", "O"} if len(labels) > 0.9 * len(cells) else None


def read_conllu(path: str | Path, reading: Reading) -> list[Sentence]:
    """Read a CoNLL-U file's syntactic words.

    The words of a multiword token (``1-2 didn't``) stand without a space between them where
    together they spell it, and as words of their own where they do not (``1-2 du``: ``de le``).
    Empty nodes (``8.1``) are left out. Entities come from MISC (``NER=B-PER``, ``name=B-PER``,
    ``ner=S-PER`` or a bare ``B-PER``), a text category from the comment ``# category = NAME``.

    The conllu package parses MISC. Its reader of sentences takes rows of any number of columns,
    splits at double blanks and knows no line numbers, so rows are split here.

    Raises:
        CorpusError: a file that cannot be read; a bad sentence, unless it is to be skipped.
    """
    sentences = reading.collect(path, blocks(read_text(path), all_hashes=True), _conllu_sentence)
    # A sentence without any NER= or FEATS in a file that has them has none, rather than unknown.
    if any(s.ents is not None for s in sentences):
        sentences = [s if s.ents is not None else replace(s, ents=()) for s in sentences]
    if not any(any(s.morphs or ()) for s in sentences):
        sentences = [replace(s, morphs=None) for s in sentences]
    return sentences


def tree_fault(heads: Sequence[int]) -> str | None:
    """Return what keeps heads from forming one rooted tree, or ``None`` if they do.

    Args:
        heads: Index of each token's head, from 0; a root is its own head. All within range.
    """
    from spacy.pipeline._parser_internals.nonproj import contains_cycle

    roots = [str(i + 1) for i, head in enumerate(heads) if head == i]
    if len(roots) != 1:
        return f"{len(roots)} roots (words {', '.join(roots)})" if roots else "no root"
    if cycle := contains_cycle(list(heads)):
        return f"a cycle through words {', '.join(str(i + 1) for i in sorted(cycle))}"
    return None


def _conllu_sentence(block: LineBlock) -> Sentence:
    lines, rows, joined = _words(block)
    misc = [_misc(row) for row in rows]
    spaces = [values.get("SpaceAfter") != "No" for values in misc]
    for start, end, row in joined:
        spelled = "".join(row[1] for row in rows[start:end]) == row[1]
        spaces[start : end - 1] = [not spelled] * (end - start - 1)
        spaces[end - 1] = _misc(row).get("SpaceAfter") != "No"
    labels = [_label(values) for values in misc]
    ents = spans_from_labels([label or "O" for label in labels], lines)
    heads = _heads(lines, rows)
    deps = ["ROOT" if h == i else rows[i][7] for i, h in enumerate(heads or ())]
    pos = [row[3].replace("_", "") for row in rows]
    tags = [row[4] if row[4] != "_" else p for row, p in zip(rows, pos, strict=True)]
    # A lone underscore is a lemma where it is also the form.
    lemmas = ["" if row[2] == "_" != row[1] else row[2] for row in rows]
    category = block.comments.get("category")
    return Sentence(
        words=tuple(row[1] for row in rows),
        spaces=tuple(spaces),
        tags=tuple(tags) if any(tags) else None,
        pos=tuple(pos) if any(pos) else None,
        morphs=tuple("" if row[5] == "_" else row[5] for row in rows),
        lemmas=tuple(lemmas) if any(lemmas) else None,
        heads=heads,
        deps=tuple(deps) or None,
        ents=ents if any(label is not None for label in labels) else None,
        cats={category: 1.0} if category else None,
        sent_id=block.comments.get("sent_id"),
        doc_id=block.doc_id,
    )


# Return the words' lines and rows, and multiword tokens as (start, end, row).
def _words(block: LineBlock) -> tuple[list[int], list[list[str]], list[tuple[int, int, list[str]]]]:
    lines, rows = list[int](), list[list[str]]()
    joined: list[tuple[int, int, list[str]]] = []
    for line, text in block.rows:
        row, following = text.split("\t"), len(rows) + 1
        if len(row) != 10 or not row[1]:
            raise BadSentenceError(
                "10 columns with a tab between them, and a form",
                f"{len(row)}: {text[:40]!r}",
                "malformed line",
                line,
            )
        first, _, last = row[0].partition("-")
        if row[0] == str(following):
            if not _UPOS.fullmatch(row[3]):
                raise BadSentenceError(
                    "one of the 17 UPOS tags", repr(row[3]), "unknown UPOS", line
                )
            lines.append(line)
            rows.append(row)
        elif first == str(following) and last.isdecimal() and int(last) > following:
            joined.append((following - 1, int(last), row))
        elif not re.fullmatch(r"\d+\.\d+", row[0]):
            raise BadSentenceError(
                f"the word with ID {following}", f"ID {row[0]!r}", "word ids out of order", line
            )
    needed = joined[-1][1] if joined else 1
    if len(rows) < needed:
        raise BadSentenceError(
            f"words 1 to {needed} in the sentence that starts here",
            f"{len(rows)} words",
            "word ids out of order",
        )
    return lines, rows, joined


def _misc(row: list[str]) -> dict[str, str | None]:
    return parse_dict_value(row[9]) or {}


def _label(misc: dict[str, str | None]) -> str | None:
    for key, value in misc.items():
        if key.upper() in _NER_KEYS and (key == "NER" or LABEL.fullmatch(value or "")):
            return value or "O"
        if value == "" and LABEL.fullmatch(key):
            return key
    return None


def _heads(lines: list[int], rows: list[list[str]]) -> tuple[int, ...] | None:
    if all(row[6] == "_" for row in rows):
        return None
    for i, row in enumerate(rows):
        if not row[6].isdecimal() or int(row[6]) > len(rows) or int(row[6]) == i + 1:
            raise BadSentenceError(
                f"as HEAD of word {i + 1} a number from 0 to {len(rows)} but its own",
                repr(row[6]),
                "bad head",
                lines[i],
            )
    heads = tuple(int(row[6]) - 1 if int(row[6]) else i for i, row in enumerate(rows))
    if fault := tree_fault(heads):
        raise BadSentenceError(
            "one tree with one root over the sentence that starts here", fault, "no tree"
        )
    return heads
