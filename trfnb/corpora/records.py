"""Texts with categories and spans: JSON of annotation tools, tables, HuggingFace datasets."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from trfnb.corpora.columns import read_bytes, read_columns, read_text, spans_from_labels
from trfnb.corpora.corpus import SPANS_KEY, CorpusError, Reading, Sentence, Span, from_doc

TEXTS = ("text", "sentence", "utterance", "content", "document", "body", "review", "headline")
LABELS = ("label", "labels", "cats", "category", "categories", "class", "intent", "sentiment")
_SPAN_KEYS = (("start", "start_offset"), ("end", "end_offset"), ("label", "labels", "type"))


@dataclass(frozen=True)
class Place:
    """Where a record stands, for messages."""

    path: str | Path
    line: int | None = None
    item: str = ""

    def error(self, expected: str, got: Any) -> CorpusError:
        """Return an error that quotes the part ``got``."""
        where = f"{expected} in {self.item}" if self.item else expected
        quoted = got if isinstance(got, str) and got.startswith("no ") else repr(got)[:60]
        reason = "malformed record"
        return CorpusError(self.path, line=self.line, expected=where, got=quoted, reason=reason)


def read_json(path: str | Path, reading: Reading) -> dict[str, list[Sentence]]:
    """Read records of texts: a JSON object per line, a JSON list, or an object of splits.

    A record has a ``"text"`` (or ``"words"``, ``"tokens"``) and

    - categories: ``"label": "sport"`` (or 0), ``"labels": ["a", "b"]``, ``"cats": {"a": 1.0}``;
      what a label leaves out is 0, what ``"cats"`` leaves out is unknown;
    - spans by character offsets: ``"spans"``, ``"entities"``, ``"label"`` or ``"labels"`` with
      ``[start, end, label]`` or objects of these names, as Prodigy, doccano and spaCy write them;
    - ``"ner_tags"`` and ``"pos_tags"``: a label per token;
    - Prodigy's ``"answer"``, ``"options"`` and ``"accept"``; Label Studio's ``"annotations"``.

    ``["text", "label"]`` and ``["text", {"entities": …}]`` are records too; so are the paragraphs
    of spaCy 2's training files. ``"sent_id"`` and ``"doc_id"`` are kept, other keys ignored.

    Returns:
        Sentences by the file's own split names; by ``""`` where it has none.

    Raises:
        CorpusError: an unreadable file; a bad record, unless it is to be skipped.
    """
    text = read_text(path)
    lines = [(i, line) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
    name = str(path).lower()
    try:
        whole = None if ".jsonl" in name else json.loads(text)
    except (ValueError, RecursionError) as error:
        if len(lines) < 2 or _parse(lines[0][1]) is None:
            raise CorpusError(
                path,
                line=getattr(error, "lineno", None),
                expected="JSON",
                got=getattr(error, "msg", type(error).__name__),
                hint="Correct the file",
            ) from error
        whole = None
    if whole is None:
        records = [(Place(path, i), _parse(line)) for i, line in lines]
        return {"": _sentences(records, reading)}
    if isinstance(whole, list) and whole and all(_has(item, "paragraphs") for item in whole):
        from spacy.training.converters import json_to_docs

        return {"": [s for doc in json_to_docs(whole) if len(doc) for s in from_doc(doc)]}
    if isinstance(whole, dict) and "classes" in whole and "annotations" in whole:
        whole = [item for item in whole["annotations"] if item is not None]
    if isinstance(whole, dict) and any(key in whole for key in TEXTS):
        whole = [whole]
    splits = {"": whole} if isinstance(whole, list) else whole
    if not isinstance(splits, dict) or not all(isinstance(v, list) for v in splits.values()):
        raise CorpusError(
            path,
            expected='records, or an object of splits, {"train": [[text, category], …], "dev": …}',
            got=f"a JSON {type(whole).__name__} of another shape",
            hint="Rewrite it so, or as JSON lines (.jsonl)",
        )
    return {
        split: _sentences(
            [
                (Place(path, item=f"item {i}" + (f" of {split!r}" if split else "")), record)
                for i, record in enumerate(records)
            ],
            reading,
        )
        for split, records in splits.items()
    }


def read_table(path: str | Path, reading: Reading) -> list[Sentence]:
    """Read texts and categories from a CSV or TSV file; a TSV of entity labels from its columns.

    The header names the columns (``text`` and ``label``, and their like), or ``text_column`` and
    ``column`` do; both as indices mean that there is no header. Several label columns hold a
    value from 0 to 1 each.

    Raises:
        CorpusError: the columns are not found, or several could be meant; a bad row, unless it is
            to be skipped.
    """
    import pandas as pd

    text = read_text(path)
    given = reading.text_column
    headed = not isinstance(given, int)
    delimiters = "\t" if ".tsv" in str(path).lower() else ",;\t|"
    first = text.split("\n", 1)[0].rstrip("\r")
    headers = {d: next(csv.reader([first], delimiter=d)) for d in delimiters}
    delimiter = max(delimiters, key=lambda d: len(headers[d]))
    names = headers[delimiter]
    known = {name.strip().lower() for name in names}
    if ".tsv" in str(path).lower() and given is None and not (known & {*TEXTS}) * (known & {*LABELS}):
        return read_columns(path, reading)
    try:
        table = pd.read_csv(
            io.StringIO(text),
            sep=delimiter,
            header=0 if headed else None,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
        )
    except ValueError as error:  # pandas' ParserError is one, and names the line
        raise CorpusError(
            path, expected="a table", got=str(error).strip(), hint="Correct that line"
        ) from error
    table.columns = [str(name).strip() if headed else name for name in table.columns]
    place = Place(path)
    text_name = _choose(table.columns, TEXTS, given, place, "text_column")
    asked = reading.column
    several = None if asked is None or isinstance(asked, int | str) else list(asked)
    label = several or [_choose(table.columns, LABELS, asked, place, "column")]
    if missing := [name for name in (text_name, *label) if name not in table.columns]:
        got = ", ".join(map(str, table.columns))
        raise CorpusError(path, expected=f"a column {missing[0]!r}", got=got, hint="Check it")
    used = table[[text_name, *label]].fillna("")
    # A cell may hold line breaks, so a record's line is found by counting them.
    breaks = table.fillna("").map(lambda cell: cell.count("\n")).sum(axis=1).cumsum().shift(1)
    numbers = breaks.fillna(0).astype(int) + range(1 + headed, 1 + headed + len(table))
    records = []
    for number, (value, *cells) in zip(numbers, used.itertuples(index=False), strict=True):
        if several:
            labels: Any = dict(zip(map(str, label), cells, strict=True))
        else:
            labels = cells[0]
        if value or any(cells):
            records.append((Place(path, int(number)), {"text": value, "label": labels}))
    plain = replace(reading, column=None, text_column=None)
    return _sentences(records, plain)


def read_dataset(data: Any, reading: Reading, name: str) -> dict[str, list[Sentence]]:
    """Read a HuggingFace dataset, or a dict of such, whose columns are as in `read_json`.

    Integers become the names that the dataset's features give them; -1 (no label) is left out.
    """
    splits = data if isinstance(data, Mapping) else {"": data}
    return {
        str(split): _sentences(
            [
                (Place(name, item=f"row {i}" + (f" of {split!r}" if split else "")), record)
                for i, record in enumerate(_named_rows(part, reading))
            ],
            reading,
        )
        for split, part in splits.items()
    }


def load_saved_dataset(path: Path) -> Any:
    """Return a dataset that ``save_to_disk`` wrote."""
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


def _named_rows(part: Any, reading: Reading) -> Iterable[dict[str, Any]]:
    names: dict[str, list[str]] = {}
    for column, feature in (getattr(part, "features", None) or {}).items():
        inner = feature if hasattr(feature, "names") else getattr(feature, "feature", None)
        if getattr(inner, "names", None):
            names[column] = inner.names
    for row in part:
        record = dict(row)
        for column, known in names.items():
            value = record[column]
            if isinstance(value, list):
                record[column] = [known[i] for i in value]
            elif value is None or value < 0:
                del record[column]
            else:
                record[column] = known[value]
        if names.keys() <= record.keys():
            yield record
        else:
            reading.skipped["no label"] += 1


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _has(item: Any, key: str) -> bool:
    return isinstance(item, dict) and key in item


def _sentences(records: list[tuple[Place, Any]], reading: Reading) -> list[Sentence]:
    """Make sentences of records; what only the whole file can tell is settled here."""
    offsets = any(
        _are_offsets(item.get(key))
        for _, item in records
        if isinstance(item, dict)
        for key in ("label", "labels")
    )
    sentences: list[Sentence] = []
    answered: dict[str, int] = {}  # Prodigy asks of one text about a label after another
    for place, item in records:
        try:
            sentence = _sentence(place, item, offsets, reading)
            if sentence is None:
                continue
            at = answered.setdefault(sentence.text, len(sentences)) if _has(item, "answer") else -1
            if 0 <= at < len(sentences):
                sentences[at] = _merged(place, sentences[at], sentence)
            else:
                sentences.append(sentence)
        except CorpusError as error:
            reading.meet(error)
    overlap = any(s.spans and s.ents is None for s in sentences)
    if overlap:
        path = records[0][0].path
        key = f"doc.spans[{SPANS_KEY!r}]"
        reading.note(f"{path}: some spans overlap, so all are in {key} and none is an entity.")
        sentences = [replace(s, ents=None, unknown_ents=()) for s in sentences]
    return sentences


def _merged(place: Place, old: Sentence, new: Sentence) -> Sentence:
    cats = {**(old.cats or {}), **(new.cats or {})}
    for name, value in (old.cats or {}).items():
        if cats[name] != value:
            raise place.error(f"the answer that the same text had before for {name!r}", cats[name])
    changes = {"cats": cats or None, "ents": new.ents or old.ents, "spans": new.spans or old.spans}
    return replace(old, **changes)


def _sentence(place: Place, item: Any, offsets: bool, reading: Reading) -> Sentence | None:
    record = item
    if isinstance(item, list) and len(item) == 2:
        more = item[1] if isinstance(item[1], dict) else {"label": item[1]}
        record = {"text": item[0], **more}
    if not isinstance(record, dict):
        raise place.error('a record, {"text": …, "label": …}', item)
    try:
        json.dumps(record, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        lone = error.object[error.start : error.end]
        raise place.error("text in Unicode without lone surrogates", lone) from error
    if "data" in record and ("annotations" in record or "completions" in record):
        record = _from_label_studio(place, record, reading)
    if record is None or record.get("answer") == "ignore":
        reading.skipped["not annotated" if record is None else "answer: ignore"] += 1
        return None
    cats, is_open = _cats(place, record, offsets, reading)
    spans = _spans(place, record, offsets)
    layers = _token_layers(place, record)
    if spans is not None and record.get("answer") == "reject":
        spans = None  # what these spans are not is no annotation
    if cats is None and spans is None and not layers:
        if record.get("answer") != "reject":
            got = "no such key but " + ", ".join(map(repr, record))
            raise place.error('"label", "labels", "cats", "spans" or "ner_tags"', got[:80])
        reading.skipped["answer: reject"] += 1
        return None
    words, spaces = _tokens(place, record, reading)
    ids = {key: str(record[key]) for key in ("sent_id", "doc_id") if record.get(key) is not None}
    if spans is not None:
        layers |= _aligned(place, words, spaces, spans, reading)
    try:
        return Sentence(words, spaces, cats=cats, open_cats=is_open, **ids, **layers)
    except ValueError as error:
        raise place.error("layers that fit the tokens", str(error)) from error


def _from_label_studio(
    place: Place, record: Mapping[str, Any], reading: Reading
) -> dict[str, Any] | None:
    """Return a task of Label Studio as a plain record; None if nobody annotated it."""
    done = [
        one
        for one in record.get("annotations", record.get("completions")) or ()
        if not one.get("was_cancelled")
    ]
    if not done:
        return None
    if len(done) > 1:
        reading.note(f"{place.path}: of several annotations of a task, the first was taken.")
    texts = [value for value in record["data"].values() if isinstance(value, str)]
    plain = {"text": record["data"].get("text", texts[0] if len(texts) == 1 else None)}
    spans: list[Any] = []
    choices: list[str] = []
    for result in done[0].get("result", ()):
        value = result.get("value", {})
        if result.get("type") == "choices":
            choices += value["choices"]
        elif result.get("type") in ("labels", "hypertextlabels"):
            spans.append(value)
        else:
            reading.note(f"{place.path}: results of type {result.get('type')!r} were left out.")
    kinds = {result.get("type") for result in done[0].get("result", ())}
    if "choices" in kinds:
        plain["label"] = choices
    return plain | ({"spans": spans} if spans or "choices" not in kinds else {})


def _cats(
    place: Place, record: Mapping[str, Any], offsets: bool, reading: Reading
) -> tuple[dict[str, float] | None, bool]:
    """Return a record's categories, and whether those it does not name are unknown."""
    answer = record.get("answer")
    if answer not in (None, "accept", "reject"):
        raise place.error('as "answer" accept, reject or ignore', answer)
    yes = 0.0 if answer == "reject" else 1.0
    if isinstance(record.get("options"), list):  # Prodigy's choice
        names = [str(option["id"]) for option in record["options"]]
        taken = [str(name) for name in record.get("accept", ())]
        if answer == "reject":
            return dict.fromkeys(taken, 0.0) or None, True
        return {name: float(name in taken) for name in dict.fromkeys([*names, *taken])}, False
    if record.get("_view_id", "").startswith(("ner", "spans")):
        return None, False
    present = [name for name in LABELS if name in record]
    given = reading.column if isinstance(reading.column, str) else None
    if given is None and "label" not in present and len(present) > 1:
        raise place.error("one of the keys " + ", ".join(map(repr, present)), present)
    value = record.get(given or (present[0] if present else ""), record.get("accept"))
    if isinstance(value, dict) and list(value) == ["choices"]:  # Label Studio's JSON_MIN
        value = value["choices"]
    if value is None or _are_offsets(value) or (value == [] and offsets):
        return None, False
    if isinstance(value, dict):
        return {str(name): _score(place, score) for name, score in value.items()}, True
    labels = value if isinstance(value, list) else [value]
    for label in labels:
        if not isinstance(label, str | int) or not str(label).strip():
            raise place.error("a label, a list of labels or an object of values", label)
    return {str(label): yes for label in labels}, answer is not None


