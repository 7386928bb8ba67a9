"""The table of docs/how-to/own-corpus.md: each tool's file is read, written as .spacy and equal."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import conllu as conllu_package
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from spacy.tokens import Doc, DocBin
from spacy.training import converters
from spacy.vocab import Vocab

from trfnb.corpora import load

from .conftest import conllu

PAGE = (Path(__file__).parents[2] / "docs/how-to/own-corpus.md").read_text(encoding="utf8")
COUNT = 12
WORDS = ["Ann", "left", "New", "York"]
IOB = ["B-PER", "O", "B-LOC", "I-LOC"]
TEXT = " ".join(WORDS)
SPANS = [(0, 3, "PER"), (9, 17, "LOC")]
ENTS = ((0, 1, "PER"), (2, 4, "LOC"))
ROWS = (
    "1 Ann PROPN NNP 2 nsubj NER=B-PER",
    "2 left VERB VBD 0 root _",
    "3 New PROPN NNP 4 nn NER=B-LOC",
    "4 York PROPN NNP 2 obj NER=I-LOC",
)


def lines(records: list[object]) -> str:
    return "".join(json.dumps(one) + "\n" for one in records)


def columns(labels: list[str], form: str = "{}\t{}\n") -> str:
    rows = "".join(form.format(w, label) for w, label in zip(WORDS, labels, strict=True))
    return f"{rows}\n" * COUNT


def from_conllu(folder: Path) -> None:
    sentences = conllu_package.parse(conllu(*ROWS) * COUNT)
    (folder / "a.conllu").write_text("".join(one.serialize() for one in sentences))


def from_spacy(folder: Path) -> None:
    docs = [Doc(Vocab(), words=WORDS, ents=IOB) for _ in range(COUNT)]
    DocBin(docs=docs).to_disk(folder / "a.spacy")


def from_spacy_convert(folder: Path) -> None:
    text = columns(IOB, "{} NNP NP {}\n").replace("Ann", "-DOCSTART- -X- O O\n\nAnn")
    docs = list(converters.conll_ner_to_docs(text, no_print=True))
    DocBin(docs=docs).to_disk(folder / "a.spacy")


def from_pandas(folder: Path) -> None:
    table = pd.DataFrame({"text": [TEXT, 'He said "no", twice.'] * 6, "label": ["yes", "no"] * 6})
    table.to_csv(folder / "a.csv", index=False)


def from_datasets(folder: Path) -> None:
    names = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    Dataset.from_dict({"text": [TEXT, "No."] * 6, "label": [1, 0] * 6}, names).save_to_disk(folder)


def written(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf8")

    return write


PRODIGY = [
    {"text": TEXT, "answer": "accept", "_input_hash": i, "_task_hash": i, "_view_id": "ner_manual",
     "tokens": [{"text": w, "start": TEXT.index(w), "end": TEXT.index(w) + len(w), "id": j}
                for j, w in enumerate(WORDS)],
     "spans": [{"start": a, "end": b, "label": label} for a, b, label in SPANS]}
    for i in range(COUNT)
]  # fmt: skip
CHOICES = [
    {"text": TEXT, "options": [{"id": "yes"}, {"id": "no"}], "accept": ["yes", "no"][i % 2 :][:1],
     "answer": "accept", "_input_hash": i, "_view_id": "choice"}
    for i in range(COUNT)
]  # fmt: skip
DOCCANO = [{"id": i, "text": TEXT, "label": [list(one) for one in SPANS]} for i in range(COUNT)]
TEXTCATS = [{"id": i, "text": TEXT, "label": ["yes", "no"][i % 2 :][:1]} for i in range(COUNT)]
STUDIO = [
    {"id": i, "data": {"text": TEXT}, "annotations": [{"id": i, "was_cancelled": False, "result": [
        {"id": str(n), "type": "labels", "from_name": "label", "to_name": "text",
         "value": {"start": a, "end": b, "text": TEXT[a:b], "labels": [label]}}
        for n, (a, b, label) in enumerate(SPANS)]}]}
    for i in range(COUNT)
]  # fmt: skip

# Row of the page -> what writes the file, and the component that learns from it.
FORMATS: dict[str, tuple[Callable[[Path], None], str]] = {
    "CoNLL-U, entities in MISC": (from_conllu, "parser"),
    "columns, IOB2": (written("a.iob", columns(IOB)), "ner"),
    "columns, IOB1": (written("a.conll", columns(["I-PER", "O", "I-LOC", "I-LOC"])), "ner"),
    "columns, BILUO": (written("a.bilou", columns(["U-PER", "O", "B-LOC", "L-LOC"])), "ner"),
    "columns, BIOES": (written("a.bioes", columns(["S-PER", "O", "B-LOC", "E-LOC"])), "ner"),
    "columns, BMES": (written("a.bmes", columns(["S-PER", "O", "B-LOC", "E-LOC"])), "ner"),
    "`.spacy`": (from_spacy, "ner"),
    "`.spacy` from CoNLL-2003": (from_spacy_convert, "ner"),
    "CSV": (from_pandas, "textcat"),
    "saved dataset": (from_datasets, "textcat"),
    "JSONL, spans and tokens": (written("a.jsonl", lines(PRODIGY)), "ner"),
    "JSONL, choices": (written("a.jsonl", lines(CHOICES)), "textcat"),
    "JSONL, label offsets": (written("a.jsonl", lines(DOCCANO)), "ner"),
    "JSONL, label lists": (written("a.jsonl", lines(TEXTCATS)), "textcat"),
    "JSON export": (written("a.json", json.dumps(STUDIO)), "ner"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_tools_file_comes_back_as_it_was_read(name: str, tmp_path: Path) -> None:
    write, task = FORMATS[name]
    (tmp_path / "in").mkdir()
    write(tmp_path / "in")
    corpus = load(tmp_path / "in")
    assert task in corpus.tasks
    read = [*corpus.train, *corpus.dev, *corpus.test]
    assert len(read) == COUNT
    if task != "textcat":
        assert {s.ents for s in read} == {ENTS}
        assert {s.words for s in read} == {tuple(WORDS)}
    corpus.save(tmp_path / "out")
    again = load(tmp_path / "out")
    assert sorted(again.train, key=repr) == sorted(corpus.train, key=repr)
    assert (again.dev, again.test) == (corpus.dev, corpus.test)


def test_the_page_has_a_row_for_each() -> None:
    table = PAGE[PAGE.index("## Read and written back") :]
    rows = re.findall(r"^\| (.+?) \| .+ \| yes \|$", table, re.MULTILINE)
    assert rows == list(FORMATS)
