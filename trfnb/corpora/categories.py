"""Text categories: JSON lines, and JSON files that hold whole splits."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from trfnb.corpora.errors import FIX_OR_SKIP, CorpusError, Problems
from trfnb.corpora.lines import read_lines
from trfnb.corpora.sentence import Sentence

_RECORD = '{"text": …} or {"words": […]} with "label", "labels" or "cats"'


def read_jsonl(path: Path, problems: Problems, lang: str = "en") -> list[Sentence]:
    """Read one JSON object a line: a text and its categories.

    ``{"text": "…", "label": "sport"}``, ``{"text": "…", "labels": ["a", "b"]}`` or
    ``{"text": "…", "cats": {"a": 1.0, "b": 0.0}}``; ``"words": […]`` in place of ``"text"`` fixes
    the tokens; ``"sent_id"`` and ``"doc_id"`` are kept, other keys ignored.

    Args:
        path: The file.
        problems: What to do with a bad line.
        lang: Whose spaCy tokenizer splits texts.

    Raises:
        CorpusError: an unreadable file; a bad line, unless ``problems`` skips it.
    """
    sentences = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            try:
                sentences.append(_from_line(path, number, line, lang))
            except CorpusError as error:
                problems.meet(error)
    return sentences


def read_splits(path: Path, problems: Problems, lang: str = "en") -> dict[str, list[Sentence]]:
    """Read a JSON object of splits, each a list of ``[text, category]`` pairs.

    This is the shape of CLINC150: ``{"train": [["…", "label"], …], "val": […]}``.

    Returns:
        Sentences by the file's own split names.

    Raises:
        CorpusError: another shape; a bad pair, unless ``problems`` skips it.
    """
    try:
        data = json.loads("\n".join(read_lines(path)))
    except json.JSONDecodeError as error:
        raise CorpusError(
            path, line=error.lineno, expected="JSON", got=error.msg, hint="Correct the file"
        ) from error
    if not isinstance(data, dict) or not all(isinstance(v, list) for v in data.values()):
        raise CorpusError(
            path,
            expected='an object of splits, {"train": [[text, category], …], "dev": […]}',
            got=f"a JSON {type(data).__name__} of another shape",
            hint="Rewrite it so, or as JSON lines (.jsonl)",
        )
    splits: dict[str, list[Sentence]] = {}
    for split, pairs in data.items():
        splits[split] = []
        for i, pair in enumerate(pairs):
            if isinstance(pair, list) and len(pair) == 2 and _is_text(*pair):
                splits[split].append(_make(_tokenize(pair[0], lang), {pair[1]: 1.0}, {}))
            else:
                problems.meet(
                    CorpusError(
                        path,
                        expected=f"[text, category] as item {i} of {split!r}",
                        got=json.dumps(pair)[:60],
                        hint=FIX_OR_SKIP,
                        reason="malformed record",
                    )
                )
    return splits


def _from_line(path: Path, number: int, line: str, lang: str) -> Sentence:
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError:
        record = None
    cats = _cats(record) if isinstance(record, dict) else None
    if cats:
        words = record.get("words")
        if isinstance(words, list) and words and _is_text(*words):
            return _make((tuple(words), (True,) * len(words)), cats, record)
        if _is_text(record.get("text")):
            return _make(_tokenize(record["text"], lang), cats, record)
    raise CorpusError(
        path,
        line=number,
        expected=_RECORD,
        got=repr(line[:60]),
        hint=FIX_OR_SKIP,
        reason="malformed record",
    )


def _is_text(*values: Any) -> bool:
    return all(isinstance(value, str) and value.strip() for value in values)


def _cats(record: Mapping[str, Any]) -> dict[str, float] | None:
    cats, labels = record.get("cats"), record.get("labels", [record.get("label")])
    if isinstance(cats, dict) and all(isinstance(v, int | float) for v in cats.values()):
        return {name: float(value) for name, value in cats.items()}
    if isinstance(labels, list) and _is_text(*labels):
        return dict.fromkeys(labels, 1.0)
    return None


def _make(
    tokens: tuple[tuple[str, ...], tuple[bool, ...]],
    cats: dict[str, float],
    record: Mapping[str, Any],
) -> Sentence:
    sent_id, doc_id = record.get("sent_id"), record.get("doc_id")
    return Sentence(
        *tokens,
        cats=cats,
        sent_id=None if sent_id is None else str(sent_id),
        doc_id=None if doc_id is None else str(doc_id),
    )


def _tokenize(text: str, lang: str) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    doc = _tokenizer(lang)(text)
    return tuple(t.text for t in doc), tuple(bool(t.whitespace_) for t in doc)


@cache
def _tokenizer(lang: str) -> Any:
    import spacy

    return spacy.blank(lang).tokenizer
