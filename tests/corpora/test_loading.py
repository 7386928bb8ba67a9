import subprocess
import sys
from pathlib import Path

import pytest
import spacy

from trfnb.corpora import Corpus, CorpusError, Sentence, load

from .conftest import GOOD, Write, conllu


def _many(n: int, docs: int = 0) -> str:
    parts = []
    for i in range(n):
        newdoc = f"# newdoc id = d{i * docs // n}\n" if docs and i % (n // docs) == 0 else ""
        parts.append(f"{newdoc}# sent_id = s{i}\n{GOOD}")
    return "".join(parts)


def _ids(sentences: tuple[Sentence, ...]) -> list[str | None]:
    return [s.sent_id for s in sentences]


def test_seed_shuffles_train_but_dev_stays(write: Write) -> None:
    path = write("a.conllu", _many(100))
    one, same, two = load(path), load(path), load(path, seed=1)
    assert one == same
    assert _ids(one.train) != _ids(two.train)
    assert sorted(map(str, _ids(one.train))) == sorted(map(str, _ids(two.train)))
    assert _ids(one.dev) == _ids(two.dev)
    assert (len(one.train), len(one.dev)) == (90, 10)
    assert one.fingerprint == two.fingerprint
    other = load(path, split_seed=1)
    assert _ids(one.dev) != _ids(other.dev)
    assert one.fingerprint != other.fingerprint


def test_limits(write: Write) -> None:
    path = write("a.conllu", _many(100))
    corpus, more = load(path, limit=5, dev_limit=3), load(path, limit=9, dev_limit=3)
    assert (len(corpus.train), len(corpus.dev)) == (5, 3)
    assert _ids(more.train)[:5] == _ids(corpus.train), "a larger limit keeps the smaller's"
    assert _ids(load(path, dev_limit=3, seed=4).dev) == _ids(corpus.dev)


def test_held_out_documents_stay_whole(write: Write) -> None:
    corpus = load(write("a.conllu", _many(120, docs=40)))
    assert len(corpus.dev) == 12
    assert {s.doc_id for s in corpus.train}.isdisjoint({s.doc_id for s in corpus.dev})


def test_folder_with_train_dev_and_test(write: Write) -> None:
    write("c/en-ud-train.conllu", _many(4))
    write("c/en-ud-test.conllu", _many(9))
    path = write("c/en-ud-dev.conllu", _many(2)).parent
    corpus = load(path)
    assert (corpus.name, len(corpus.train), len(corpus.dev)) == ("c", 4, 2)
    write("c/other-train.conllu", _many(1))
    with pytest.raises(CorpusError, match=r"one with 'train'.*en-ud-train\.conllu"):
        load(path)


@pytest.mark.parametrize("kind", ["tagger", "parser", "ner", "textcat"])
def test_saved_docbins_load_again(tmp_path: Path, kind: str) -> None:
    corpus = load(limit=20, dev_limit=5)
    train, dev = corpus.save(tmp_path / "saved")
    assert sorted(p.name for p in train.parent.iterdir()) == ["dev.spacy", "train.spacy"]
    again = load(dev.parent)
    assert kind in again.tasks
    assert again.dev == corpus.dev
    assert again.fingerprint == corpus.fingerprint


def test_docs_of_several_sentences_are_split(tmp_path: Path) -> None:
    from spacy.tokens import Doc, DocBin

    vocab = spacy.blank("en").vocab
    doc = Doc(
        vocab, words=list("abcd"), heads=[0, 0, 3, 3], deps=["ROOT", "x", "y", "ROOT"],
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


def test_examples_have_bare_words_beside_the_annotation() -> None:
    corpus = load(limit=3, dev_limit=2)
    examples = corpus.examples("dev", spacy.blank("en").vocab)
    assert len(examples) == 2
    for example, sentence in zip(examples, corpus.dev, strict=True):
        reference, bare = example.reference, example.predicted
        assert reference.text.rstrip() == bare.text.rstrip() == sentence.text
        assert tuple(t.tag_ for t in reference) == sentence.tags
        assert tuple(t.head.i for t in reference) == sentence.heads
        assert tuple((e.start, e.end, e.label_) for e in reference.ents) == sentence.ents
        assert reference.cats == sentence.cats
        assert sum(reference.cats.values()) == 1
        assert not bare.has_annotation("TAG")
        assert not bare.has_annotation("DEP")
    with pytest.raises(ValueError, match="'test'"):
        corpus.examples("test", spacy.blank("en").vocab)  # type: ignore[arg-type]


def test_absent_entities_are_missing_and_not_none_found(write: Write) -> None:
    corpus = load(write("a.conllu", GOOD * 3))
    (example, *_) = corpus.examples("train", spacy.blank("en").vocab)
    assert corpus.tasks == ("tagger", "parser")
    assert example.get_aligned_ner() == [None, None, None]


def test_skipped_are_counted_and_nothing_left_is_an_error(write: Write) -> None:
    bad = conllu("1 a X X 7 root")
    corpus = load(write("a.conllu", GOOD * 5 + bad * 2), on_error="skip")
    assert corpus.skipped == {"bad head": 2}
    with pytest.raises(CorpusError, match=r"skipped: \{'bad head': 2\}"):
        load(write("b.conllu", bad * 2), on_error="skip")
    with pytest.raises(CorpusError, match="none for dev"):
        load(write("c.conllu", GOOD))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("newsrom", r"one of newsroom, UD_English-EWT.*neither"),
        ("no/such.conllu", "no such path"),
        ("a.txt", r"'\.txt'"),
        (".", "no data file"),
        ("broken.spacy", "DocBin"),
        ("comments.conllu", "none"),
    ],
)
def test_bad_sources(write: Write, monkeypatch: pytest.MonkeyPatch, source: str, says: str) -> None:
    root = write("x/a.txt", "hello").parent
    write("y/broken.spacy", "hello")
    write("y/comments.conllu", "# nothing\n")
    here = root.with_name("y") if source in ("broken.spacy", "comments.conllu") else root
    monkeypatch.chdir(here)
    with pytest.raises(CorpusError, match=says):
        load(source)


def test_all_bad_options_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"limit .*0; dev_limit .*-1; on_error .*'no'"):
        load(limit=0, dev_limit=-1, on_error="no", dev_fraction=2)  # type: ignore[arg-type]


def test_sentences_check_themselves() -> None:
    with pytest.raises(ValueError, match="tags has 1; head 5 is outside; entity"):
        Sentence(
            ("a", "b"),
            (True, True),
            tags=("X",),
            heads=(0, 5),
            ents=((1, 3, "PER"),),
            deps=("", ""),
        )
    with pytest.raises(ValueError, match="at least one"):
        Sentence((), ())


def test_describe_and_absent_layers() -> None:
    sentence = Sentence(("a",), (True,), tags=("X",))
    corpus = Corpus("mine", (sentence, sentence), (sentence,))
    table = corpus.describe()
    assert table.loc["train", "sentences"] == 2
    assert table.loc["dev", "tags"] == 1
    assert corpus.tasks == ("tagger",)
    assert corpus.examples("dev", spacy.blank("en").vocab)[0].reference[0].tag_ == "X"


def test_importing_corpora_is_light() -> None:
    heavy = ("torch", "transformers", "pandas", "pooch", "spacy")
    code = f"import sys, trfnb.corpora; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
