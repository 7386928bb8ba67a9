"""From a name or a path to three splits: which sentences fall where."""

import gzip
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from spacy.vocab import Vocab

from trfnb.corpora import CorpusError, Sentence, load

from .conftest import GOOD, Write, conllu


def _many(n: int, docs: int = 0) -> str:
    parts = []
    for i in range(n):
        newdoc = f"# newdoc id = d{i * docs // n}\n" if docs and i % (n // docs) == 0 else ""
        parts.append(f"{newdoc}# sent_id = s{i}\n{GOOD}")
    return "".join(parts)


def _ids(sentences: Sequence[Sentence]) -> list[str | None]:
    return [s.sent_id for s in sentences]


def test_the_embedded_corpus() -> None:
    corpus = load(limit=20, dev_limit=5, test_limit=4)
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (20, 5, 4)
    assert (corpus.name, corpus.skipped) == ("newsroom", {})
    assert set(corpus.tasks) >= {"tagger", "parser", "ner", "textcat"}


def test_one_file_gives_three_splits_and_only_train_is_shuffled(write: Write) -> None:
    path = write("a.conllu", _many(100))
    one, same, two = load(path), load(path), load(path, seed=1)
    assert one == same
    assert (len(one.train), len(one.dev), len(one.test)) == (80, 10, 10)
    assert _ids(one.train) != _ids(two.train)
    assert sorted(map(str, _ids(one.train))) == sorted(map(str, _ids(two.train)))
    assert (one.dev, one.test) == (two.dev, two.test)
    assert one.fingerprint == two.fingerprint
    assert one.notes == ("a: dev and test held out of train by blocks of neighbouring sentences.",)
    other = load(path, split_seed=1)
    assert _ids(one.dev) != _ids(other.dev)
    assert one.fingerprint != other.fingerprint


def test_held_out_documents_stay_whole(write: Write) -> None:
    corpus = load(write("a.conllu", _many(120, docs=40)))
    train, dev, test = (
        {s.doc_id for s in part} for part in (corpus.train, corpus.dev, corpus.test)
    )
    assert (len(corpus.dev), len(corpus.test)) == (12, 12)
    assert len(train) + len(dev) + len(test) == len(train | dev | test)
    few = load(write("b.conllu", _many(10, docs=2)))
    assert (len(few.train), len(few.dev), few.test) == (5, 5, ())
    assert few.notes[-1] == "b: too few documents for a test split."


def test_neighbours_without_documents_stay_together(write: Write) -> None:
    corpus = load(write("a.conllu", _many(2000)))
    numbers = {int(str(s.sent_id)[1:]) // 20 for s in corpus.test}
    assert (len(corpus.test), len(numbers)) == (200, 10)


def test_shares_put_all_files_together(write: Write) -> None:
    write("c/train.conllu", _many(60))
    path = write("c/test.conllu", _many(40)).parent
    corpus = load(path, split=(6, 3, 1))
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (60, 30, 10)
    assert load(path, split=(0.5, 0.5, 0)).test == ()


def test_limits(write: Write) -> None:
    path = write("a.conllu", _many(100))
    corpus = load(path, limit=5, dev_limit=3, test_limit=2)
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (5, 3, 2)
    more = load(path, limit=9, dev_limit=3)
    assert _ids(more.train)[:5] == _ids(corpus.train), "a larger limit keeps the smaller's"
    assert _ids(load(path, dev_limit=3, seed=4).dev) == _ids(corpus.dev)


@pytest.mark.parametrize(
    ("train", "dev"),
    [
        ("en-ud-train.conllu", "en-ud-dev.conllu"),
        ("training.conllu", "development.conllu"),
        ("train.conllu", "devel.conllu"),
        ("x.train.conllu", "x.valid.conllu"),
        ("train_set.conllu", "validation_set.conllu"),
    ],
)
def test_files_by_name(write: Write, train: str, dev: str) -> None:
    write(f"c/{train}", _many(4))
    path = write(f"c/{dev}", _many(2)).parent
    write("c/en-test.conllu", _many(3))
    write("c/notes.txt", "hello")
    corpus = load(path)
    assert (corpus.name, len(corpus.train), len(corpus.dev), len(corpus.test)) == ("c", 4, 2, 3)
    assert corpus.notes == ()
    write("c/other-train.conllu", _many(1))
    with pytest.raises(CorpusError, match=r"one with 'train'.*en-test\.conllu"):
        load(path)


def test_dev_as_test(write: Write) -> None:
    write("c/train.conllu", _many(20))
    path = write("c/dev.conllu", _many(4)).parent
    corpus = load(path, dev_as_test=True)
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (18, 2, 4)


def test_senter_learns_from_texts_of_several_sentences(write: Write) -> None:
    names = GOOD.replace("nsubj\t_\t_", "nsubj\t_\tNER=B-PER")
    text = "".join(f"# newdoc id = {doc}\n{names * 3}" for doc in "abc")
    corpus = load(write("a.conllu", text), sentences_per_text=2)
    assert "senter" in corpus.tasks
    assert [s.several for s in corpus.dev] == [True, None], "a document's texts stay together"
    doc = next(e.reference for e in corpus.examples("dev", Vocab()) if len(e.reference) == 6)
    assert [t.i for t in doc if t.is_sent_start] == [0, 3]
    assert [(e.start, e.label_) for e in doc.ents] == [(0, "PER"), (3, "PER")]


def test_packed_files_and_urls(write: Write, tmp_path: Path) -> None:
    path = write("a.conllu", _many(10))
    packed = tmp_path / "b.conllu.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert load(packed).fingerprint == load(path).fingerprint == load(f"file://{path}").fingerprint
    assert load(packed).name == "b"


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
        ("newsrom", r"one of newsroom, UD_English-EWT.*no such path"),
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
    with pytest.raises(ValueError, match=r"(?s)split.*limit.*dev_limit.*on_error"):
        load(limit=0, dev_limit=-1, on_error="no", split=(1, 0, 0))  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="a name, a path or a HuggingFace dataset"):
        load(3)


def test_importing_corpora_is_light() -> None:
    heavy = ("torch", "transformers", "pandas", "pooch", "spacy")
    code = f"import sys, trfnb.corpora; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _tree(sent_id: str) -> str:
    return f"# sent_id = {sent_id}\n{GOOD}"


def _names(sent_id: str, words: str = "Rose rose .") -> str:
    first, *rest = words.split()
    return f"# sent_id = {sent_id}\n{first}\tB-PER\n" + "".join(f"{w}\tO\n" for w in rest) + "\n"


@pytest.fixture
def folders(write: Write) -> tuple[str, str]:
    write("trees/x-train.conllu", _tree("a") + _tree("b") + _tree("c"))
    write("trees/x-dev.conllu", _tree("d"))
    write("trees/x-test.conllu", _tree("e"))
    write("names/x-train.iob2", _names("c") + _names("a", "Rose fell .") + _names("d"))
    path = write("names/x-dev.iob2", _names("e")).parent
    return str(path.with_name("trees")), str(path)


def test_layers_join_by_sent_id_across_splits(folders: tuple[str, str]) -> None:
    trees, names = folders
    corpus = load(trees, layers=(names,))
    assert corpus.tasks == ("tagger", "morphologizer", "parser", "ner")
    assert [_ids(part) for part in (corpus.train, corpus.dev, corpus.test)] == [["c"], ["d"], ["e"]]
    assert corpus.dev[0].ents == ((0, 1, "PER"),)
    assert corpus.dev[0].tags == ("NNP", "VBD", ".")
    assert corpus.dev[0].spaces == (True, False, True)
    assert corpus.skipped == {"tokens differ in layer names": 1, "not in layer names": 1}


def test_mismatch_can_raise(folders: tuple[str, str]) -> None:
    trees, names = folders
    with pytest.raises(CorpusError, match=r"word 2 on \('rose', '\.'\), got \('fell', '\.'\)"):
        load(trees, layers=(names,), on_mismatch="raise")


def test_a_layer_of_another_corpus(write: Write) -> None:
    base = write("a.conllu", _tree("a") + _tree("b"))
    other = write("b.iob2", _names("x"))
    with pytest.raises(CorpusError, match="none of them"):
        load(base, layers=(other,))
    with pytest.raises(CorpusError, match="sent_id"):
        load(write("c.conllu", GOOD + GOOD), layers=(other,))


def test_one_id_used_twice_joins_by_words(write: Write) -> None:
    other = GOOD.replace("Rose", "May")
    base = write("a.conllu", f"# sent_id = a\n{GOOD}# sent_id = a\n{other}")
    names = write("b.iob2", _names("a", "May rose .") + _names("a", "Rose rose ."))
    corpus = load(base, layers=(names,))
    assert corpus.skipped == {}
    assert {s.words[0] for s in corpus.train + corpus.dev} == {"May", "Rose"}
