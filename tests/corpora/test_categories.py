import json
from collections import Counter

import pytest

from trfnb.corpora import CorpusError, load
from trfnb.corpora.categories import read_jsonl
from trfnb.corpora.errors import Problems

from .conftest import Write


def test_shapes_of_a_line(write: Write) -> None:
    lines = [
        {"text": "May didn't win.", "label": "sport", "sent_id": 7},
        {"text": "Go", "labels": ["a", "b"]},
        {"words": ["New York", "won"], "cats": {"a": 1, "b": 0}},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    one, two, three = read_jsonl(write("a.jsonl", text), Problems())
    assert one.words == ("May", "did", "n't", "win", ".")
    assert one.text == "May didn't win."
    assert (one.cats, one.sent_id) == ({"sport": 1.0}, "7")
    assert two.cats == {"a": 1.0, "b": 1.0}
    assert three.words == ("New York", "won")
    assert three.cats == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize(
    "bad", ["{", "[]", "{}", '{"text": "x"}', '{"text": " ", "label": "a"}', '{"label": "a"}']
)
def test_a_bad_line_is_named_or_skipped(write: Write, bad: str) -> None:
    good = '{"text": "x", "label": "a"}'
    path = write("a.jsonl", f"{good}\n{bad}\n{good}\n")
    with pytest.raises(CorpusError, match="label") as caught:
        read_jsonl(path, Problems())
    assert caught.value.line == 2
    problems = Problems("skip")
    assert len(read_jsonl(path, problems)) == 2
    assert problems.skipped == Counter({"malformed record": 1})


def test_a_json_file_of_splits(write: Write) -> None:
    data = {
        "train": [["play a song", "music"], ["pay it", "bank"]],
        "oos_train": [["what is love", "oos"]],
        "val": [["play it", "music"]],
        "test": [["sing", "music"]],
    }
    corpus = load(write("a.json", json.dumps(data)))
    assert (len(corpus.train), len(corpus.dev)) == (3, 1)
    assert corpus.tasks == ("textcat",)
    assert corpus.dev[0].cats == {"bank": 0.0, "music": 1.0, "oos": 0.0}
    assert corpus.skipped == {"split 'test' is neither train nor dev": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "list"),
        ('{"train": 3}', "another shape"),
        ("{", "expected JSON"),
        ('{"dev": [["a", "b"]]}', "no such split"),
        ('{"train": [["a"]]}', "item 0 of 'train'"),
    ],
)
def test_bad_splits(write: Write, text: str, says: str) -> None:
    with pytest.raises(CorpusError, match=says):
        load(write("a.json", text))
