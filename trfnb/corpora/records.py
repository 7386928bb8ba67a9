"""Texts with categories and spans: JSON of annotation tools, tables, HuggingFace datasets."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from trfnb.corpora.columns import read_columns, read_text, spans_from_labels
from trfnb.corpora.corpus import SPANS_KEY, CorpusError, Reading, Sentence, Span

TEXTS = ("text", "sentence", "utterance", "content", "document", "body", "review", "headline")
LABELS = ("label", "labels", "cats", "category", "categories", "class", "intent", "sentiment")


class BadRecordError(ValueError):
    """A record that cannot be used: what was expected, and the part that was found."""


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
    if data is None or (isinstance(data, dict) and not all(map(_is_list, data.values()))):
        lines = [(i, line) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
        return {"": _sentences(path, [(i, _parse(line)) for i, line in lines], reading)}
    return _split_sentences(path, data if isinstance(data, dict) else {"": data}, reading)


def read_table(path: str | Path, reading: Reading) -> list[Sentence]:
    """Read texts and categories from a CSV or TSV file; a TSV of entity labels from its columns.

    The header names the columns (``text`` and ``label``, and their like), or ``text_column`` and
    ``column`` do; both as indices mean that there is no header.

    Raises:
        CorpusError: the columns are not found, or several could be meant; a bad row, unless it is
            to be skipped.
    """
    import pandas as pd

    text = read_text(path)
    first = text.split("\n", 1)[0].lower()
    delimiter = "\t" if ".tsv" in str(path).lower() else max(",;\t", key=first.count)
    headed = not isinstance(reading.text_column, int)
    names = {name.strip(' "\r') for name in first.split(delimiter)}
    if delimiter == "\t" and reading.text_column is None and not names & set(TEXTS):
        return read_columns(path, reading)
    asked = ((TEXTS, reading.text_column), (LABELS, reading.column))
    if lacking := [known[0] for known, given in asked if given is None and not names & set(known)]:
        raise CorpusError(
            path,
            line=1,
            expected=f"a column {' and a column '.join(lacking)}",
            got=repr(first[:60]),
            hint="Name them with text_column=… and column=…",
        )
    try:
        table = pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            header=0 if headed else None,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
        ).fillna("")
        if not isinstance(table.index, pd.RangeIndex):  # pandas made an index of what is too much
            raise ValueError("rows have more cells than the header")
    except ValueError as error:  # pandas' ParserError is one, and names the line
        raise CorpusError(
            path, expected="a table", got=str(error).strip(), hint="Correct that line"
        ) from error
    # A cell may hold line breaks, so a record's line is found by counting them.
    breaks = table.map(lambda cell: cell.count("\n")).sum(axis=1).cumsum().shift(1).fillna(0)
    rows = enumerate(zip(breaks, table.to_dict("records"), strict=True), start=1 + headed)
    records = [(i + int(before), row) for i, (before, row) in rows if any(row.values())]
    return _sentences(path, records, reading)


def read_dataset(name: str | Path, data: Any, reading: Reading) -> dict[str, list[Sentence]]:
    """Read a HuggingFace dataset, or a dict of such, whose columns are as in `read_json`.

    Integers become the names that the dataset's features give them; -1 stands for no label.
    """
    splits = data if isinstance(data, Mapping) else {"": data}
    rows = {
        str(split): [
            {
                key: _named(value, (getattr(part, "features", None) or {}).get(key))
                for key, value in row.items()
            }
            for row in part
        ]
        for split, part in splits.items()
    }
    return _split_sentences(name, rows, reading)


def load_saved_dataset(path: Path) -> Any:
    """Return the dataset that ``save_to_disk`` wrote to a folder."""
    try:
        from datasets import load_from_disk
    except ImportError as error:
        raise CorpusError(
            path,
            expected="the package 'datasets', to read a folder that save_to_disk wrote",
            got="none installed",
            hint="pip install 'trfnb[datasets]'",
        ) from error
    return load_from_disk(str(path))


def _named(value: Any, feature: Any) -> Any:
    if isinstance(value, list):
        return [_named(item, getattr(feature, "feature", None)) for item in value]
    if names := getattr(feature, "names", None):
        return names[value] if value is not None and value >= 0 else None
    return value


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _split_sentences(
    path: str | Path, splits: Mapping[str, Any], reading: Reading
) -> dict[str, list[Sentence]]:
    if not all(map(_is_list, splits.values())):
        raise CorpusError(
            path,
            expected='records, or an object of splits, {"train": [[text, category], …], "dev": …}',
            got="JSON of another shape",
            hint="Rewrite it so, or as JSON lines (.jsonl)",
        )
    places = {split: f" of {split!r}" if split else "" for split in splits}
    return {
        split: _sentences(
            path,
            [(f"item {i}{places[split]}", record) for i, record in enumerate(records)],
            reading,
        )
        for split, records in splits.items()
    }


def _sentences(
    path: str | Path, records: Sequence[tuple[int | str, Any]], reading: Reading
) -> list[Sentence]:
    """Make sentences of records, each with its line number or its name.

    What only the whole file can tell is settled here: whether an empty list of labels means no
    spans or no categories, and whether spans overlap.
    """
    dicts = [record for _, record in records if isinstance(record, dict)]
    offsets = any(_are_offsets(r.get("label")) or _are_offsets(r.get("labels")) for r in dicts)
    sentences: list[Sentence] = []
    for where, record in records:
        try:
            sentence = _sentence(record, offsets, reading)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            known = isinstance(error, BadRecordError)
            expected, got = error.args if known else ("a record as its tool writes it", error)
            reading.meet(
                CorpusError(
                    path,
                    line=where if isinstance(where, int) else None,
                    expected=expected if isinstance(where, int) else f"{expected} in {where}",
                    got=repr(got)[:80],
                    reason="malformed record",
                )
            )
        else:
            sentences += [sentence] if sentence else []
    if any(s.spans and s.ents is None for s in sentences):
        key = f"doc.spans[{SPANS_KEY!r}]"
        reading.note(f"{path}: some spans overlap, so all are in {key} and none is an entity.")
        sentences = [replace(s, ents=None, unknown_ents=()) for s in sentences]
    return sentences


def _sentence(record: Any, offsets: bool, reading: Reading) -> Sentence | None:
    """Return a record as a sentence; None, counted, if nobody annotated it."""
    if isinstance(record, list) and len(record) == 2:
        text, value = record
        record = {"text": text, **(value if isinstance(value, dict) else {"label": value})}
    if not isinstance(record, dict):
        raise BadRecordError('a record as {"text": …, "label": …}', record)
    try:
        json.dumps(record, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise BadRecordError("text without lone surrogates", error.object[error.start]) from error
    if isinstance(record.get("data"), dict):
        record = _from_label_studio(record, reading)
    answer = record.get("answer", "accept")
    if answer not in ("accept", "reject", "ignore"):
        raise BadRecordError('as "answer" accept, reject or ignore', answer)
    layers = {} if answer == "ignore" else _layers(record, answer, offsets, reading)
    if not layers and answer == "accept":
        raise BadRecordError('"label", "labels", "cats", "spans" or "ner_tags"', list(record))
    if not layers:
        reading.skipped[f"answer: {answer}"] += 1
        return None
    doc = _tokens(record, reading)
    if len(record.get("ner_tags", doc)) != len(doc):
        raise BadRecordError(f"ner_tags for {len(doc)} tokens", record["ner_tags"])
    if "spans" in layers:
        layers |= _aligned(doc, layers["spans"], reading)
    # Prodigy asks of one text about a label after another: these are one document.
    for key, value in (("sent_id", None), ("doc_id", record.get("_input_hash"))):
        value = record.get(key, value)
        layers[key] = None if value is None else str(value)
    spaces = tuple(bool(t.whitespace_) for t in doc)
    return Sentence(tuple(t.text for t in doc), spaces, **layers)


def _from_label_studio(record: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """Return a task of Label Studio as a plain record."""
    done = [one for one in record["annotations"] if not one.get("was_cancelled")]
    if not done:
        return {"answer": "ignore"}
    if len(done) > 1:
        reading.note("Of several annotations of a task of Label Studio, the first was taken.")
    results = done[0]["result"]
    kinds = {result["type"] for result in results}
    if more := kinds - {"choices", "labels"}:
        reading.note(f"Results of Label Studio of type {', '.join(sorted(more))} were left out.")
    plain = dict(record["data"])
    if "choices" in kinds:
        choices = [r["value"]["choices"] for r in results if r["type"] == "choices"]
        plain["label"] = [choice for some in choices for choice in some]
    if "labels" in kinds or not kinds:
        plain["spans"] = [r["value"] for r in results if r["type"] == "labels"]
    return plain


def _layers(
    record: Mapping[str, Any], answer: str, offsets: bool, reading: Reading
) -> dict[str, Any]:
    """Return what a record says: categories, spans in characters, entities in tokens."""
    layers: dict[str, Any] = {}
    spans = record.get("spans", record.get("entities"))
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
    if isinstance(value, dict):
        layers["cats"] = {str(name): _score(score) for name, score in value.items()}
        layers["open_cats"] = True
    elif value is not None:
        labels = value if isinstance(value, list) else [value]
        if wrong := [v for v in labels if not isinstance(v, str | int) or not str(v).strip()]:
            raise BadRecordError("a label, a list of labels or an object of values", wrong[0])
        layers["cats"] = {str(label): 1.0 for label in labels}
    if "ner_tags" in record:
        layers["ents"] = spans_from_labels(record["ner_tags"])
    return layers


def _pick(record: Mapping[Any, Any], known: Sequence[str], given: Any) -> Any:
    """Return the value of the key asked for, or of the only one that is known."""
    found = [key for key in record if str(key).strip().lower() in known]
    if given is not None:
        found = [given]
    if len(found) > 1 or (given is not None and given not in record):
        raise BadRecordError(
            f"one key for {known[0]} (column=… and text_column=… choose)", list(record)
        )
    return record[found[0]] if found else None


def _score(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BadRecordError("a value from 0 to 1 for a category", value)
    return float(value)


def _are_offsets(value: Any) -> bool:
    return isinstance(value, list) and value != [] and isinstance(value[0], dict | list)


def _tokens(record: Mapping[Any, Any], reading: Reading) -> Any:
    """Return a Doc of the record's words, or of its text."""
    from spacy.tokens import Doc
    from spacy.util import get_words_and_spaces

    tokenizer = _tokenizer(reading.lang)
    words = record.get("words", record.get("tokens"))
    text = record.get("text") if words else _pick(record, TEXTS, reading.text_column)
    if words:
        words = [word["text"] if isinstance(word, dict) else word for word in words]
        fitted = (words, None) if text is None else get_words_and_spaces(words, text)
        return Doc(tokenizer.vocab, words=fitted[0], spaces=fitted[1])
    if not isinstance(text, str) or not text.strip():
        raise BadRecordError("a text with words", text)
    return tokenizer(text)


