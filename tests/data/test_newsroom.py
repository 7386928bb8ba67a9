"""The embedded corpus: made by its maker, well-formed, and as hard as its README says."""

import re
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from trfnb.corpora import Corpus, load
from trfnb.corpora.columns import tree_fault
from trfnb.corpora.loading import embedded

DATA = Path(__file__).parents[2] / "data"
MAKER = DATA / "make_newsroom.py"
SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load()


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


def _words(corpus: Corpus, split: str) -> set[str]:
    return {word for sentence in corpus.splits[split] for word in sentence.words}


def test_the_maker_reproduces_the_data(tmp_path: Path) -> None:
    _run(str(tmp_path))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"newsroom-{split}.conllu" for split in ("dev", "test", "train")]
    for name in names:
        assert (tmp_path / name).read_bytes() == (DATA / "newsroom" / name).read_bytes(), name


def test_the_readme_has_the_measured_difficulty() -> None:
    assert _run("--report").strip() in (DATA / "README.md").read_text(encoding="utf-8")


def test_three_splits_load_from_the_checkout(corpus: Corpus) -> None:
    assert (corpus.name, corpus.skipped) == ("newsroom", {})
    assert {"tagger", "parser", "ner", "textcat"} <= set(corpus.tasks)
    sizes = [len(corpus.splits[split]) for split in SPLITS]
    assert sizes == pytest.approx([1800, 400, 400], abs=10)
    assert embedded() == DATA / "newsroom"
    assert sum(path.stat().st_size for path in embedded().iterdir()) < 1_600_000


def test_sentences_are_well_formed(corpus: Corpus) -> None:
    for sentence in (s for split in SPLITS for s in corpus.splits[split]):
        heads = sentence.heads
        assert heads is not None
        assert tree_fault(heads) is None
        arcs = [(min(i, h), max(i, h)) for i, h in enumerate(heads)]
        assert not any(a < c < b < d for a, b in arcs for c, d in arcs), sentence.text
        assert not re.search(r"\s[.,?”]|\s's|“\s|  |[\[\]{}()|/<>]", sentence.text), sentence.text
        assert sentence.text[0].isupper() or sentence.text[0] in "“" or sentence.text[0].isdigit()


def test_entities_are_what_they_look_like(corpus: Corpus) -> None:
    for sentence in (s for split in SPLITS for s in corpus.splits[split]):
        for start, end, label in sentence.ents or ():
            words = sentence.words[start:end]
            assert (words[0] == "$") == (label == "MONEY"), sentence.text
            assert "," not in words
            if label in ("PER", "ORG", "LOC"):
                assert all(word[0].isupper() for word in words), sentence.text


def test_splits_share_neither_documents_nor_sentences(corpus: Corpus) -> None:
    for one, other in combinations(SPLITS, 2):
        for value in ("doc_id", "text"):
            shared = {getattr(s, value) for s in corpus.splits[one]} & {
                getattr(s, value) for s in corpus.splits[other]
            }
            assert not shared, (one, other)


def test_documents_are_stories_of_one_category(corpus: Corpus) -> None:
    documents: dict[str | None, list[str]] = {}
    for sentence in (s for split in SPLITS for s in corpus.splits[split]):
        (category,) = (name for name, value in (sentence.cats or {}).items() if value)
        documents.setdefault(sentence.doc_id, []).append(category)
    assert all(4 <= len(categories) <= 9 for categories in documents.values())
    most = [Counter(categories).most_common(1)[0] for categories in documents.values()]
    # But for the slips.
    assert sum(n for _, n in most) > 0.97 * sum(map(len, documents.values()))
    counts = Counter(category for category, _ in most)
    assert len(counts) == 6
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_words_are_ambiguous_across_layers(corpus: Corpus) -> None:
    labels: dict[str, set[str]] = {}
    tags: dict[str, set[str]] = {}
    for sentence in corpus.splits["train"]:
        for start, end, label in sentence.ents or ():
            if end - start == 1:
                labels.setdefault(sentence.words[start], set()).add(label)
        for word, tag in zip(sentence.words, sentence.tags or (), strict=True):
            tags.setdefault(word, set()).add(tag)
    assert labels["May"] >= {"PER", "DATE"}
    assert labels["Washington"] >= {"PER", "LOC"}
    assert labels["Chelsea"] >= {"LOC", "ORG"}
    assert tags["plans"] >= {"NNS", "VBZ"}
    assert tags["report"] >= {"NN", "VB"}
    assert tags["that"] >= {"IN", "WDT", "DT"}
    assert tags["her"] >= {"PRP", "PRP$"}
    assert tags["reported"] >= {"VBD", "VBN"}


def test_held_out_words_are_in_one_split_only(corpus: Corpus) -> None:
    train, dev, test = (_words(corpus, split) for split in SPLITS)
    assert {"Priya", "Dunmore", "Achterberg", "avalanche", "forged"} <= dev - train - test
    assert {"Emeka", "Selwick", "Fontaine", "fog", "javelin"} <= test - train - dev
    for words in (dev, test):
        assert len(words - train) > 0.25 * len(words)