def _score(place: Place, value: Any) -> float:
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = -1.0
    if not 0 <= score <= 1:
        raise place.error("a value from 0 to 1 for a category", value)
    return score


def _are_offsets(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    first = value[0]
    return isinstance(first, dict) or (isinstance(first, list) and len(first) == 3)


def _spans(place: Place, record: Mapping[str, Any], offsets: bool) -> list[Span] | None:
    """Return a record's spans in characters, or None if it says nothing about spans."""
    if record.get("_view_id", "") in ("classification", "choice"):
        return None
    values = next((record[k] for k in ("spans", "entities") if k in record), None)
    for key in ("label", "labels"):
        if values is None and (_are_offsets(record.get(key)) or (offsets and record.get(key) == [])):
            values = record[key]
    if values is None:
        return None
    spans: list[Span] = []
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, dict):
            found = [next((value[k] for k in keys if k in value), None) for keys in _SPAN_KEYS]
        else:
            found = list(value) if isinstance(value, list) else []
        match found:
            case [int(start), int(end), str() | list() as labels]:
                names = labels if isinstance(labels, list) else [labels]
                spans += [(start, end, str(name)) for name in names]
            case _:
                raise place.error("a span with start, end and label", value)
        text = record.get("text")
        inside = isinstance(text, str) and 0 <= start < end <= len(text)
        quoted = value.get("text") if isinstance(value, dict) else None
        if isinstance(text, str) and (not inside or quoted not in (None, text[start:end])):
            what = f"{quoted!r} at" if quoted is not None else "characters of the text at"
            raise place.error(f"{what} {start} to {end}", text[start:end])
    return spans


