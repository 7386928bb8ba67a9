from collections import Counter

import pytest

from trfnb.corpora.conllu import read_conllu
from trfnb.corpora.corpus import CorpusError, Reading

from .conftest import GOOD, Write, conllu


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
def test_a_bad_sentence_is_named_or_skipped(
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
