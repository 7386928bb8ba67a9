"""The embedded corpus: made by its maker, and as hard as its README says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trfnb.corpora import load
from trfnb.corpora.files import embedded
from trfnb.corpora.trees import tree_fault

DATA = Path(__file__).parents[2] / "data"
MAKER = DATA / "make_newsroom.py"


def _run(*arguments: str) -> str:
    # Another hash seed, so that no set's order can leak into the sentences.
    done = subprocess.run(
        [sys.executable, str(MAKER), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return done.stdout


def test_the_maker_reproduces_the_data(tmp_path: Path) -> None:
    _run(str(tmp_path))
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["newsroom-dev.conllu", "newsroom-train.conllu"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (DATA / "newsroom" / name).read_bytes(), name


def test_the_readme_has_the_measured_difficulty() -> None:
    assert _run("--report").strip() in (DATA / "README.md").read_text(encoding="utf-8")


def test_loads_from_the_checkout() -> None:
    corpus = load()
    assert corpus.name == "newsroom"
    assert corpus.tasks == ("tagger", "parser", "ner", "textcat")
    assert (len(corpus.train), len(corpus.dev)) == (2400, 600)
    assert corpus.skipped == {}
    assert embedded() == DATA / "newsroom"
    assert sum(path.stat().st_size for path in embedded().iterdir()) < 2_000_000


def test_sentences_are_well_formed() -> None:
    corpus = load()
    for sentence in (*corpus.train, *corpus.dev):
        heads = sentence.heads
        assert heads is not None
        assert tree_fault(heads) is None
        arcs = [(min(i, h), max(i, h)) for i, h in enumerate(heads)]
        assert not any(a < c < b < d for a, b in arcs for c, d in arcs), sentence.text
        assert not re.search(r"\s[.,?”]|\s's|“\s|  ", sentence.text), sentence.text
        assert sentence.text[0].isupper() or sentence.text[0] == "“"


def test_words_are_ambiguous_across_layers() -> None:
    corpus = load()
    labels: dict[str, set[str]] = {}
    for sentence in corpus.train:
        for start, end, label in sentence.ents or ():
            if end - start == 1:
                labels.setdefault(sentence.words[start], set()).add(label)
    assert labels["May"] >= {"PER", "DATE"}
    assert labels["April"] >= {"PER", "DATE"}
    assert labels["Lincoln"] >= {"PER", "LOC"}
    assert labels["Chelsea"] >= {"PER", "LOC", "ORG"}
    tags = {
        word: {
            tag
            for s in corpus.train
            for w, tag in zip(s.words, s.tags or (), strict=True)
            if w == word
        }
        for word in ("plans", "report", "that", "her", "reported", "May")
    }
    assert tags["plans"] >= {"NNS", "VBZ"}
    assert tags["report"] >= {"NN", "VB"}
    assert tags["that"] >= {"IN", "WDT", "DT"}
    assert tags["her"] >= {"PRP", "PRP$"}
    assert tags["reported"] >= {"VBD", "VBN", "JJ"}
    assert tags["May"] >= {"NNP", "MD"}


@pytest.mark.parametrize("word", ["Houston", "Priya", "curator", "Barclay", "abruptly"])
def test_held_out_words_are_in_dev_only(word: str) -> None:
    corpus = load()
    assert word not in {w for s in corpus.train for w in s.words}
    assert word in {w for s in corpus.dev for w in s.words}
