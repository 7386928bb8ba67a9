import gzip
import json
import random

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.training.corpus import JsonlCorpus, PlainTextCorpus

from trfnb.pretraining.checks import text_problems
from trfnb.pretraining.reader import GivenDocs, RawText, streamed, tokenised
from trfnb.pretraining.text import LONGEST_LINE, Skipped, records

NLP = spacy.blank("en")
LINES = ["Ada left Oslo.", "Ångström won the games.", "Grace sold ships."]


def plain(folder):
    path = folder / "a.txt"
    path.write_text("\n".join([LINES[0], "", *LINES[1:]]), encoding="utf8")
    return path


def jsonl(folder):
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES))
    return path


def zipped(folder):
    path = folder / "a.txt.gz"
    path.write_bytes(gzip.compress("\n".join(LINES).encode()))
    return path


def docs(folder):
    path = folder / "a.spacy"
    DocBin(docs=[NLP.make_doc(line) for line in LINES]).to_disk(path)
    return path


def folder_of_files(folder):
    (folder / "in").mkdir()
    for name, line in zip(("1.txt", "2.txt", "sub.txt"), LINES, strict=True):
        (folder / "in" / name).write_text(line, encoding="utf8")
    (folder / "in" / ".hidden.txt").write_text("not this")
    (folder / "in" / "readme.md").write_text("nor this")
    return folder / "in"


@pytest.mark.parametrize("make", [plain, jsonl, zipped, docs, folder_of_files])
def test_every_form_gives_the_same_words(make, tmp_path):
    path = make(tmp_path)
    assert text_problems(path) == []
    found = [tokenised(NLP, record) for record in records(path)]
    expected = [NLP.make_doc(line) for line in LINES]
    assert [words for words, _ in found] == [[t.text for t in doc] for doc in expected]
    assert [spaces for _, spaces in found] == [[bool(t.whitespace_) for t in d] for d in expected]
    assert list(records(path)) == list(records(path))


def test_bad_lines_in_the_middle_are_counted(tmp_path):
    path, skipped = tmp_path / "a.txt", Skipped()
    long = b"x" * (LONGEST_LINE * 2 + 5)
    good = b"\n".join(b"a line of text" for _ in range(20))
    path.write_bytes(good + b"\n\xff\xfe\n" + long + b"\nlast line\nbi\0nary\n")
    assert text_problems(path) == []
    assert list(records(path, skipped))[-1] == "last line"
    assert len(list(records(path))) == 21
    assert sorted(skipped.counts.values()) == [1, 1, 1]


def test_a_broken_end_is_counted(tmp_path):
    path, skipped = tmp_path / "a.txt.gz", Skipped()
    noise = random.Random(0)
    lines = "\n".join(f"{noise.random()} {noise.random()}" for _ in range(200_000))
    path.write_bytes(gzip.compress(lines.encode(), compresslevel=1)[:-1000])
    assert text_problems(path) == []
    assert len(list(records(path, skipped))) > 150_000
    assert skipped.told() == {"the rest of a broken .gz": 1}


@pytest.mark.parametrize(
    "bad",
    ['{"text": "half \\ud800"}', '{"tokens": ["half", "\\ud800"]}', "[" * 100_000,
     '{"text": 1' + "0" * 5000 + "}"],
    ids=["half a character", "half a token", "brackets", "number"],
)  # fmt: skip
def test_json_that_no_text_can_be_is_counted(bad, tmp_path):
    path, skipped = tmp_path / "a.ndjson", Skipped()
    path.write_text(f'{{"text": "one"}}\n{bad}\n{{"text": "two"}}\n')
    assert list(records(path, skipped)) == ["one", "two"]
    assert sum(skipped.counts.values()) == 1


def test_bad_json_is_counted(tmp_path):
    path, skipped = tmp_path / "a.jsonl", Skipped()
    path.write_text('{"text": "one"}\nnot json\n{"other": 1}\n{"tokens": ["t", "wo"]}\n[]\n')
    assert list(records(path, skipped)) == ["one", (["t", "wo"], [True, True])]
    assert sum(skipped.counts.values()) == 3


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "an empty file"),
        ("a.txt", b"  \n \n", "an empty file"),
        ("a.txt", bytes(range(256)) * 400, "binary"),
        ("a.txt", "text".encode("utf-16"), "UTF-16"),
        ("a.txt", "naïve café\n".encode("latin1") * 50, "another encoding"),
        ("a.txt", b"x " * 1_500_000, "one text a line"),
        ("a.jsonl", b"not json\nnor this\n", '"text" or "tokens"'),
        ("a.txt.gz", b"not gzip", "cannot be read"),
        ("a.spacy", b"not a docbin", "DocBin"),
    ],
)
def test_useless_files_are_named_with_what_to_do(name, content, said, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    (problem,) = text_problems(path)
    assert said in problem.replace("in another\nencoding", "another encoding")
    assert str(path) in problem


def test_nothing_there(tmp_path):
    assert "no such path" in text_problems(tmp_path / "nowhere")[0]
    assert "none" in text_problems(tmp_path)[0]
    assert "raw_text" in text_problems(None)[0]


def lengths(text):
    return [len(example.reference) for example in text(NLP)]


def test_readers_cut_or_leave_out_long_docs(tmp_path):
    path = plain(tmp_path)  # docs of 4, 5 and 4 tokens
    assert lengths(RawText(path)) == [4, 5, 4]
    assert lengths(RawText(path, max_length=3, min_length=2)) == [3, 3, 2, 3]
    assert lengths(RawText(path, max_length=4, split=False)) == [4, 4]
    assert lengths(RawText(path, limit=1)) == [4]


@pytest.mark.parametrize("longest", [0, 4, 5])
def test_spacys_readers_are_read_as_they_read(longest, tmp_path):
    for reader in (
        JsonlCorpus(jsonl(tmp_path), min_length=2, max_length=longest),
        PlainTextCorpus(plain(tmp_path), min_length=2, max_length=longest),
    ):
        ours = streamed(reader, NLP)
        assert isinstance(ours, RawText)
        assert lengths(ours) == lengths(reader)


def test_a_users_own_reader_is_read_through_its_docs():
    given = streamed(lambda nlp: (nlp.make_doc(line) for line in LINES), NLP)
    assert isinstance(given, GivenDocs)
    assert [record[0][-1] for record in given.records()] == ["."] * 3
