"""Texts with categories and spans: JSON of annotation tools, tables, HuggingFace datasets."""

import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
from spacy.tokens import Doc
from spacy.util import get_lang_class, get_words_and_spaces

from trfnb.corpora.columns import read_columns, read_text, spans_from_labels
from trfnb.corpora.corpus import (
    SPANS_KEY,
    BadSentenceError,
    CorpusError,
    Reading,
    Sentence,
    Span,
)

TEXTS = ("text", "sentence", "utterance", "content", "document", "body", "review", "headline")
LABELS = ("label", "labels", "cats", "category", "categories", "class", "intent", "sentiment")

# Cells, each to its end. A quoted one of a TSV may hold line ends or tabs, but not both.
_TABLE = r"""(?x) (?: (?: "(?:[^"TABS]|"")*+" | "(?:[^"\n]|"")*+" | (?!")[^DELIMITER\n]*+ )
(?: DELIMITER | \r?\n | \Z ) )*+"""


def read_json(path: str | Path, reading: Reading) -> dict[str, list[Sentence]]:
    """Read records of texts: a JSON object per line, a JSON list, or an object of splits.

    A record has a ``"text"`` (or a list of ``"words"`` or ``"tokens"``) and

    - categories: ``"label": "sport"`` (or 0), ``"labels": ["a", "b"]``, ``"cats": {"a": 1.0}``;
      what a label leaves out is 0, what ``"cats"`` leaves out is unknown;
    - spans by character offsets: ``"spans"``, ``"entities"``, ``"label"`` or ``"labels"`` with
      ``[start, end, label]`` or objects of these names, as Prodigy, doccano and spaCy write them;
    - ``"ner_tags"``: an entity label per token;
    - Prodigy's ``"answer"``, ``"options"`` and ``"accept"``; Label Studio's ``"annotations"``.

    ``["text", "label"]`` and ``["text", {"entities": …}]`` are records too. ``"sent_id"`` and
    ``"doc_id"`` are kept, other keys ignored.

    Returns:
        Sentences by the file's own split names; by ``""`` where it has none.

    Raises:
        CorpusError: an unreadable file; a bad record, unless it is to be skipped.
    """
    text = read_text(path)
    data = None if ".jsonl" in str(path).lower() else _parse(text)
    splits: dict[str, Any] = data if isinstance(data, dict) else {"": data}
    if all(isinstance(records, list) for records in splits.values()):
        return _read_splits(path, splits, reading)
    lines = [(i, _parse(s)) for i, s in enumerate(text.split("\n"), start=1) if s.strip()]
    return {"": _read_records(path, lines, reading)}


def read_table(path: str | Path, reading: Reading) -> list[Sentence]:
    """Read texts and categories from a CSV or TSV file; a TSV of entity labels from its columns.

    The header names the columns (``text`` and ``label``, and their like), or ``text_column`` and
    ``column`` do; both as indices mean that there is no header.

    Raises:
        CorpusError: no table, or two columns of one name; a bad row, or one where the columns are
            not found, unless it is to be skipped.
    """
    text = read_text(path).replace("\r\n", "\n")
    first = text.split("\n", 1)[0].lower()
    delimiter = "\t" if ".tsv" in str(path).lower() else max(",;\t", key=first.count)
    names = {name.strip(' "\r') for name in first.split(delimiter)}
    if delimiter == "\t" and reading.text_column is None and not names & set(TEXTS):
        return read_columns(path, reading)
    cells = _TABLE.replace("TABS", r"\t" if delimiter == "\t" else "")
    sound = re.match(cells.replace("DELIMITER", re.escape(delimiter)), text)
    try:
        # pandas lets text follow a closing quote, and so joins rows where a quote is only a quote.
        if sound and sound.end() < len(text):
            line = text.count("\n", 0, sound.end()) + 1
            raise ValueError(f"a quote that does not end its cell, on line {line}")
        table = pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            header=None,  # pandas would rename a second column of one name
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            lineterminator="\n",
        )
    except ValueError as error:  # pandas' ParserError is one, and names the line
        raise CorpusError(
            path,
            expected="a table",
            got=str(error).strip(),
            hint="Correct that line (line breaks within cells do not count)",
        ) from error
    rows = table.fillna("").to_numpy().tolist()
    headed = not isinstance(reading.text_column, int)
    header = rows[0] if headed else list(range(len(rows[0])))
    wrong = [f"{name!r} more than once" for name, n in Counter(header).items() if name and n > 1]
    for known, given in ((TEXTS, reading.text_column), (LABELS, reading.column)):
        if given not in header if given is not None else not names & set(known):
            wrong.append(f"no {known[0] if given is None else given!r}")
    if wrong:
        raise CorpusError(
            path,
            line=1,
            expected="a column text and a column label",
            got=f"{str(header)[:60]}: {', '.join(wrong)}",
            hint="Rename columns, or name them with text_column=… and column=…",
        )
    line, records = 1, []
    for row in rows:
        if any(row):
            records.append((line, dict(zip(header, row, strict=True))))
        line += 1 + sum(cell.count("\n") for cell in row)
    return _read_records(path, records[headed:], reading)


