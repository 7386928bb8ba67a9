"""Sentences, the Docs they become, and what a corpus tells of itself."""

from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin

from trfnb.corpora import Corpus, Sentence, load
from trfnb.corpora.corpus import to_doc

from .conftest import GOOD, Write

VOCAB = spacy.blank("en").vocab


def test_sentences_check_themselves() -> None:
    with pytest.raises(ValueError, match=r"tags has 1; head 5 is outside; entity .*; span"):
        Sentence(
            ("a", "b"),
            (True, True),
            tags=("X",),
            heads=(0, 5),
            ents=((1, 3, "PER"),),
            deps=("", ""),
            spans={"sc": ((0, 3, "A"),)},
        )
    with pytest.raises(ValueError, match="at least one"):
        Sentence((), ())


def test_examples_have_bare_words_beside_the_annotation() -> None:
    corpus = load(limit=3, dev_limit=2, test_limit=2)
    assert len(corpus.examples("test", VOCAB)) == 2
    for example, sentence in zip(corpus.examples("dev", VOCAB), corpus.dev, strict=True):
        reference, bare = example.reference, example.predicted
        assert reference.text.rstrip() == bare.text.rstrip() == sentence.text
        assert tuple(t.tag_ for t in reference) == sentence.tags
        assert tuple(t.head.i for t in reference) == sentence.heads
        assert tuple((e.start, e.end, e.label_) for e in reference.ents) == sentence.ents
        assert reference.cats == sentence.cats
        assert sum(reference.cats.values()) == 1
        assert not bare.has_annotation("TAG")
        assert not bare.has_annotation("DEP")
    with pytest.raises(ValueError, match="'eval'"):
        corpus.examples("eval", VOCAB)  # type: ignore[arg-type]


def test_every_layer_survives_a_doc(tmp_path: Path) -> None:
    sentence = Sentence(
        ("Rose", "Ann", "left"),
        (True, True, False),
        tags=("NNP", "NNP", "VBD"),
        pos=("PROPN", "PROPN", "VERB"),
        morphs=("Number=Sing", "", "Tense=Past"),
        lemmas=("Rose", "Ann", "leave"),
        sent_starts=(1, -1, 1),
        ents=((0, 1, "PER"),),
        unknown_ents=(1,),
        spans={"sc": ((0, 1, "A"), (0, 2, "B"))},
        cats={"a": 1.0, "b": 0.0},
        sent_id="s",
        doc_id="d",
    )
    assert [t.ent_iob for t in to_doc(sentence, VOCAB)] == [3, 0, 2]
    corpus = Corpus("x", (sentence,), (sentence,), (sentence,))
    corpus.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dev.spacy", "test.spacy", "train.spacy"]
    again = load(tmp_path)
    assert (again.train, again.dev, again.test) == (corpus.train, corpus.dev, corpus.test)
    assert again.fingerprint == corpus.fingerprint
    assert again.tasks == (
        "tagger",
        "morphologizer",
        "trainable_lemmatizer",
        "senter",
        "ner",
        "spancat",
        "textcat",
    )


def test_docs_of_several_sentences_are_split(tmp_path: Path) -> None:
    doc = Doc(
        VOCAB, words=list("abcd"), heads=[0, 0, 3, 3], deps=["ROOT", "x", "y", "ROOT"],
        ents=["O", "B-PER", "O", "O"],
    )  # fmt: skip
    path = tmp_path / "a.spacy"
    DocBin(docs=[doc]).to_disk(path)
    corpus = load(path)
    (first,), (second,) = sorted([corpus.train, corpus.dev], key=lambda s: s[0].words)
    assert first.words == ("a", "b")
    assert first.ents == ((1, 2, "PER"),)
    assert second.heads == (1, 1)
    assert second.deps == ("y", "ROOT")
    assert second.tags is None


def test_missing_entities_of_a_docbin_stay_unknown(tmp_path: Path) -> None:
    doc = Doc(VOCAB, words=list("abc"))
    doc.set_ents([spacy.tokens.Span(doc, 0, 1, "PER")], missing=[doc[1:2]])
    DocBin(docs=[doc] * 3).to_disk(tmp_path / "a.spacy")
    example = load(tmp_path / "a.spacy").examples("train", VOCAB)[0]
    assert example.get_aligned_ner() == ["U-PER", None, "O"]


def test_a_partial_parse_is_no_parse(tmp_path: Path) -> None:
    doc = Doc(VOCAB, words=list("ab"), heads=[0, 0], deps=["ROOT", ""], tags=["X", ""])
    DocBin(docs=[doc] * 3).to_disk(tmp_path / "a.spacy")
    assert load(tmp_path / "a.spacy").train[0].heads is None


def test_absent_entities_are_missing_and_not_none_found(write: Write) -> None:
    corpus = load(write("a.conllu", GOOD * 3))
    (example, *_) = corpus.examples("train", VOCAB)
    assert corpus.tasks == ("tagger", "morphologizer", "parser")
    assert example.get_aligned_ner() == [None, None, None]


@pytest.mark.parametrize(
    ("cats", "task"),
    [
        ([{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}], "textcat"),
        ([{"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 1.0}], "textcat_multilabel"),
        ([{"a": 0.0, "b": 0.0}, {"a": 0.0, "b": 1.0}], "textcat_multilabel"),
        ([{"a": 1.0}, {"b": 1.0}], "textcat_multilabel"),
        ([{"a": 1.0}, {"a": 1.0}], "textcat_multilabel"),
    ],
)
def test_one_category_or_several(cats: list[dict[str, float]], task: str) -> None:
    sentences = tuple(Sentence(("a",), (True,), cats=values) for values in cats)
    assert Corpus("x", sentences, sentences).tasks == (task,)


def test_describe_and_leaks() -> None:
    one, two = (Sentence((word,), (True,), tags=("X",)) for word in "ab")
    corpus = Corpus("mine", (one, two), (one,))
    table = corpus.describe()
    assert list(table.index) == ["train", "dev"]
    assert table.loc["train", "sentences"] == 2
    assert table.loc["dev", "tags"] == 1
    assert corpus.leaks() == {"train, dev": 1, "train, test": 0, "dev, test": 0}