def _token_layers(place: Place, record: Mapping[str, Any]) -> dict[str, Any]:
    layers: dict[str, Any] = {}
    if "ner_tags" in record:
        try:
            layers["ents"] = spans_from_labels(record["ner_tags"])
        except (TypeError, ValueError) as error:
            raise place.error("ner_tags O, B-TYPE or I-TYPE", record["ner_tags"]) from error
    if "pos_tags" in record:
        layers["tags"] = tuple(str(tag) for tag in record["pos_tags"])
    return layers


def _tokens(
    place: Place, record: Mapping[str, Any], reading: Reading
) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    words = record.get("words", record.get("tokens"))
    if isinstance(words, list) and words and all(_has(w, "text") for w in words):  # Prodigy
        spaces = tuple(bool(w.get("ws", True)) for w in words)
        words = [w["text"] for w in words]
    elif isinstance(words, list):
        spaces = (True,) * len(words)
    if isinstance(words, list) and words:
        if wrong := [w for w in words if not isinstance(w, str) or not w]:
            raise place.error("words", wrong[0])
        return tuple(words), spaces
    text = record.get(_choose(record, TEXTS, reading.text_column, place, "text_column"))
    if not isinstance(text, str) or not text.strip():
        raise place.error('a "text" with words', text)
    doc = _tokenizer(reading.lang)(text)
    return tuple(t.text for t in doc), tuple(bool(t.whitespace_) for t in doc)


