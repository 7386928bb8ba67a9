import bz2
import gzip
import json
import lzma
import random
from collections import Counter
from zipfile import ZipFile

import pytest
import spacy
from small_runs import text
from spacy.training.batchers import configure_minibatch_by_words
from spacy.training.corpus import JsonlCorpus, PlainTextCorpus

from trfnb.pretraining import PretrainingError
from trfnb.pretraining.masking import words_of
from trfnb.pretraining.text import (
    LONGEST,
    NO_JSON,
    Position,
    RawText,
    Stream,
    held_out,
    text_of,
    text_problems,
    texts,
)

NLP = spacy.blank("en")
LINES = ["Ada left Oslo.", "Ångström won the games.", "Grace sold ships."]
BATCHER = configure_minibatch_by_words(size=100, tolerance=0.2, discard_oversize=False)


def plain(folder):
    path = folder / "a.txt"
    path.write_text("\n".join([LINES[0], "", *LINES[1:]]), encoding="utf8")
    return path


def jsonl(folder):
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES))
    return path


def packed(module, suffix):
    def make(folder):
        path = folder / f"a.txt{suffix}"
        path.write_bytes(module.compress("\n".join(LINES).encode()))
        return path

    return make


def folder_of_files(folder):
    (folder / "in").mkdir()
    for name, line in zip(("1.txt", "2.txt", "sub.txt"), LINES, strict=True):
        (folder / "in" / name).write_text(line, encoding="utf8")
    (folder / "in" / ".hidden.txt").write_text("not this")
    (folder / "in" / "readme.md").write_text("nor this")
    return folder / "in"


@pytest.mark.parametrize(
    "make",
    [plain, jsonl, folder_of_files, packed(gzip, ".gz"), packed(bz2, ".bz2"),
     packed(lzma, ".xz")],
)  # fmt: skip
def test_every_form_gives_the_same_words(make, tmp_path):
    path = make(tmp_path)
    assert text_problems(path) == []
    for _ in range(2):
        (found,) = [[e.reference for e in RawText(path)(NLP)]]
        assert [[t.text_with_ws for t in doc] for doc in found] == [
            [t.text_with_ws for t in NLP.make_doc(line)] for line in LINES
        ]


def test_lines_that_cannot_be_read_are_counted_by_reason(tmp_path):
    path, skipped = tmp_path / "a.txt", Counter()
    good = b"\n".join(b"a line of text" for _ in range(40))
    path.write_bytes(good + b"\n\xff\xfe\nlast line\nbi\0nary\n")
    assert text_problems(path) == []
    assert list(texts(path, skipped))[-1] == "last line"
    assert skipped == {"not UTF-8": 1, "bytes of zero in the text": 1}


