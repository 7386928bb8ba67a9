"""CoNLL-U: https://universaldependencies.org/format.html ."""

from dataclasses import replace
from pathlib import Path

from trfnb.corpora.errors import FIX_OR_SKIP, CorpusError, Problems
from trfnb.corpora.iob import spans_from_labels
from trfnb.corpora.lines import Block, blocks, document_of, read_lines
from trfnb.corpora.sentence import Sentence
from trfnb.corpora.trees import tree_fault

_TAGS = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X _"
UPOS = frozenset(_TAGS.split())


def read_conllu(path: Path, problems: Problems) -> list[Sentence]:
    """Read a CoNLL-U file's syntactic words.

    The words of a multiword token (``1-2 didn't``) stand without a space between them where
    together they spell it, and as words of their own where they do not (``1-2 du``: ``de le``).
    Empty nodes (``8.1``) are left out. Two additions of our own: ``NER=B-PER`` in MISC gives
    entities, and the comment ``# category = NAME`` a text category.

    Raises:
        CorpusError: a file that cannot be read; a bad sentence, unless ``problems`` skips it.
    """
    sentences: list[Sentence] = []
    doc_id, count = None, 0
    for block in blocks(read_lines(path), all_hashes=True):
        count += "newdoc" in block.comments or "newdoc id" in block.comments
        doc_id = document_of(block, doc_id, count)
        try:
            sentences.append(_sentence(path, block, doc_id))
        except CorpusError as error:
            problems.meet(error)
    if any(sentence.ents is not None for sentence in sentences):
        # Only tokens of an entity carry NER=, so a sentence without has none rather than unknown.
        sentences = [s if s.ents is not None else replace(s, ents=()) for s in sentences]
    return sentences


def _sentence(path: Path, block: Block, doc_id: str | None) -> Sentence:
    rows: list[list[str]] = []
    lines: list[int] = []
    joined: list[tuple[int, int, list[str]]] = []
    for line, text in block.rows:
        columns = text.split("\t")
        if len(columns) != 10:
            raise CorpusError(
                path,
                line=line,
                expected="10 columns with a tab between them",
                got=f"{len(columns)}: {text[:60]!r}",
                hint=FIX_OR_SKIP,
                reason="malformed line",
            )
        first, dash, last = columns[0].partition("-")
        if dash and first.isdecimal() and last.isdecimal() and len(rows) < int(first) < int(last):
            joined.append((int(first) - 1, int(last), columns))
        elif _is_empty_node(columns[0]):
            continue
        elif columns[0] != str(len(rows) + 1):
            raise CorpusError(
                path,
                line=line,
                expected=f"the word with ID {len(rows) + 1}",
                got=f"ID {columns[0]!r}",
                hint=FIX_OR_SKIP,
                reason="word ids out of order",
            )
        elif not columns[1] or columns[3] not in UPOS:
            raise CorpusError(
                path,
                line=line,
                expected="a form and one of the 17 UPOS tags",
                got=f"{columns[1]!r} and {columns[3]!r}",
                hint=FIX_OR_SKIP,
                reason="unknown UPOS" if columns[1] else "malformed line",
            )
        else:
            rows.append(columns)
            lines.append(line)
    if not rows or (joined and joined[-1][1] > len(rows)):
        raise CorpusError(
            path,
            line=block.rows[0][0],
            expected=f"words 1 to {joined[-1][1]}" if joined else "at least one word",
            got=f"{len(rows)} words",
            hint=FIX_OR_SKIP,
            reason="word ids out of order",
        )
    heads = _heads(path, rows, lines)
    pos = [row[3].replace("_", "") for row in rows]
    tags = [row[4] if row[4] != "_" else p for row, p in zip(rows, pos, strict=True)]
    category = block.comments.get("category")
    return Sentence(
        words=tuple(row[1] for row in rows),
        spaces=_spaces(rows, joined),
        tags=tuple(tags) if any(tags) else None,
        pos=tuple(pos) if any(pos) else None,
        lemmas=_lemmas(rows),
        heads=heads,
        deps=None if heads is None else _deps(rows, heads),
        ents=_ents(path, rows, lines),
        cats={category: 1.0} if category else None,
        sent_id=block.comments.get("sent_id"),
        doc_id=doc_id,
    )


def _is_empty_node(word_id: str) -> bool:
    whole, dot, part = word_id.partition(".")
    return bool(dot) and whole.isdecimal() and part.isdecimal()


def _misc(row: list[str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in row[9].split("|") if "=" in pair)


def _spaces(rows: list[list[str]], joined: list[tuple[int, int, list[str]]]) -> tuple[bool, ...]:
    spaces = [_misc(row).get("SpaceAfter") != "No" for row in rows]
    for start, end, columns in joined:
        spelled = "".join(row[1] for row in rows[start:end]) == columns[1]
        spaces[start : end - 1] = [not spelled] * (end - start - 1)
        spaces[end - 1] = _misc(columns).get("SpaceAfter") != "No"
    return tuple(spaces)


def _lemmas(rows: list[list[str]]) -> tuple[str, ...] | None:
    # A lone underscore is a lemma where it is also the form.
    lemmas = tuple("" if row[2] == "_" != row[1] else row[2] for row in rows)
    return lemmas if any(lemmas) else None


def _heads(path: Path, rows: list[list[str]], lines: list[int]) -> tuple[int, ...] | None:
    if all(row[6] == "_" for row in rows):
        return None
    heads = []
    for i, (row, line) in enumerate(zip(rows, lines, strict=True)):
        if not row[6].isdecimal() or int(row[6]) > len(rows) or int(row[6]) == i + 1:
            raise CorpusError(
                path,
                line=line,
                expected=f"as HEAD of word {i + 1} a number from 0 to {len(rows)} but its own",
                got=repr(row[6]),
                hint=FIX_OR_SKIP,
                reason="bad head",
            )
        heads.append(int(row[6]) - 1 if row[6] != "0" else i)
    if fault := tree_fault(heads):
        raise CorpusError(
            path,
            line=lines[0],
            expected="one tree with one root over the sentence that starts here",
            got=fault,
            hint=FIX_OR_SKIP,
            reason="no tree",
        )
    return tuple(heads)


def _deps(rows: list[list[str]], heads: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(
        "ROOT" if head == i else row[7]
        for i, (row, head) in enumerate(zip(rows, heads, strict=True))
    )


def _ents(
    path: Path, rows: list[list[str]], lines: list[int]
) -> tuple[tuple[int, int, str], ...] | None:
    labels = [_misc(row).get("NER", "O") for row in rows]
    if all(label == "O" for label in labels):
        return None
    try:
        return spans_from_labels(labels)
    except ValueError as error:
        raise CorpusError(
            path,
            line=lines[0],
            expected="NER= labels O, B-TYPE or I-TYPE in the sentence that starts here",
            got=str(error),
            hint=FIX_OR_SKIP,
            reason="unknown entity label",
        ) from error