def read_dataset(name: str | Path, reading: Reading, data: Any = None) -> dict[str, list[Sentence]]:
    """Read a HuggingFace dataset, or a dict of such, whose columns are as in `read_json`.

    Integers become the names that the dataset's features give them; -1 stands for no label.

    Args:
        name: A name for messages, or the folder that ``save_to_disk`` wrote.
        reading: What the reader is told.
        data: The dataset, if it is not in a folder.

    Raises:
        CorpusError: the package ``datasets`` is missing; a bad record, unless it is to be skipped.
    """
    if data is None:
        try:
            from datasets import load_from_disk
        except ImportError as error:
            raise CorpusError(
                name,
                expected="the package 'datasets', to read a folder that save_to_disk wrote",
                got="none installed",
                hint="pip install 'trfnb[datasets]'",
            ) from error
        data = load_from_disk(str(name))
    parts = data if isinstance(data, Mapping) else {"": data}
    if not all(hasattr(part, "features") for part in parts.values()):
        raise CorpusError(
            name,
            expected="a name, a path, a HuggingFace dataset or a dict of such",
            got=repr(data)[:60],
            hint="Pass one of these",
        )
    splits = {
        str(split): [
            {key: _named(value, (part.features or {}).get(key)) for key, value in row.items()}
            for row in part
        ]
        for split, part in parts.items()
    }
    return _read_splits(name, splits, reading)


def _named(value: Any, feature: Any) -> Any:
    if isinstance(value, list):
        return [_named(item, getattr(feature, "feature", None)) for item in value]
    if names := getattr(feature, "names", None):
        return names[value] if value is not None and value >= 0 else None
    return value