def test_a_line_longer_than_a_text_may_be_is_cut(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("ä" * (LONGEST + 5) + "\nlast line\n")
    assert [len(text) for text in texts(path, Counter())] == [LONGEST, 5, 9]
    records, skipped = tmp_path / "a.jsonl", Counter()
    records.write_text(json.dumps({"text": "ä" * (LONGEST + 5)}) + '\n{"text": "last line"}\n')
    assert [len(text) for text in texts(records, skipped)] == [LONGEST, 5, 9]
    assert not skipped


def test_an_archive_of_several_files_is_refused(tmp_path):
    with ZipFile(tmp_path / "a.txt.zip", "w") as archive:
        archive.writestr("one.txt", "one\n")
    assert list(texts(tmp_path / "a.txt.zip", Counter())) == ["one"]
    with ZipFile(tmp_path / "a.txt.zip", "a") as archive:
        archive.writestr("two.txt", "two\n")
    with pytest.raises(PretrainingError, match=r"got 2: one\.txt, two\.txt\. Unpack it"):
        list(texts(tmp_path / "a.txt.zip", Counter()))


def test_a_file_may_have_colons_in_its_name(tmp_path):
    (tmp_path / "a::b.txt").write_text("one\n")
    assert list(texts(tmp_path / "a::b.txt", Counter())) == ["one"]


def test_a_broken_archive_is_an_error(tmp_path):
    path = tmp_path / "a.txt.gz"
    noise = random.Random(0)
    lines = "\n".join(f"{noise.random()} {noise.random()}" for _ in range(20_000))
    path.write_bytes(gzip.compress(lines.encode(), compresslevel=1)[:-1000])
    with pytest.raises(PretrainingError, match=r"a\.txt\.gz.*got EOFError.*pack"):
        list(texts(path, Counter()))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [('{"text": "half \\ud800"}', "not UTF-8"), ("[" * 100_000, NO_JSON),
     ('{"text": 1' + "0" * 5000 + "}", NO_JSON), ("no json", NO_JSON), ('{"other": 1}', NO_JSON),
     ("[]", NO_JSON)],
    ids=["half a character", "brackets", "number", "none", "key", "list"],
)  # fmt: skip
def test_json_without_a_text_is_counted(bad, reason, tmp_path):
    path, skipped = tmp_path / "a.ndjson", Counter()
    path.write_text(f'{{"text": "one"}}\n{bad}\n{{"text": "two"}}\n')
    assert list(texts(path, skipped)) == ["one", "two"]
    assert skipped == {reason: 1}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"  \n \n", "got a file without any"),
        ("a.txt", b"a text\0with zeros\n" * 50, "bytes of zero in the text (50). Binary data"),
        ("a.txt", "a text\n".encode("utf-16") * 50, "UTF-16"),
        ("a.txt", "naïve café\n".encode("latin1") * 50, "got 50 of 50 lines"),
        ("a.jsonl", b"not json\nnor this\n", 'the key "text"'),
        ("a.txt.gz", b"not gzip", "BadGzipFile"),
    ],
)
def test_useless_files_are_named_with_the_cause_and_what_to_do(name, content, said, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    (problem,) = text_problems(path)
    assert said in problem
    assert str(path) in problem


def test_a_path_without_text_is_named(tmp_path):
    assert "no such path" in text_problems(tmp_path / "nowhere")[0]
    assert "expected files that end in .txt" in text_problems(tmp_path)[0]


def lengths(reader):
    return [len(example.reference) for example in reader(NLP)]


def test_spacys_readers_are_read_here_and_others_refused(tmp_path):
    for reader in (
        JsonlCorpus(jsonl(tmp_path), min_length=2, max_length=0),
        PlainTextCorpus(plain(tmp_path), min_length=5, max_length=0),
    ):
        assert lengths(text_of(reader)) == lengths(reader)
    with pytest.raises(PretrainingError, match=r"RawText\.v1, spacy\.JsonlCorpus\.v1 or"):
        text_of(lambda nlp: [])
    with pytest.raises(PretrainingError, match=r"--paths\.raw_text"):
        text_of(JsonlCorpus(None))


def test_long_docs_are_cut_and_short_ones_left_out(tmp_path):
    path = plain(tmp_path)  # docs of 4, 5 and 4 tokens
    assert lengths(RawText(path, max_length=3, min_length=2)) == [3, 3, 2, 3]
    assert lengths(RawText(path, limit=1)) == [4]


def stream(path, **options):
    return Stream(NLP, RawText(path), BATCHER, **{"shard_size": 1500, **options})


def words(batches):
    return [(position, [words_of(doc) for doc in docs]) for position, docs in batches]


def test_from_any_place_the_same_batches_follow(lines):
    made = stream(lines)
    whole = words(made.batches(Position(), 2))
    assert len({position.shard for position, _ in whole}) > 5
    for i in (0, 3, len(whole) // 2, len(whole) - 2):
        assert words(made.batches(whole[i][0], 2)) == whole[i + 1 :]


def test_epochs_hold_all_text_but_the_held_out_in_another_order(lines):
    numbers, dev = held_out(NLP, RawText(lines), 60)
    assert 60 <= sum(map(len, dev)) < 100
    whole = words(stream(lines, held_out=numbers).batches(Position(), 2))
    first, second = (
        [doc for position, docs in whole if position.epoch == epoch for doc in docs]
        for epoch in (0, 1)
    )
    assert first != second
    every = lines.read_text().splitlines()
    kept = [line for i, line in enumerate(every) if i not in numbers]
    expected = sorted([t.text for t in NLP.make_doc(line)] for line in kept)
    assert sorted(first) == sorted(second) == expected


def test_a_text_that_gives_nothing_is_refused(tmp_path):
    path = text(tmp_path, lines=2)
    made = Stream(NLP, RawText(path, min_length=100), BATCHER)
    with pytest.raises(PretrainingError, match="got no batch"):
        list(made.batches(Position(), 1))
