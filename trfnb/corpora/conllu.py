"""CoNLL-U: https://universaldependencies.org/format.html ."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from conllu.parser import parse_dict_value

from trfnb.corpora.columns import LABEL, Block, blocks, read_text, spans_from_labels
from trfnb.corpora.corpus import BadSentenceError, Reading, Sentence

_UPOS = (
    "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X _"  # _: none
)
_EMPTY_NODE = re.compile(r"\d+\.\d+")
# Keys under which tools write entity labels to MISC; spaCy's converter reads "name" and "NE".
_NER_KEYS = ("NER", "NE", "NAME")

Row = list[str]


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
    sentences = reading.collect(path, blocks(read_text(path), all_hashes=True), _sentence)
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


def _sentence(block: Block) -> Sentence:
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


def _words(block: Block) -> tuple[list[int], list[Row], list[tuple[int, int, Row]]]:
    """Return the words' lines and rows, and multiword tokens as (start, end, row)."""
    lines: list[int] = []
    rows: list[Row] = []
    joined: list[tuple[int, int, Row]] = []
    upos = _UPOS.split()
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
            if row[3] not in upos:
                raise BadSentenceError(
                    "one of the 17 UPOS tags", repr(row[3]), "unknown UPOS", line
                )
            lines.append(line)
            rows.append(row)
        elif first == str(following) and last.isdecimal() and int(last) > following:
            joined.append((following - 1, int(last), row))
        elif not _EMPTY_NODE.fullmatch(row[0]):
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


def _misc(row: Row) -> dict[str, str | None]:
    return parse_dict_value(row[9]) or {}


def _label(misc: dict[str, str | None]) -> str | None:
    for key, value in misc.items():
        if key.upper() in _NER_KEYS and (key == "NER" or LABEL.fullmatch(value or "")):
            return value or "O"
        if value == "" and LABEL.fullmatch(key):
            return key
    return None


def _heads(lines: list[int], rows: list[Row]) -> tuple[int, ...] | None:
    if all(row[6] == "_" for row in rows):
        return None
    heads = []
    for i, row in enumerate(rows):
        if not row[6].isdecimal() or int(row[6]) > len(rows) or int(row[6]) == i + 1:
            raise BadSentenceError(
                f"as HEAD of word {i + 1} a number from 0 to {len(rows)} but its own",
                repr(row[6]),
                "bad head",
                lines[i],
            )
        heads.append(int(row[6]) - 1 if int(row[6]) else i)
    if fault := tree_fault(heads):
        raise BadSentenceError(
            "one tree with one root over the sentence that starts here", fault, "no tree"
        )
    return tuple(heads)