@cache
def _tokenizer(lang: str) -> Any:
    import spacy

    return spacy.blank(lang).tokenizer


def _aligned(
    place: Place,
    words: Sequence[str],
    spaces: Sequence[bool],
    spans: list[Span],
    reading: Reading,
) -> dict[str, Any]:
    """Return spans in tokens; of tokens that a span cuts, it is unknown whether they are in it."""
    from spacy.tokens import Doc

    doc = Doc(_tokenizer(reading.lang).vocab, words=list(words), spaces=list(spaces))
    found: set[Span] = set()
    unknown: set[int] = set()
    for start, end, label in spans:
        if span := doc.char_span(start, end, label=label):
            found.add((span.start, span.end, label))
        else:
            reading.skipped["spans cut by tokens"] += 1
            unknown |= {t.i for t in doc if t.idx < end and start < t.idx + len(t)}
    ordered = sorted(found)
    ends = [0, *(end for _, end, _ in ordered)]
    if any(start < end for (start, _, _), end in zip(ordered, ends, strict=False)):
        return {"spans": {SPANS_KEY: tuple(ordered)}}
    covered = {i for start, end, _ in ordered for i in range(start, end)}
    return {
        "spans": {SPANS_KEY: tuple(ordered)},
        "ents": tuple(ordered),
        "unknown_ents": tuple(sorted(unknown - covered)),
    }


def _choose(
    names: Iterable[Any], known: Sequence[str], given: Any, place: Place, option: str
) -> Any:
    """Return the name asked for, or the only one of the known names."""
    if given is not None:
        return given
    found = [name for name in names if str(name).lower() in known]
    if len(found) > 1 and known[0] in found:
        return known[0]
    if len(found) != 1:
        got = ", ".join(map(repr, names))[:60]
        error = place.error(f"one of {', '.join(map(repr, known))}", f"no single one of {got}")
        error.args = (f"{error} Or name it with {option}=…",)
        raise error
    return found[0]