@cache
def _tokenizer(lang: str) -> Any:
    import spacy

    return spacy.blank(lang).tokenizer


def _aligned(doc: Any, spans: Sequence[Any], reading: Reading) -> dict[str, Any]:
    """Return spans in tokens; of tokens that a span cuts, it is unknown whether they are in it."""
    found: set[Span] = set()
    unknown: set[int] = set()
    for start, end, label in [span for value in spans for span in _in_characters(value, doc.text)]:
        if span := doc.char_span(start, end, label=label):
            found.add((span.start, span.end, label))
        else:
            reading.skipped["spans cut by tokens"] += 1
            unknown |= {t.i for t in doc if t.idx < end and start < t.idx + len(t)}
    ordered = tuple(sorted(found))
    covered = [i for start, end, _ in ordered for i in range(start, end)]
    layers: dict[str, Any] = {"spans": {SPANS_KEY: ordered}}
    if len(covered) == len(set(covered)):
        layers |= {"ents": ordered, "unknown_ents": tuple(sorted(unknown - set(covered)))}
    return layers


def _in_characters(value: Any, text: str) -> list[Span]:
    """Return spans from ``[start, end, label]`` or an object of an annotation tool."""
    quoted = None
    if isinstance(value, dict):
        start, end = (value.get(key, value.get(f"{key}_offset")) for key in ("start", "end"))
        labels, quoted = value.get("label", value.get("labels")), value.get("text")
    else:
        start, end, labels = value
    if not isinstance(start, int) or not isinstance(end, int) or not labels:
        raise BadRecordError("a span with start, end and label", value)
    if not 0 <= start < end <= len(text) or quoted not in (None, text[start:end]):
        raise BadRecordError(f"a span within the text's {len(text)} characters", value)
    return [(start, end, str(name)) for name in (labels if isinstance(labels, list) else [labels])]
