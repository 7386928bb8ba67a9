import numpy as np
import pytest
import spacy
from spacy.strings import StringStore
from spacy.vectors import Vectors

from trfnb.vectors import VectorsError, convert, fingerprint, inspect, load, most_similar, prune
from trfnb.vectors.blocks import unit

from .tables import write_floret, write_text

WORDS = ["cat", "dog", "car", "bus", "nil"]
DATA = np.array([[1, 0, 0.1], [1, 0, 0], [0, 1, 0], [0, 2, 0], [0, 0, 0]], dtype="f4")


@pytest.fixture
def path(tmp_path):
    convert(write_text(tmp_path / "v.vec", WORDS, DATA), tmp_path / "out")
    return tmp_path / "out"


def test_facts_coverage_and_neighbours(path):
    docs = [["cat", "cat", "dog", "nil", "zebra", "zebra", "zebra"]]
    found = inspect(path, corpus=docs, words=["cat", "zebra"], n=1)
    assert (found["rows"], found["width"], found["keys"], found["zero_rows"]) == (5, 3, 5, 1)
    assert (found["name"], found["unused_rows"], found["norms"]["max"]) == (str(path), 0, 2)
    assert found["coverage"] == {
        "tokens": 7, "types": 4, "tokens_covered": pytest.approx(3 / 7),
        "types_covered": pytest.approx(2 / 4), "missing": [("zebra", 3), ("nil", 1)],
    }  # fmt: skip
    assert found["neighbours"]["cat"][0][0] == "dog"
    assert found["neighbours"]["zebra"] == []
    assert found["fingerprint"] == fingerprint(load(path))
    vectors = Vectors(data=np.ones((3, 2), dtype="f4"))
    vectors.add("a", row=0)
    assert inspect(vectors)["unused_rows"] == 2


def test_a_lower_table_is_asked_in_lower_case(tmp_path):
    convert(write_text(tmp_path / "v.vec", WORDS, DATA), tmp_path / "out", attr="LOWER")
    vectors = load(tmp_path / "out")
    assert inspect(vectors, corpus=[["CAT", "CAT"]])["coverage"]["tokens_covered"] == 1
    assert most_similar(vectors, ["CAT"], n=1)[0][0][0] == "dog"


def test_neighbours_are_exact(monkeypatch):
    monkeypatch.setattr("trfnb.vectors.store._COSINES", 10_000)
    data = np.random.default_rng(0).normal(size=(5000, 8)).astype("f4")
    words = [f"w{i}" for i in range(5000)]
    vectors = Vectors(strings=StringStore(words), data=data, keys=words)
    cosines = unit(data) @ unit(data)[7]
    expected = [words[i] for i in np.argsort(-cosines)[1:6]]
    assert [word for word, _ in most_similar(vectors, ["w7"], n=5)[0]] == expected
    rows = np.concatenate([data[:7], data[7:8] * 2])
    assert [w for w, _ in most_similar(vectors, rows, n=6)[7]] == ["w7", *expected]
    few = most_similar(vectors, ["w7"], n=9, among=["w1", "w7", "w2"])[0]
    assert sorted(word for word, _ in few) == ["w1", "w2"]


def test_floret_has_neighbours_among_candidates(tmp_path):
    data = np.random.default_rng(0).normal(size=(200, 16)).astype("f4")
    convert(write_floret(tmp_path / "v.floret", data, "3 5 2 2166136261 < >"), tmp_path / "out")
    with pytest.raises(VectorsError, match="name candidates"):
        inspect(tmp_path / "out", words=["cat"])
    vectors = load(tmp_path / "out")
    near = most_similar(vectors, ["walking"], n=3, among=["walked", "walking", "zq", "talking"])[0]
    assert near[0][0] == "talking"
    assert inspect(vectors, corpus=[["walked", "zq"]], words=["walking"])["coverage"]["tokens"] == 2


def test_words_that_share_a_row_are_one_neighbour():
    """In a pruned table hundreds of words have the same vector: a list of them says nothing."""
    store = StringStore(["kitty", *WORDS, "hound"])
    vectors = Vectors(strings=store, data=DATA.copy(), keys=WORDS)
    vectors.add("kitty", row=0)
    vectors.add("hound", row=1)
    near = most_similar(vectors, ["cat", "kitty", "bus", "nothing", "nil"], n=3)
    assert [[word for word, _ in pairs] for pairs in near[:2]] == [["dog", "car", "bus"]] * 2
    assert near[2][0][0] == "car"
    assert near[3:] == [[], []]
    among = most_similar(vectors, ["cat"], n=2, among=["kitty", "hound", "cat"])[0]
    assert [word for word, _ in among] == ["kitty", "hound"]


def _vectors(rows=300, width=20):
    data = np.random.default_rng(0).normal(size=(rows, width)).astype("f4")
    nlp, words = spacy.blank("en"), [f"w{i}" for i in range(rows)]
    for word in words:
        nlp.vocab.strings.add(word)
    return Vectors(strings=nlp.vocab.strings, data=data, keys=words), words, nlp


def test_pruned_as_by_spacy():
    vectors, words, nlp = _vectors()
    pruned = prune(vectors, 60)
    nlp.vocab.vectors = vectors
    theirs = nlp.vocab.prune_vectors(60)
    replaced = pruned.replaced.set_index("word")
    assert replaced.stand_in.to_dict() == {word: other for word, (other, _) in theirs.items()}
    ours = nlp.vocab.vectors
    assert all(np.array_equal(ours[w], pruned.vectors[w]) for w in words)
    scores = [theirs[word][1] for word in replaced.index]
    np.testing.assert_allclose(replaced.cosine, scores, atol=6e-5)
    assert replaced.cosine.is_monotonic_increasing
    assert vectors.shape == (300, 20)


def test_pruning_priority_aliases_and_limits():
    vectors, _, _ = _vectors(rows=6)
    vectors.add("alias", row=5)
    vectors.strings.add("other")
    vectors.add("other", row=4)
    pruned = prune(vectors, 2, priority=["w5", "nothing"])
    assert pruned.vectors.shape == (2, 20)
    assert np.array_equal(pruned.vectors["alias"], vectors["w5"])
    assert np.array_equal(pruned.vectors["w0"], vectors["w0"])
    assert sorted(pruned.replaced.word) == ["other", "w1", "w2", "w3", "w4"]
    assert prune(vectors, 6).replaced.empty
    for rows in (0, 7):
        with pytest.raises(VectorsError, match="from 1 to 6"):
            prune(vectors, rows)
    floret = Vectors(data=np.ones((4, 2), dtype="f4"), mode="floret", minn=1, maxn=2)
    with pytest.raises(VectorsError, match="floret"):
        prune(floret, 2)
