"""Columns of entity labels: which column, which scheme, and what is refused."""

from collections import Counter
from pathlib import Path

import pytest

from trfnb.corpora.columns import blocks, read_columns, read_text, spans_from_labels
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
        ("B-PER B-O I-O I-PER", [(0, 1, "PER"), (3, 4, "PER")]),
        ("B-creative-work I-creative-work", [(0, 2, "creative-work")]),
    ],
)
def test_spans_from_labels(labels: str, spans: list[tuple[int, int, str]]) -> None:
    assert list(spans_from_labels(labels.split())) == spans


@pytest.mark.parametrize(
    ("text", "sent_id", "doc_id"),
    [
        ("# newdoc id = d\n# sent_id = s\n1\tMay\tB-PER\t-\tann\n2\twon\tO\n", "s", "d"),
        ("#\thttp://x.de/a [2009-10-17]\n1\tMay\tB-PER\n2\twon\tO\n", None, "http://x.de/a"),
        ("# id 5e2a\tdomain=en\nMay _ _ B-PER\nwon _ _ O\n", "5e2a", None),
        ("-DOCSTART- O\n\nMay I-PER \nwon O\n", None, "doc1"),
        ("May B-PER NNP B-NP\nwon O VBD B-VP\n", None, None),
    ],
)
def test_ids_and_the_label_column_are_found(
    write: Write, text: str, sent_id: str, doc_id: str
) -> None:
    (sentence,) = read_columns(write("a.iob2", text), Reading())
    assert sentence.words == ("May", "won")
    assert sentence.ents == PER
    assert (sentence.sent_id, sentence.doc_id) == (sent_id, doc_id)


def test_words_with_blanks_and_hashes(write: Write) -> None:
    (blank,) = read_columns(write("a.iob", "New York\tB-LOC\n"), Reading())
    (sign,) = read_columns(write("b.iob", "# O\n"), Reading())
    assert (blank.words, sign.words) == (("New York",), ("#",))


def test_several_label_columns_are_refused_unless_one_is_asked_for(write: Write) -> None:
    path = write("a.tsv", "1\tTroia\tB-OTH\tB-LOC\n2\tAG\tI-OTH\tO\n")
    with pytest.raises(CorpusError, match=r"got columns 2, 3 with labels.*column=INDEX"):
        read_columns(path, Reading())
    for column, spans in ((3, ((0, 1, "LOC"),)), (-2, ((0, 2, "OTH"),))):
        assert read_columns(path, Reading(column=column))[0].ents == spans
    for unknown in (4, -4, 0, "NER"):
        with pytest.raises(CorpusError, match="a column .* got columns 0 to 3"):
            read_columns(path, Reading(column=unknown))
    with pytest.raises(CorpusError, match=r"entity labels .*got columns 0 to 1"):
        read_columns(write("b.tsv", "May\tNNP\nwon\tVBD\n"), Reading())


def test_labels_without_a_prefix_are_told_of(write: Write) -> None:
    reading = Reading()
    (sentence,) = read_columns(write("a.bio", "Rose\tPER\nMay\tPER\nwon\tO\n"), reading)
    assert sentence.ents == ((0, 2, "PER"),)
    assert "no B- or I-" in reading.notes[0]


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
    path = write("a.iob", f"{good}May B-PER\n{row}\n\n{good}")
    with pytest.raises(CorpusError) as caught:
        read_columns(path, Reading())
    assert caught.value.line == 182
    assert says in str(caught.value)
    reading = Reading("skip")
    assert len(read_columns(path, reading)) == 120
    assert reading.skipped == Counter({reason: 1})


def test_files_are_utf8_and_only_newlines_split_lines(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes("\ufeffa\u2028b\r\nc\x85\n".encode())
    ((line, block),) = blocks(read_text(path))
    assert (line, block.rows) == (1, [(1, "a\u2028b"), (2, "c\x85")])
    for name, data, says in (
        ("a", "a\nb\ncafé".encode("latin-1"), "a:3: .*0xe9"),
        ("a", "abc".encode("utf-16"), "a:1: .*UTF-16"),
        ("a.gz", b"no gzip", "BadGzipFile"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CorpusError, match=says):
            read_text(tmp_path / name)
    with pytest.raises(CorpusError, match="No such file"):
        read_text(tmp_path / "none")
