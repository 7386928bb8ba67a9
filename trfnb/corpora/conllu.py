"""CoNLL-U: https://universaldependencies.org/format.html ."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from conllu.exceptions import ParseException
from conllu.parser import parse_dict_value, parse_id_value

from trfnb.corpora.columns import LABEL, Block, blocks, read_lines, spans_from_labels
from trfnb.corpora.corpus import CorpusError, Reading, Sentence

UPOS = frozenset(
    [
        "ADJ",
        "ADP",
        "ADV",
        "AUX",
        "CCONJ",
        "DET",
        "INTJ",
        "NOUN",
        "NUM",
        "PART",
        "PRON",
        "PROPN",
        "PUNCT",
        "SCONJ",
        "SYM",
        "VERB",
        "X",
        "_",
    ]
)
# Keys under which tools write entity labels to MISC; spaCy's converter reads "name" and "NE".
_NER_KEYS = ("NER", "NE", "NAME")

Row = list[str]


def read_conllu(path: str | Path, reading: Reading) -> list[Sentence]:
    """Read a CoNLL-U file's syntactic words.

    The words of a multiword token (``1-2 didn't``) stand without a space between them where
    together they spell it, and as words of their own where they do not (``1-2 du``: ``de le``).
    Empty nodes (``8.1``) are left out. Entities come from MISC (``NER=B-PER``, ``name=B-PER``,
    ``ner=S-PER`` or a bare ``B-PER``), a text category from the comment ``# category = NAME``.

    The conllu package parses the values. Its reader of sentences takes rows of any number of
    columns, splits at double blanks and knows no line numbers, so rows are split here.

    Raises:
        CorpusError: a file that cannot be read; a bad sentence, unless it is to be skipped.
    """
    sentences: list[Sentence] = []
    for block in blocks(read_lines(path), all_hashes=True):
        try:
            sentences.append(_sentence(block))
        except BadRowError as error:
            line, expected, got, reason = error.args
            first = block.rows[0][0]
            reading.meet(
                CorpusError(path, line=line or first, expected=expected, got=got, reason=reason)
            )
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


class BadRowError(ValueError):
    """A row that cannot be used: its line (or None), what was expected, found, and the reason."""


def _sentence(block: Block) -> Sentence:
    words, joined = _words(block)
    rows = [row for _, row in words]
    misc = [_misc(row) for row in rows]
    spaces = [values.get("SpaceAfter") != "No" for values in misc]
    for start, end, row in joined:
        spelled = "".join(row[1] for row in rows[start:end]) == row[1]
        spaces[start : end - 1] = [not spelled] * (end - start - 1)
        spaces[end - 1] = _misc(row).get("SpaceAfter") != "No"
    labels = [_label(values) for values in misc]
    try:
        ents = spans_from_labels([label or "O" for label in labels])
    except ValueError as error:
        raise BadRowError(
            None,
            "NER= labels O, B-TYPE or I-TYPE in the sentence that starts here",
            str(error),
            "unknown entity label",
        ) from error
    heads = _heads(words)
    roots = [] if heads is None else ["ROOT" if h == i else "" for i, h in enumerate(heads)]
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
        deps=tuple(r or row[7] for r, row in zip(roots, rows, strict=True)) if roots else None,
        ents=ents if any(label is not None for label in labels) else None,
        cats={category: 1.0} if category else None,
        sent_id=block.comments.get("sent_id"),
        doc_id=block.doc_id,
    )


def _words(block: Block) -> tuple[list[tuple[int, Row]], list[tuple[int, int, Row]]]:
    """Return words with their lines, and multiword tokens as (start, end, row), end exclusive."""
    words: list[tuple[int, Row]] = []
    joined: list[tuple[int, int, Row]] = []
    for line, text in block.rows:
        row = text.split("\t")
        if len(row) != 10:
            raise BadRowError(
                line,
                "10 columns with a tab between them",
                f"{len(row)}: {text[:40]!r}",
                "malformed line",
            )
        following = len(words) + 1
        try:
            word_id = parse_id_value(row[0])
        except ParseException:
            word_id = None
        if isinstance(word_id, tuple) and word_id[1] == ".":
            continue
        if isinstance(word_id, tuple) and word_id[0] == following < word_id[2]:
            joined.append((following - 1, word_id[2], row))
        elif word_id != following:
            raise BadRowError(
                line, f"the word with ID {following}", f"ID {row[0]!r}", "word ids out of order"
            )
        elif row[3] not in UPOS:
            raise BadRowError(line, "one of the 17 UPOS tags", repr(row[3]), "unknown UPOS")
        elif not row[1]:
            raise BadRowError(line, "a form", "none", "malformed line")
        else:
            words.append((line, row))
    last = joined[-1][1] if joined else 1
    if len(words) < last:
        raise BadRowError(
            None, f"words 1 to {last}", f"{len(words)} words", "word ids out of order"
        )
    return words, joined


def _misc(row: Row) -> dict[str, str | None]:
    return parse_dict_value(row[9]) or {}


def _label(misc: dict[str, str | None]) -> str | None:
    for key, value in misc.items():
        if key.upper() in _NER_KEYS and (key == "NER" or LABEL.fullmatch(value or "")):
            return value or "O"
        if value == "" and LABEL.fullmatch(key):
            return key
    return None


def _heads(words: list[tuple[int, Row]]) -> tuple[int, ...] | None:
    n = len(words)
    if all(row[6] == "_" for _, row in words):
        return None
    heads = []
    for i, (line, row) in enumerate(words):
        if not row[6].isdecimal() or int(row[6]) > n or int(row[6]) == i + 1:
            raise BadRowError(
                line,
                f"as HEAD of word {i + 1} a number from 0 to {n} but its own",
                repr(row[6]),
                "bad head",
            )
        heads.append(int(row[6]) - 1 if row[6] != "0" else i)
    if fault := tree_fault(heads):
        raise BadRowError(
            words[0][0],
            "one tree with one root over the sentence that starts here",
            fault,
            "no tree",
        )
    return tuple(heads)
