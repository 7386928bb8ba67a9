"""JSON of annotation tools, tables and datasets: what each means, and what is refused."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import spacy

from trfnb.corpora import CorpusError, Sentence, load
from trfnb.corpora.corpus import Reading
from trfnb.corpora.records import read_dataset, read_json, read_table

from .conftest import Write


def _read(write: Write, *records: Any, name: str = "a.jsonl") -> tuple[list[Sentence], Reading]:
    reading = Reading()
    lines = "\n".join(json.dumps(record) for record in records)
    return read_json(write(name, lines), reading)[""], reading


def _cats(write: Write, *records: Any) -> list[Any]:
    return [s.cats for s in _read(write, *records)[0]]


def test_categories_by_label_and_by_value(write: Write) -> None:
    (one, two, three, four), _ = _read(
        write,
        {"text": "May didn't win.", "label": "sport", "sent_id": 7},
        {"text": "Go", "labels": ["a", "b"]},
        {"words": ["New York", "won"], "cats": {"a": 1, "b": 0}},
        {"text": "Go", "label": 0},
        name="a.json",
    )
    assert one.words == ("May", "did", "n't", "win", ".")
    assert one.text == "May didn't win."
    assert (one.cats, one.sent_id, one.open_cats) == ({"sport": 1.0}, "7", False)
    assert two.cats == {"a": 1.0, "b": 1.0}
    assert three.words == ("New York", "won")
    assert (three.cats, three.open_cats) == ({"a": 1.0, "b": 0.0}, True)
    assert four.cats == {"0": 1.0}


def test_prodigy_answers(write: Write) -> None:
    options = [{"id": "A", "text": "a"}, {"id": "B", "text": "b"}]
    records = [
        {"text": "rates rose", "label": "SPORT", "answer": "reject"},
        {"text": "May won", "label": "SPORT", "answer": "accept"},
        {"text": "left out", "label": "SPORT", "answer": "ignore"},
        {"text": "x", "options": options, "accept": ["B"], "answer": "accept"},
        {"text": "x", "options": options, "accept": [], "answer": "accept"},
        {"text": "x", "options": options, "accept": ["B"], "answer": "reject"},
        {"text": "May", "spans": [{"start": 0, "end": 3, "label": "PER"}], "answer": "reject"},
    ]
    sentences, reading = _read(write, *records)
    assert [s.cats for s in sentences] == [
        {"SPORT": 0.0},
        {"SPORT": 1.0},
        {"A": 0.0, "B": 1.0},
        {"A": 0.0, "B": 0.0},
        {"B": 0.0},
    ]
    assert all(s.open_cats for s in sentences), "nothing was asked of the other categories"
    assert reading.skipped == {"answer: ignore": 1, "answer: reject": 1}
    with pytest.raises(CorpusError, match=r":1: .*accept, reject or ignore, got 'maybe'"):
        _read(write, {"text": "x", "label": "A", "answer": "maybe"})


def test_prodigy_spans_and_matches(write: Write) -> None:
    tokens = [{"text": "don't", "start": 0, "end": 5}, {"text": "May", "start": 6, "end": 9}]
    record = {"text": "don't May", "tokens": tokens, "answer": "accept"}
    span = {"start": 6, "end": 9, "label": "PER", "token_start": 1, "token_end": 1}
    asked = {"_view_id": "classification", "label": "A"}
    (named, categorised), _ = _read(
        write, {**record, "spans": [span]}, {**record, "spans": [span], **asked}
    )
    assert named.words == ("don't", "May")
    assert named.ents == ((1, 2, "PER"),)
    assert named.spans == {"sc": ((1, 2, "PER"),)}
    assert (categorised.ents, categorised.cats) == (None, {"A": 1.0})


def test_prodigy_asks_about_one_entity_or_about_all(write: Write) -> None:
    """A binary question leaves the other tokens unknown; a text looked through may have none."""
    span = {"start": 0, "end": 3, "label": "PER"}
    records = [
        {"text": "May won", "spans": [span], "_view_id": "ner", "answer": "accept"},
        {"text": "May won", "spans": [span], "_view_id": "ner_manual", "answer": "accept"},
        {"text": "it won", "_view_id": "ner_manual", "answer": "accept"},
    ]
    found = [(s.ents, s.unknown_ents) for s in _read(write, *records)[0]]
    assert found == [(((0, 1, "PER"),), (1,)), (((0, 1, "PER"),), ()), ((), ())]


def test_doccano(write: Write) -> None:
    assert _cats(write, {"text": "a", "label": ["pos"]}, {"text": "b", "labels": []}) == [
        {"pos": 1.0},
        {},
    ]
    path = write("b.jsonl", '{"text": "a", "labels": ["pos"]}\n{"text": "b", "labels": []}\n')
    corpus = load(path)
    cats = {s.words[0]: s.cats for s in (*corpus.train, *corpus.dev)}
    assert cats == {"a": {"pos": 1.0}, "b": {"pos": 0.0}}
    first, second = _read(
        write, {"text": "US won", "label": [[0, 2, "ORG"]]}, {"text": "it won", "label": []}
    )[0]
    assert (first.ents, second.ents) == (((0, 1, "ORG"),), ())
    assert first.cats is None
    entities = [{"id": 1, "label": "ORG", "start_offset": 0, "end_offset": 2}]
    (related,), _ = _read(write, {"text": "US won", "entities": entities, "relations": []})
    assert related.ents == ((0, 1, "ORG"),)


def test_label_studio(write: Write) -> None:
    span = {"start": 0, "end": 3, "text": "May", "labels": ["PER"]}
    results = [
        {"type": "labels", "value": span},
        {"type": "choices", "value": {"choices": ["sport"]}},
        {"type": "relation"},
    ]
    tasks = [
        {"id": 1, "data": {"text": "May won"}, "annotations": [{"result": results}] * 2},
        {"id": 2, "data": {"text": "It won"}, "annotations": [{"result": []}]},
        {"id": 3, "data": {"text": "x"}, "annotations": [{"was_cancelled": True, "result": []}]},
    ]
    reading = Reading()
    first, second = read_json(write("a.json", json.dumps(tasks)), reading)[""]
    assert (first.ents, first.cats) == (((0, 1, "PER"),), {"sport": 1.0})
    assert (second.ents, second.cats) == ((), None)
    assert reading.skipped == {
        "answer: ignore": 1, "Label Studio relation": 1, "second annotation in Label Studio": 1
    }  # fmt: skip
    span["text"] = "Rose"
    with pytest.raises(CorpusError, match="item 0"):
        read_json(write("a.json", json.dumps(tasks)), Reading())


def test_spans_that_tokens_cut_are_counted_and_unknown(write: Write) -> None:
    (sentence,), reading = _read(write, ["Mayor May won", {"entities": [[0, 3, "A"], [6, 9, "B"]]}])
    assert sentence.ents == ((1, 2, "B"),)
    assert sentence.unknown_ents == (0,)
    assert reading.skipped == {"spans cut by tokens": 1}


def test_overlapping_spans_are_for_spancat(write: Write) -> None:
    spans = [[0, 8, "LOC"], [0, 3, "ADJ"]]
    lines = [["New York won", {"spans": spans}], ["May won", {"spans": [[0, 3, "PER"]]}]]
    path = write("a.jsonl", "\n".join(map(json.dumps, lines)))
    corpus = load(path)
    assert corpus.tasks == ("spancat",)
    assert "overlap" in corpus.notes[0]
    by_word = {s.words[0]: s for s in (*corpus.train, *corpus.dev)}
    assert by_word["New"].spans == {"sc": ((0, 1, "ADJ"), (0, 2, "LOC"))}
    assert by_word["May"].ents is None
    docs = [
        e.reference for s in ("train", "dev") for e in corpus.examples(s, spacy.blank("en").vocab)
    ]
    assert {(span.text, span.label_) for doc in docs for span in doc.spans["sc"]} == {
        ("New", "ADJ"),
        ("New York", "LOC"),
        ("May", "PER"),
    }


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{", "record"),
        ("[]", "record"),
        ('{"text": "x"}', "got ['text']"),
        ('{"text": " ", "label": "a"}', "' '"),
        ('{"label": "a"}', "got ['label']"),
        ('{"text": "x", "label": [1.5]}', "1.5"),
        ('{"tokens": ["x", "y", "z"], "labels": ["B-PER", "O", "O"]}', "ner_tags"),
        ('{"text": "x", "cats": {"a": 3}}', "3"),
        ('{"text": "x", "category": "a", "intent": "b"}', "column="),
        ('{"text": "x", "spans": [[0, 9, "A"]]}', "'end': 9"),
        ('{"text": "x", "spans": 3}', "'int'"),
        ('{"tokens": ["x", "y"], "ner_tags": ["O"]}', "2 tokens"),
        ('{"text": "a \\ud83d", "label": "a"}', r"ud83d"),
        ('{"text": "a b", "tokens": ["a", "c"], "label": "a"}', "ValueError"),
        ('{"text": "x", "label": "a", "label": "b"}', "a key is given twice among text, label"),
        ('{"text": "x", label: "a"}', "Expecting property name"),
    ],
)
def test_a_bad_record_is_named_or_skipped(write: Write, bad: str, says: str) -> None:
    good = '{"text": "x", "label": "a"}'
    path = write("a.jsonl", f"{good}\n{bad}\n{good}\n")
    with pytest.raises(CorpusError) as caught:
        read_json(path, Reading())
    assert caught.value.line == 2
    assert says in str(caught.value)
    reading = Reading("skip")
    assert len(read_json(path, reading)[""]) == 2
    assert reading.skipped == Counter({"malformed record": 1})


def test_a_json_file_of_splits(write: Write) -> None:
    data = {
        "train": [["play a song", "music"], ["pay it", "bank"]],
        "oos_train": [["what is love", "oos"]],
        "val": [["play it", "music"]],
        "test": [["sing", "music"]],
        "draft": [["x", "music"]],
    }
    corpus = load(write("a.json", json.dumps(data)))
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (3, 1, 1)
    assert corpus.tasks == ("textcat",)
    assert corpus.dev[0].cats == {"bank": 0.0, "music": 1.0, "oos": 0.0}
    assert corpus.skipped == {"split 'draft' is none of train, dev and test": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3", "record"),
        ('{"train": 3}', "got"),
        ("{", "record"),
        ('{"dev": [["a", "b"]]}', "sentences for train, got none, but for dev"),
        ('{"train": [["a"]]}', "a.json:train item 0: "),
    ],
)
def test_bad_splits(write: Write, text: str, says: str) -> None:
    with pytest.raises(CorpusError, match=says):
        load(write("a.json", text))


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("a.csv", 'text,label\n"one,\ntwo",a\n\nthree,b\n', {}),
        ("a.csv", '"Review";id;sentiment\r\n"one,\ntwo";1;a\r\nthree;2;b\r\n', {}),
        ("a.tsv", 'sentence\tlabel\n"one,\ntwo"\ta\nthree\tb\n', {}),
        ("a.tsv", '"one,\ntwo"\ta\nthree\tb\n', {"text_column": 0, "column": 1}),
        ("a.csv", 'q,x\n"one,\ntwo",a\nthree,b\n', {"text_column": "q", "column": "x"}),
    ],
)
def test_tables(write: Write, name: str, text: str, options: dict[str, Any]) -> None:
    one, two = read_table(write(name, text), Reading(**options))
    assert (one.text, one.cats) == ("one,\ntwo", {"a": 1.0})
    assert (two.text, two.cats) == ("three", {"b": 1.0})


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('text,label\n"x\ny",a\nz,\n', 4, "''"),
        ("text,label\nx\n", 2, "''"),
        ("text,label\nx,a\ny,b,c\n", None, "line 3"),
        ("text,label\n1,x,a\n2,y,b\n", None, "line 2, saw 3"),
        ("text,class,intent\nx,a,b\n", 2, "column="),
        ("text,label,label\nx,a,b\n", 1, "'label' more than once"),
        ("q,w\nx,a\n", 1, "got ['q', 'w']: no 'text', no 'label'. Rename"),
        (
            'text,label\n"Hi,a\nand "so" on,b\n',
            None,
            "a quote that does not end its cell, on line 2",
        ),
    ],
)
def test_bad_tables(write: Write, text: str, line: int | None, says: str) -> None:
    with pytest.raises(CorpusError) as caught:
        read_table(write("a.csv", text), Reading())
    assert caught.value.line == line
    assert says in str(caught.value)


def test_a_carriage_return_does_not_end_a_row(write: Write) -> None:
    (one,) = read_table(write("a.csv", "label,text\r\npos,good\rwell\r\n"), Reading())
    assert (one.text, one.cats) == ("good\rwell", {"pos": 1.0})


def test_quotes_in_a_tsv_do_not_join_its_rows(write: Write) -> None:
    rows = 'text\tlabel\n"Hello\ta\nshe said bye"\tb\n'
    with pytest.raises(CorpusError, match="quote that does not end its cell, on line 2"):
        read_table(write("a.tsv", rows), Reading())


def test_a_tsv_of_entity_labels_is_no_table(write: Write) -> None:
    (sentence,) = read_table(write("a.tsv", "May\tB-PER\nwon\tO\n"), Reading())
    assert sentence.ents == ((0, 1, "PER"),)


def test_datasets_live_and_saved(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    rows = {"text": ["a", "b", "c", "d"], "label": [0, 1, 1, 0]}
    data = datasets.Dataset.from_dict(rows, features=features)
    live = load(data)
    assert len(live.train) + len(live.dev) + len(live.test) == 4
    both = datasets.DatasetDict({"train": data, "validation": data.select([1])})
    both.save_to_disk(tmp_path / "saved")
    saved = load(tmp_path / "saved")
    assert (saved.name, saved.dev[0].cats) == ("saved", {"neg": 0.0, "pos": 1.0})
    tags = datasets.Features(
        {
            "tokens": datasets.Sequence(datasets.Value("string")),
            "ner_tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER"])),
        }
    )
    rows = {"tokens": [["May", "won"]], "ner_tags": [[1, 0]]}
    (sentence,) = read_dataset("x", Reading(), datasets.Dataset.from_dict(rows, features=tags))[""]
    assert (sentence.words, sentence.ents) == (("May", "won"), ((0, 1, "PER"),))
    rows = {"text": ["a"], "label": [-1]}
    with pytest.raises(CorpusError, match="item 0"):
        read_dataset("x", Reading(), datasets.Dataset.from_dict(rows, features=features))


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(CorpusError, match=r"trfnb\[datasets\]"):
        load(tmp_path)