# Return what JSON says, or what is wrong with it.
def _parse(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        return error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key is given twice among {', '.join(key for key, _ in pairs)}")
    return found


def _read_splits(
    path: str | Path, splits: Mapping[str, Sequence[Any]], reading: Reading
) -> dict[str, list[Sentence]]:
    return {
        split: _read_records(
            path,
            [(f"{split} item {i}".strip(), record) for i, record in enumerate(records)],
            reading,
        )
        for split, records in splits.items()
    }


# Make sentences of records, each with its line number or its name.
#
# What only the whole file can tell is settled here: whether an empty list of labels means no
# spans or no categories, and whether spans overlap.
def _read_records(
    path: str | Path, records: Sequence[tuple[int | str, Any]], reading: Reading
) -> list[Sentence]:
    dicts = [record for _, record in records if isinstance(record, dict)]
    offsets = any(_are_offsets(r.get(key)) for r in dicts for key in ("label", "labels"))
    sentences = reading.collect(path, records, partial(_sentence, offsets=offsets, reading=reading))
    if any(s.spans and s.ents is None for s in sentences):
        reading.notes.append(
            f"{path}: some spans overlap, so all are in doc.spans[{SPANS_KEY!r}], none an entity."
        )
        sentences = [replace(s, ents=None, unknown_ents=()) for s in sentences]
    return sentences


def _sentence(record: Any, offsets: bool, reading: Reading) -> Sentence | None:
    if isinstance(record, list) and len(record) == 2:
        text, value = record
        record = {"text": text, **(value if isinstance(value, dict) else {"label": value})}
    try:
        if isinstance(record, Exception):  # no JSON
            raise record
        # A lone surrogate could not be saved.
        json.dumps(record, ensure_ascii=False, default=str).encode()
        if isinstance(record.get("data"), dict):
            record = _from_label_studio(record, reading)
        answer = record.get("answer", "accept")
        layers = {} if answer == "ignore" else _layers(record, answer, offsets, reading)
        if not layers and answer != "accept":
            reading.skipped[f"answer: {answer}"] += 1
            return None
        doc = _tokens(record, reading)
        if "spans" in layers:
            layers |= _aligned(doc, layers["spans"], reading)
            if record.get("_view_id") == "ner" and "ents" in layers:  # it asked about these alone
                layers["unknown_ents"] = tuple(
                    {*range(len(doc))}.difference(*(range(*span[:2]) for span in layers["ents"]))
                )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise _bad('a record as its tool writes it, or {"text": …, "label": …}', why) from error
    if not layers:
        raise _bad('"label", "cats", "spans" or their like (column=… names it)', list(record))
    if len(record.get("ner_tags", doc)) != len(doc):
        raise _bad(f"ner_tags for {len(doc)} tokens", record["ner_tags"])
    # Prodigy asks of one text about a label after another: these are one document.
    ids = {
        "sent_id": record.get("sent_id"),
        "doc_id": record.get("doc_id", record.get("_input_hash")),
    }
    layers |= {key: str(value) for key, value in ids.items() if value is not None}
    return Sentence(tuple(t.text for t in doc), tuple(bool(t.whitespace_) for t in doc), **layers)


def _bad(expected: str, got: Any) -> BadSentenceError:
    return BadSentenceError(expected, repr(got)[:120], "malformed record")


def _from_label_studio(record: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    done = [given for given in record["annotations"] if not given.get("was_cancelled")]
    if not done:
        return {"answer": "ignore"}
    results = done[0]["result"]
    choices = [c for r in results if r["type"] == "choices" for c in r["value"]["choices"]]
    spans = [r["value"] for r in results if r["type"] == "labels"]
    others = [
        f"Label Studio {r['type']}" for r in results if r["type"] not in ("choices", "labels")
    ]
    reading.skipped.update(others + ["second annotation in Label Studio"] * (len(done) - 1))
    record = dict(record["data"])
    if choices:
        record["label"] = choices
    if spans or not choices:
        record["spans"] = spans
    return record


def _layers(
    record: Mapping[str, Any], answer: str, offsets: bool, reading: Reading
) -> dict[str, Any]:
    if answer not in ("accept", "reject"):
        raise _bad('as "answer" accept, reject or ignore', answer)
    layers: dict[str, Any] = {}
    # Prodigy leaves "spans" out where a text was looked through and has none.
    none: list[Any] | None = (
        [] if record.get("_view_id") in ("ner_manual", "spans_manual") else None
    )
    spans = record.get("spans", record.get("entities", none))
    value = _pick(record, LABELS, reading.column)
    if _are_offsets(value) or (offsets and value == []):
        spans, value = value, None
    if isinstance(record.get("options"), list):  # Prodigy's choice; a reject is about the accepted
        taken = record.get("accept", [])
        names = taken if answer == "reject" else [option["id"] for option in record["options"]]
        value = {name: answer == "accept" and name in taken for name in names} or None
    elif "answer" in record and isinstance(value, str):
        value = {value: answer == "accept"}  # of the other categories, nothing was asked
    # Under a question about the text, Prodigy shows matches as spans; rejected ones say nothing.
    if spans is not None and answer == "accept" and record.get("_view_id") != "classification":
        layers["spans"] = spans
    if value is not None:
        layers["open_cats"] = isinstance(value, dict)
        if isinstance(value, list) and len({*map(str, value)}) < len(value):
            raise _bad(
                "each label once (labels of words are `ner_tags`, a value per category is `cats`)",
                value,
            )
        if not isinstance(value, dict):
            value = dict.fromkeys(value if isinstance(value, list) else [value], 1.0)
        if wrong := [pair for pair in value.items() if not _is_category(*pair)]:
            raise _bad("a label, a list of labels, or an object of values from 0 to 1", wrong[0])
        layers["cats"] = {str(name): float(score) for name, score in value.items()}
    if "ner_tags" in record:
        layers["ents"] = spans_from_labels(record["ner_tags"])
    return layers


def _pick(record: Mapping[Any, Any], known: Sequence[str], given: Any) -> Any:
    keys = [key for key in record if str(key).strip().lower() in known]
    if given is None and len(keys) > 1:
        raise _bad(f"one key for {known[0]} (column=… and text_column=… choose)", list(record))
    return record.get(keys[0] if keys and given is None else given)


def _is_category(name: Any, score: Any) -> bool:
    named = isinstance(name, str | int) and bool(str(name).strip())
    return named and isinstance(score, int | float) and 0 <= score <= 1


def _are_offsets(value: Any) -> bool:
    return isinstance(value, list) and value != [] and isinstance(value[0], dict | list)


def _tokens(record: Mapping[Any, Any], reading: Reading) -> Any:
    tokenizer = _tokenizer(reading.lang)
    words = record.get("words", record.get("tokens"))
    text = record.get("text") if words else _pick(record, TEXTS, reading.text_column)
    if words:
        words = [word["text"] if isinstance(word, dict) else word for word in words]
        fitted = (words, None) if text is None else get_words_and_spaces(words, text)
        return Doc(tokenizer.vocab, words=fitted[0], spaces=fitted[1])
    if not isinstance(text, str) or not text.strip():
        raise _bad("a text with words (text_column=… names its key)", text or list(record))
    return tokenizer(text)


@cache
def _tokenizer(lang: str) -> Any:
    return get_lang_class(lang)().tokenizer


# Return spans in tokens; of tokens that a span cuts, it is unknown whether they are in it.
def _aligned(doc: Any, spans: Sequence[Any], reading: Reading) -> dict[str, Any]:
    inside, unknown = set[Span](), set[int]()
    for start, end, label in [span for value in spans for span in _in_characters(value, doc.text)]:
        if span := doc.char_span(start, end, label=label):
            inside.add((span.start, span.end, label))
        else:
            reading.skipped["spans cut by tokens"] += 1
            unknown |= {t.i for t in doc if t.idx < end and start < t.idx + len(t)}
    ordered = tuple(sorted(inside))
    covered = [i for start, end, _ in ordered for i in range(start, end)]
    layers: dict[str, Any] = {"spans": {SPANS_KEY: ordered}}
    if len(covered) == len(set(covered)):
        layers |= {"ents": ordered, "unknown_ents": tuple(sorted(unknown - set(covered)))}
    return layers


def _in_characters(value: Any, text: str) -> list[Span]:
    if isinstance(value, list):
        value = dict(zip(("start", "end", "label"), value, strict=False))
    start, end = (value.get(key, value.get(f"{key}_offset")) for key in ("start", "end"))
    labels, quoted = value.get("label", value.get("labels")), value.get("text")
    whole = isinstance(start, int) and isinstance(end, int) and bool(labels)
    if not whole or not 0 <= start < end <= len(text) or quoted not in (None, text[start:end]):
        raise _bad(f"a span with start, end and label in {len(text)} characters", value)
    return [(start, end, str(name)) for name in (labels if isinstance(labels, list) else [labels])]
