"""Sentences, the Docs they become, and what a corpus tells of itself."""

from dataclasses import replace
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin

from trfnb.corpora import Corpus, Sentence, load
from trfnb.corpora.corpus import to_doc

from .conftest import GOOD, Write

VOCAB = spacy.blank("en").vocab


def test_layers_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'a b' has 2 words, but tags has 1, deps has 3"):
        Sentence(("a", "b"), (True, True), tags=("X",), deps=("", "", ""))


def test_examples_have_bare_words_beside_the_annotation() -> None:
    corpus = load(limit=3, dev_limit=2)
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
    assert again.tasks == (
        "tagger",
        "morphologizer",
        "trainable_lemmatizer",
        "senter",
        "ner",
        "spancat",
        "textcat",
    )


def test_saving_again_leaves_no_split_of_the_corpus_before(write: Write, tmp_path: Path) -> None:
    load(write("a.conllu", GOOD * 30)).save(tmp_path / "out")
    assert load(tmp_path / "out").test
    replace(load(write("b.conllu", GOOD * 30)), test=()).save(tmp_path / "out")
    assert not (tmp_path / "out" / "test.spacy").exists()


def test_docs_stay_whole_and_what_they_lack_stays_unknown(tmp_path: Path) -> None:
    several = Doc(
        VOCAB, words=list("abcd"), heads=[0, 0, 3, 3], deps=["ROOT", "x", "y", "ROOT"],
        ents=["O", "B-PER", "O", "O"],
    )  # fmt: skip
    partly = Doc(VOCAB, words=list("abc"), heads=[0, 0, 0], deps=["ROOT", "", ""])
    partly.set_ents([spacy.tokens.Span(partly, 0, 1, "PER")], missing=[partly[1:2]])
    for name, doc in (("train", several), ("dev", partly)):
        DocBin(docs=[doc, Doc(VOCAB), doc]).to_disk(tmp_path / f"{name}.spacy")
    corpus = load(tmp_path)
    first = corpus.train[0]
    assert (first.heads, first.deps) == ((0, 0, 3, 3), ("ROOT", "x", "y", "ROOT"))
    assert (first.sent_starts, first.tags) == ((1, -1, 1, -1), None)
    assert [t.i for t in to_doc(first, VOCAB) if t.is_sent_start] == [0, 2]
    assert corpus.dev[0].heads is None, "a partial parse is no parse"
    assert corpus.examples("dev", VOCAB)[0].get_aligned_ner() == ["U-PER", None, "O"]
    assert corpus.skipped == {"Doc without words": 2, "parse of a Doc with unlabelled words": 2}


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
    bare = (Sentence(("a",), (True,)),)
    assert Corpus("x", sentences, sentences, bare).tasks == ()


def test_describe() -> None:
    spans = {"sc": ((0, 1, "A"), (0, 1, "B"))}
    one = Sentence(("a",), (True,), tags=("X",), ents=((0, 1, "P"),), spans=spans, doc_id="d")
    table = Corpus("mine", (one, one), (one,)).describe()
    assert list(table.index) == ["train", "dev"]
    assert dict(table.loc["train"]) == {
        "sentences": 2, "words": 2, "documents": 1, "tags": 1, "dependency labels": 0,
        "entities": 2, "entity labels": 1, "spans": 4, "span labels": 2, "categories": 0,
    }  # fmt: skip
