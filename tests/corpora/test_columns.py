from collections import Counter

import pytest

from trfnb.corpora.columns import read_columns
from trfnb.corpora.errors import CorpusError, Problems
from trfnb.corpora.iob import labels_from_spans, spans_from_labels

from .conftest import Write


@pytest.mark.parametrize(
    ("labels", "spans"),
    [
        ("O B-PER I-PER O", [(1, 3, "PER")]),
        ("B-PER B-PER I-LOC", [(0, 1, "PER"), (1, 2, "PER"), (2, 3, "LOC")]),
        ("I-PER I-PER B-PER O I-ORG", [(0, 2, "PER"), (2, 3, "PER"), (4, 5, "ORG")]),
        ("B-LOC E-LOC S-PER U-PER", [(0, 2, "LOC"), (2, 3, "PER"), (3, 4, "PER")]),
        ("B-LOC I-LOC L-LOC L-LOC", [(0, 3, "LOC"), (3, 4, "LOC")]),
        ("B-PER B-O I-O", [(0, 1, "PER")]),
        ("B-creative-work I-creative-work", [(0, 2, "creative-work")]),
    ],
)
def test_spans_from_labels(labels: str, spans: list[tuple[int, int, str]]) -> None:
    assert list(spans_from_labels(labels.split())) == spans
    again = labels_from_spans(spans, len(labels.split()))
    assert list(spans_from_labels(again)) == spans


def test_two_columns_with_any_delimiter(write: Write) -> None:
    tabs = "Rose\tB-PER\nrose\tO\n\nNew York\tB-LOC\n"
    first, second = read_columns(write("a.iob", tabs), Problems())
    assert first.words == ("Rose", "rose")
    assert first.ents == ((0, 1, "PER"),)
    assert second.words == ("New York",)
    spaces = "Rose I-PER \nrose O\n\n-DOCSTART- O\n\n# O\n"
    first, second = read_columns(write("b.iob", spaces), Problems())
    assert first.ents == ((0, 1, "PER"),)
    assert second.words == ("#",)
    assert (first.doc_id, second.doc_id) == (None, "doc1")


def test_ids_comments_and_ragged_rows(write: Write) -> None:
    text = "# newdoc id = d\n# sent_id = s\n1\tMay\tB-PER\t-\tann\n2\twon\tO\n"
    (sentence,) = read_columns(write("a.iob2", text), Problems())
    assert sentence.words == ("May", "won")
    assert sentence.ents == ((0, 1, "PER"),)
    assert (sentence.sent_id, sentence.doc_id) == ("s", "d")


def test_label_column_is_the_last_one_or_the_asked_one(write: Write) -> None:
    text = "# global.columns = FORM CHUNK NER\nMay\tB-NP\tB-PER\nwon\tB-VP\tO\n"
    path = write("a.tsv", text)
    assert read_columns(path, Problems())[0].ents == ((0, 1, "PER"),)
    chunks = ((0, 1, "NP"), (1, 2, "VP"))
    for column in (1, -2, "CHUNK"):
        assert read_columns(path, Problems(), column)[0].ents == chunks
    for unknown in (3, -4, "TAG"):
        with pytest.raises(CorpusError, match=r"FORM, CHUNK, NER.*column=INDEX"):
            read_columns(path, Problems(), unknown)


def test_no_label_column(write: Write) -> None:
    with pytest.raises(CorpusError, match=r"entity labels .*got columns 0 to 1 \(unnamed\)"):
        read_columns(write("a.tsv", "May\tNNP\nwon\tVBD\n"), Problems())


@pytest.mark.parametrize(
    ("row", "reason"), [("won", "malformed line"), ("won PERSON", "unknown entity label")]
)
def test_a_bad_row_is_named_or_skipped(write: Write, row: str, reason: str) -> None:
    good = "May B-PER\nwon O\n\n" * 60
    path = write("a.iob", f"{good}{row}\n\n{good}")
    with pytest.raises(CorpusError, match="won") as caught:
        read_columns(path, Problems())
    assert caught.value.line == 181
    problems = Problems("skip")
    assert len(read_columns(path, problems)) == 120
    assert problems.skipped == Counter({reason: 1})
