from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from trfnb.corpora.columns import read_columns, read_lines, spans_from_labels
from trfnb.corpora.corpus import CorpusError, Reading

from .conftest import Write

PER = ((0, 1, "PER"),)


@pytest.mark.parametrize(
    ("labels", "spans"),
    [
        ("O B-PER I-PER O", [(1, 3, "PER")]),
        ("B-PER B-PER I-LOC", [(0, 1, "PER"), (1, 2, "PER"), (2, 3, "LOC")]),
        ("I-PER I-PER B-PER O I-ORG", [(0, 2, "PER"), (2, 3, "PER"), (4, 5, "ORG")]),
        ("B-LOC E-LOC S-PER U-PER", [(0, 2, "LOC"), (2, 3, "PER"), (3, 4, "PER")]),
        ("B-LOC I-LOC L-LOC L-LOC", [(0, 3, "LOC"), (3, 4, "LOC")]),
        ("B-LOC M-LOC E-LOC B-LOC", [(0, 3, "LOC"), (3, 4, "LOC")]),
        ("B-PER B-O I-O", [(0, 1, "PER")]),
        ("B-creative-work I-creative-work", [(0, 2, "creative-work")]),
    ],
)
def test_spans_from_labels(labels: str, spans: list[tuple[int, int, str]]) -> None:
    assert list(spans_from_labels(labels.split())) == spans


def test_two_columns_with_any_delimiter(write: Write) -> None:
    tabs = "Rose\tB-PER\nrose\tO\n\nNew York\tB-LOC\n"
    first, second = read_columns(write("a.iob", tabs), Reading())
    assert first.words == ("Rose", "rose")
    assert first.ents == PER
    assert second.words == ("New York",)
    spaces = "Rose I-PER \nrose O\n\n-DOCSTART- O\n\n# O\n"
    first, second = read_columns(write("b.iob", spaces), Reading())
    assert first.ents == PER
    assert second.words == ("#",)
    assert (first.doc_id, second.doc_id) == (None, "doc1")


@pytest.mark.parametrize(
    ("text", "sent_id", "doc_id"),
    [
        ("# newdoc id = d\n# sent_id = s\n1\tMay\tB-PER\t-\tann\n2\twon\tO\n", "s", "d"),
        ("#\thttp://x.de/a [2009-10-17]\n1\tMay\tB-PER\n2\twon\tO\n", None, "http://x.de/a"),
        ("# id 5e2a\tdomain=en\nMay _ _ B-PER\nwon _ _ O\n", "5e2a", None),
    ],
)
def test_ids_in_comments(write: Write, text: str, sent_id: str, doc_id: str) -> None:
    (sentence,) = read_columns(write("a.iob2", text), Reading())
    assert sentence.words == ("May", "won")
    assert sentence.ents == PER
    assert (sentence.sent_id, sentence.doc_id) == (sent_id, doc_id)


def test_the_label_column_is_found_or_asked_for(write: Write) -> None:
    text = "# global.columns = FORM CHUNK NER\nMay\tB-NP\tB-PER\nwon\tB-VP\tO\n"
    path = write("a.tsv", text)
    assert read_columns(path, Reading())[0].ents == PER
    for column in (1, -2, "CHUNK"):
        read = read_columns(path, Reading(column=column))
        assert read[0].ents == ((0, 1, "NP"), (1, 2, "VP"))
    for unknown in (3, -4, "TAG"):
        with pytest.raises(CorpusError, match=r"FORM, CHUNK, NER.*column=INDEX"):
            read_columns(path, Reading(column=unknown))
    phrases_last = "EU B-ORG NNP B-NP\nis O VBZ B-VP\n"
    assert read_columns(write("b.conll", phrases_last), Reading())[0].ents == ((0, 1, "ORG"),)


def test_two_label_columns_are_refused_or_nested(write: Write) -> None:
    path = write("a.tsv", "1\tTroia\tB-OTH\tB-LOC\n2\tAG\tI-OTH\tO\n")
    with pytest.raises(CorpusError, match=r"got columns 2, 3 with labels.*column=\[INDEX"):
        read_columns(path, Reading())
    assert read_columns(path, Reading(column=3))[0].ents == ((0, 1, "LOC"),)
    (nested,) = read_columns(path, Reading(column=[2, 3]))
    assert nested.ents == ((0, 2, "OTH"),)
    assert nested.spans == {"sc": ((0, 1, "LOC"), (0, 2, "OTH"))}


def test_labels_without_a_prefix_are_told_of(write: Write) -> None:
    reading = Reading()
    (sentence,) = read_columns(write("a.bio", "Rose\tPER\nMay\tPER\nwon\tO\n"), reading)
    assert sentence.ents == ((0, 2, "PER"),)
    assert "no B- or I-" in reading.notes[0]


def test_no_label_column(write: Write) -> None:
    with pytest.raises(CorpusError, match=r"entity labels .*got columns 0 to 1 \(unnamed\)"):
        read_columns(write("a.tsv", "May\tNNP\nwon\tVBD\n"), Reading())


@pytest.mark.parametrize(
    ("row", "reason", "says"),
    [
        ("won", "malformed line", "'won'"),
        ("Last Name B-PER", "malformed line", "no blanks in words, got 3"),
        ("won PERSON", "unknown entity label", "got 'PERSON'"),
    ],
)
def test_a_bad_row_is_named_or_skipped(write: Write, row: str, reason: str, says: str) -> None:
    good = "May B-PER\nwon O\n\n" * 60
    path = write("a.iob", f"{good}{row}\n\n{good}")
    with pytest.raises(CorpusError) as caught:
        read_columns(path, Reading())
    assert caught.value.line == 181
    assert says in str(caught.value)
    reading = Reading("skip")
    assert len(read_columns(path, reading)) == 120
    assert reading.skipped == Counter({reason: 1})


def test_only_newlines_split_lines(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes("\ufeffa\u2028b\r\nc\x85\n".encode())
    assert read_lines(path) == ["a\u2028b", "c\x85", ""]


@pytest.mark.parametrize(
    ("name", "data", "line", "says"),
    [
        ("a", b"", None, "an empty file"),
        ("a", "a\nb\ncafé".encode("latin-1"), 3, "0xe9"),
        ("a", "abc".encode("utf-16"), None, "UTF-16"),
        ("a.gz", b"no gzip", None, "BadGzipFile"),
        ("none", None, None, "No such file"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, data: Any, line: int | None, says: str) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CorpusError, match=says) as caught:
        read_lines(path)
    assert caught.value.line == line
