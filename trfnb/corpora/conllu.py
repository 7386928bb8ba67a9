"""CoNLL-U: https://universaldependencies.org/format.html ."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from conllu.exceptions import ParseException
from conllu.parser import parse_dict_value, parse_id_value

from trfnb.corpora.columns import LABEL, Block, blocks, document_of, read_lines, spans_from_labels
from trfnb.corpora.corpus import CorpusError, Reading, Sentence

UPOS = frozenset(
    "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X _".split()
)
# Keys under which tools write entity labels to MISC; spaCy's converter reads "name" and "NE".
_NER_KEYS = ("NER", "NE", "NAME")


def read_conllu(path: str | Path, reading: Reading) -> list[Sentence]:
    """Read a CoNLL-U file's syntactic words.

    The words of a multiword token (``1-2 didn't``) stand without a space between them where
    together they spell it, and as words of their own where they do not (``1-2 du``: ``de le``).
    Empty nodes (``8.1``) are left out. Entities come from MISC (``NER=B-PER``, ``name=B-PER``,
    ``ner=S-PER`` or a bare ``B-PER``), a text category from the comment ``# category = NAME``.

    Raises:
        CorpusError: a file that cannot be read; a bad sentence, unless it is to be skipped.
    """
    sentences: list[Sentence] = []
    doc_id, count = None, 0
    for block in blocks(read_lines(path), all_hashes=True):
        count += "newdoc" in block.comments or "newdoc id" in block.comments
        doc_id = document_of(block, doc_id, count)
        try:
            sentences.append(_sentence(_Rows(path, block), doc_id))
        except CorpusError as error:
            reading.meet(error)
    # A sentence without any NER= or FEATS in a file that has them has none, rather than unknown.
    named = any(s.ents is not None for s in sentences)
    inflected = any(any(s.morphs or ()) for s in sentences)
    for i, s in enumerate(sentences):
        if (named and s.ents is None) or not inflected:
            ents = () if named and s.ents is None else s.ents
            sentences[i] = replace(s, ents=ents, morphs=s.morphs if inflected else None)
    return sentences


def tree_fault(heads: Sequence[int]) -> str | None:
    """Return what keeps heads from forming one rooted tree, or ``None`` if they do.

    Args:
        heads: Index of each token's head, from 0; a root is its own head. All within range.
    """
    roots = [i for i, head in enumerate(heads) if head == i]
    if not roots:
        return "no root"
    if len(roots) > 1:
        return f"{len(roots)} roots (words {', '.join(str(r + 1) for r in roots)})"
    reaches = {roots[0]}
    for i in range(len(heads)):
        path: list[int] = []
        while i not in reaches:
            if i in path:
                return f"a cycle through words {', '.join(str(p + 1) for p in path)}"
            path.append(i)
            i = heads[i]
        reaches.update(path)
    return None


@dataclass
class _Rows:
    """One sentence's rows, sorted into words and multiword tokens.

    The conllu package parses the values. Its own reader of sentences takes rows of any number of
    columns, splits at double blanks and knows no line numbers, so rows are split here.
    """

    path: str | Path
    block: Block
    words: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    joined: list[tuple[int, int, list[str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for line, text in self.block.rows:
            self.add(line, text.split("\t"))
        last = self.joined[-1][1] if self.joined else 1
        if len(self.words) < last:
            self.fail(
                f"words 1 to {last}", f"{len(self.words)} words", reason="word ids out of order"
            )

    def add(self, line: int, columns: list[str]) -> None:
        if len(columns) != 10:
            got = f"{len(columns)}: {'|'.join(columns)[:40]!r}"
            self.fail("10 columns with a tab between them", got, line, "malformed line")
        following = len(self.words) + 1
        try:
            word_id = parse_id_value(columns[0])
        except ParseException:
            word_id = None
        if isinstance(word_id, tuple) and word_id[1] == ".":
            return
        if isinstance(word_id, tuple) and word_id[0] == following < word_id[2]:
            self.joined.append((word_id[0] - 1, word_id[2], columns))
        elif word_id != following:
            reason = "word ids out of order"
            self.fail(f"the word with ID {following}", f"ID {columns[0]!r}", line, reason)
        elif not columns[1]:
            self.fail("a form", "none", line, "malformed line")
        elif columns[3] not in UPOS:
            self.fail("one of the 17 UPOS tags", repr(columns[3]), line, "unknown UPOS")
        else:
            self.words.append(columns)
            self.lines.append(line)

    def fail(
        self, expected: str, got: str, line: int | None = None, reason: str = "malformed"
    ) -> NoReturn:
        first = self.block.rows[0][0]
        raise CorpusError(self.path, expected=expected, got=got, line=line or first, reason=reason)


def _sentence(rows: _Rows, doc_id: str | None) -> Sentence:
    words = rows.words
    misc = [_misc(row) for row in words]
    spaces = [values.get("SpaceAfter") != "No" for values in misc]
    for start, end, columns in rows.joined:
        spelled = "".join(row[1] for row in words[start:end]) == columns[1]
        spaces[start : end - 1] = [not spelled] * (end - start - 1)
        spaces[end - 1] = _misc(columns).get("SpaceAfter") != "No"
    heads = _heads(rows)
    pos = [row[3].replace("_", "") for row in words]
    tags = [row[4] if row[4] != "_" else p for row, p in zip(words, pos, strict=True)]
    # A lone underscore is a lemma where it is also the form.
    lemmas = ["" if row[2] == "_" != row[1] else row[2] for row in words]
    labels = [_label(values) for values in misc]
    try:
        ents = spans_from_labels([label or "O" for label in labels])
    except ValueError as error:
        expected = "NER= labels O, B-TYPE or I-TYPE in the sentence that starts here"
        rows.fail(expected, str(error), reason="unknown entity label")
    category = rows.block.comments.get("category")
    return Sentence(
        words=tuple(row[1] for row in words),
        spaces=tuple(spaces),
        tags=tuple(tags) if any(tags) else None,
        pos=tuple(pos) if any(pos) else None,
        morphs=tuple("" if row[5] == "_" else row[5] for row in words),
        lemmas=tuple(lemmas) if any(lemmas) else None,
        heads=heads,
        deps=None
        if heads is None
        else tuple(row[7] if h != i else "ROOT" for i, (row, h) in enumerate(zip(words, heads))),
        ents=ents if any(label is not None for label in labels) else None,
        cats={category: 1.0} if category else None,
        sent_id=rows.block.comments.get("sent_id"),
        doc_id=doc_id,
    )


def _misc(row: list[str]) -> dict[str, str | None]:
    return parse_dict_value(row[9]) or {}


def _label(misc: dict[str, str | None]) -> str | None:
    for key, value in misc.items():
        if key.upper() in _NER_KEYS and (key == "NER" or LABEL.fullmatch(value or "")):
            return value or "O"
        if value == "" and LABEL.fullmatch(key):
            return key
    return None


def _heads(rows: _Rows) -> tuple[int, ...] | None:
    n = len(rows.words)
    if all(row[6] == "_" for row in rows.words):
        return None
    heads = []
    for i, (row, line) in enumerate(zip(rows.words, rows.lines, strict=True)):
        if not row[6].isdecimal() or int(row[6]) > n or int(row[6]) == i + 1:
            expected = f"as HEAD of word {i + 1} a number from 0 to {n} but its own"
            rows.fail(expected, repr(row[6]), line, "bad head")
        heads.append(int(row[6]) - 1 if row[6] != "0" else i)
    if fault := tree_fault(heads):
        expected = "one tree with one root over the sentence that starts here"
        rows.fail(expected, fault, rows.lines[0], "no tree")
    return tuple(heads)
