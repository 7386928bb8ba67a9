"""One token per line: columns of entity labels and CoNLL-U, and what is refused."""

from collections import Counter
from pathlib import Path

import pytest

from trfnb.corpora.columns import blocks, read_columns, read_conllu, read_text, spans_from_labels
from trfnb.corpora.corpus import CorpusError, Reading

from .conftest import GOOD, Write, conllu

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


@pytest.mark.parametrize("label", ["B_PER", "PER-B", "b-PER"])
def test_labels_written_in_another_way_are_refused(write: Write, label: str) -> None:
    path = write("a.iob", f"Rose {label}\nMay O\n\n" * 3)
    with pytest.raises(CorpusError, match=f"O and TYPE, got '{label}'"):
        read_columns(path, Reading())


def test_a_token_with_an_equals_sign_is_no_comment(write: Write) -> None:
    (sentence,) = read_columns(write("a.iob", "#x=1\tO\nRose\tB-PER\n"), Reading())
    assert sentence.words == ("#x=1", "Rose")


def test_several_label_columns_are_refused_unless_one_is_asked_for(write: Write) -> None:
    path = write("a.tsv", "1\tTroia\tB-OTH\tB-LOC\n2\tAG\tI-OTH\tO\n")
    with pytest.raises(CorpusError, match=r"got columns 2, 3 with labels.*column=INDEX"):
        read_columns(path, Reading())
    for column, spans in ((3, ((0, 1, "LOC"),)), (-2, ((0, 2, "OTH"),))):
        assert read_columns(path, Reading(column=column))[0].ents == spans
    for unknown in (4, -4, 0, "NER"):
        with pytest.raises(CorpusError, match=r"a column .* got columns 0 to 3"):
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


def test_reads_every_layer(write: Write) -> None:
    comments = "# newdoc id = d1\n# sent_id = s1\n# category = sport"
    text = conllu(
        "1 May PROPN NNP 2 nsubj NER=B-PER",
        "2 won VERB VBD 0 root SpaceAfter=No",
        "3 . PUNCT . 2 punct",
        comments=comments,
    )
    first, second = read_conllu(write("a.conllu", text + GOOD), Reading())
    assert first.words == ("May", "won", ".")
    assert first.spaces == (True, False, True)
    assert first.text == "May won."
    assert first.tags == ("NNP", "VBD", ".")
    assert first.pos == ("PROPN", "VERB", "PUNCT")
    assert first.heads == (1, 1, 1)
    assert first.deps == ("nsubj", "ROOT", "punct")
    assert first.ents == ((0, 1, "PER"),)
    assert first.cats == {"sport": 1.0}
    assert (first.lemmas, first.morphs) == (None, None)
    assert (first.sent_id, first.doc_id) == ("s1", "d1")
    assert (second.sent_id, second.doc_id) == (None, "d1")
    assert second.ents == (), "a file with NER= says of other sentences that they have no entity"


def test_multiword_tokens_and_empty_nodes(write: Write) -> None:
    text = conllu(
        "1-2 didn't _ _ _ _ SpaceAfter=No",
        "1 did AUX VBD 0 root",
        "2 n't PART RB 1 advmod",
        "2.1 go VERB VB _ _",
        "3-4 du _ _ _ _",
        "3 de ADP IN 1 case",
        "4 le DET DT 1 det",
        "5 ! PUNCT . 1 punct",
    )
    (sentence,) = read_conllu(write("a.conllu", text), Reading())
    assert sentence.words == ("did", "n't", "de", "le", "!")
    assert sentence.spaces == (False, False, True, True, True)


def test_what_is_absent_and_features_and_lemmas(write: Write) -> None:
    text = conllu("1 Go VERB _ _ _", "2 ! PUNCT . _ _")
    (sentence,) = read_conllu(write("a.conllu", text), Reading())
    assert sentence.tags == ("VERB", "."), "UPOS where the treebank has no tag of its own"
    assert (sentence.heads, sentence.deps) == (None, None)
    row = "1\tGo\tgo\tVERB\tVB\tMood=Imp\t0\troot\t_\t_\n2\t!\t_\tPUNCT\t.\t_\t1\tpunct\t_\t_\n\n"
    first, second = read_conllu(write("a.conllu", row + GOOD), Reading())
    assert first.morphs == ("Mood=Imp", "")
    assert first.lemmas == ("go", "")
    assert second.morphs == ("", "", ""), (
        "a file with FEATS says of other words that they have none"
    )


@pytest.mark.parametrize("misc", ["name=B-ORG", "ner=S-ORG", "B-ORG", "a=b|NER=B-ORG"])
def test_entities_as_other_tools_write_them(write: Write, misc: str) -> None:
    text = conllu(f"1 May PROPN NNP 0 root {misc}", "2 ! PUNCT . 1 punct name=x")
    (sentence,) = read_conllu(write("a.conllu", text), Reading())
    assert sentence.ents == ((0, 1, "ORG"),)


@pytest.mark.parametrize(
    ("bad", "line", "reason", "says"),
    [
        ("1\tGo\tgo\n\n", 5, "malformed line", "got 3"),
        (conllu("2 Go VERB VB 0 root"), 5, "word ids out of order", "ID 1"),
        (conllu("1 Go VRB VB 0 root"), 5, "unknown UPOS", "VRB"),
        (conllu("1 Go VERB VB 2 root"), 5, "bad head", "0 to 1"),
        (conllu("1 Go VERB VB 1 root"), 5, "bad head", "its own"),
        (conllu("1 Go VERB VB -1 root"), 5, "bad head", "-1"),
        (conllu("1 a X X 00 root", "2 b X X 1 d NER=x"), 6, "unknown entity label", "word 2"),
        (conllu("1 Go VERB VB _ root", "2 on ADP IN 0 root"), 5, "bad head", "'_'"),
        (conllu("1 a X X 2 dep", "2 b X X 1 dep"), 5, "no tree", "no root"),
        (conllu("1 a X X 0 root", "2 b X X 0 root"), 5, "no tree", "2 roots"),
        (conllu("1 a X X 0 root", "2 b X X 3 d", "3 c X X 2 d"), 5, "no tree", "cycle"),
        (conllu("1 a X X 0 root NER=PER"), 5, "unknown entity label", "'PER'"),
        (conllu("1-3 ab _ _ _ _", "1 a X X 0 root"), 5, "word ids out of order", "1 to 3"),
    ],
)
def test_a_bad_conllu_sentence_is_named_or_skipped(
    write: Write, bad: str, line: int, reason: str, says: str
) -> None:
    path = write("a.conllu", GOOD + bad + GOOD)
    with pytest.raises(CorpusError, match="on_error") as caught:
        read_conllu(path, Reading("raise"))
    assert caught.value.line == line
    assert str(caught.value).startswith(f"{path}:{line}: expected ")
    assert says in str(caught.value)
    reading = Reading("skip")
    assert len(read_conllu(path, reading)) == 2
    assert reading.skipped == Counter({reason: 1})
