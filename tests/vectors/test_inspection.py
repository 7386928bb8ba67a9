from collections import Counter

import numpy as np
import pytest
from spacy.strings import StringStore
from spacy.vectors import Vectors

from trfnb.vectors import VectorsError, convert, fingerprint, inspect, load, most_similar
from trfnb.vectors.fingerprints import check_fingerprint
from trfnb.vectors.inspection import coverage

from .tables import write_floret, write_text

WORDS = ["cat", "dog", "car", "bus", "nil"]
DATA = np.array([[1, 0, 0.1], [1, 0, 0], [0, 1, 0], [0, 2, 0], [0, 0, 0]], dtype="f4")


@pytest.fixture
def path(tmp_path):
    convert(write_text(tmp_path / "v.vec", WORDS, DATA), tmp_path / "out")
    return tmp_path / "out"


def test_facts_coverage_and_neighbours(path):
    docs = [["cat", "cat", "dog", "nil", "zebra", "zebra", "zebra"]]
    found = inspect(path, corpus=docs, words=["cat"], n=1)
    assert (found.rows, found.width, found.keys, found.zero_rows) == (5, 3, 5, 1)
    assert (found.duplicate_rows, found.unused_rows) == (0, 0)
    assert found.norms["largest"] == 2
    assert found.coverage.by_token == pytest.approx(3 / 7)
    assert found.coverage.by_type == pytest.approx(2 / 4)
    assert found.coverage.missing == [("zebra", 3), ("nil", 1)]
    assert found.neighbours["cat"][0][0] == "dog"
    assert "coverage: 42.9% of 7 tokens" in str(found)
    assert str(found).startswith(f"{path} (default): 5 rows")
    assert found.fingerprint == fingerprint(load(path))
    assert found.to_dict()["rows"] == 5


def test_duplicates_and_unused_rows():
    vectors = Vectors(data=np.ones((3, 2), dtype="f4"))
    vectors.add("a", row=0)
    found = inspect(vectors)
    assert (found.duplicate_rows, found.unused_rows) == (2, 2)


def test_lower_attribute_counts_lowered(tmp_path):
    convert(write_text(tmp_path / "v.vec", WORDS, DATA), tmp_path / "out", attr="LOWER")
    assert coverage(load(tmp_path / "out"), Counter({"CAT": 2})).covered_tokens == 2


def test_neighbours_are_exact():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(5000, 8)).astype("f4")
    words = [f"w{i}" for i in range(5000)]
    vectors = Vectors(strings=StringStore(words), data=data, keys=words)
    cosines = (data / np.linalg.norm(data, axis=1, keepdims=True)) @ (
        data[7] / np.linalg.norm(data[7])
    )
    expected = [words[i] for i in np.argsort(-cosines)[1:6]]
    assert [word for word, _ in most_similar(vectors, ["w7"], n=5)[0]] == expected
    assert [w for w, _ in most_similar(vectors, data[7:8], n=6)[0]] == ["w7", *expected]


def test_floret_has_neighbours_too(tmp_path):
    data = np.random.default_rng(0).normal(size=(200, 16)).astype("f4")
    convert(write_floret(tmp_path / "v.floret", data, "3 5 2 2166136261 < >"), tmp_path / "out")
    vectors = load(tmp_path / "out")
    near = most_similar(vectors, ["walking"], n=3, among=["walked", "walking", "zq", "talking"])[0]
    assert near[0][0] == "talking"
    assert inspect(vectors, corpus=[["walked", "zq"]], words=["walking"]).coverage.by_token == 1


def test_words_that_share_a_row_are_one_neighbour(tmp_path):
    """In a pruned table hundreds of words have the same vector: a list of them says nothing."""
    store = StringStore(["kitty", *WORDS, "hound"])
    vectors = Vectors(strings=store, data=DATA.copy(), keys=WORDS)
    vectors.add("kitty", row=0)
    vectors.add("hound", row=1)
    near = most_similar(vectors, ["cat", "kitty", "bus"], n=3)
    assert [[word for word, _ in pairs] for pairs in near[:2]] == [["dog", "car", "bus"]] * 2
    assert near[2][0][0] == "car"
    among = most_similar(vectors, ["cat"], n=2, among=["kitty", "hound", "cat"])[0]
    assert [word for word, _ in among] == ["kitty", "hound"]


def test_a_lower_table_is_asked_in_lower_case(tmp_path):
    convert(write_text(tmp_path / "v.vec", WORDS, DATA), tmp_path / "out", attr="LOWER")
    assert most_similar(load(tmp_path / "out"), ["CAT"], n=1)[0][0][0] == "dog"


def test_floret_has_no_words_of_its_own(tmp_path):
    convert(write_floret(tmp_path / "v.floret", DATA, "3 5 2 1 < >"), tmp_path / "out")
    with pytest.raises(VectorsError, match="name candidates"):
        inspect(tmp_path / "out", words=["cat"])


def test_a_word_without_a_vector_has_no_neighbours(path):
    assert most_similar(load(path), ["zebra", "cat", "nil"], n=1) == [
        [],
        [("dog", pytest.approx(0.995, abs=1e-3))],
        [],
    ]
    assert "zebra: no vector" in str(inspect(path, words=["zebra"]))


def test_fingerprint_sees_numbers_keys_and_settings(path):
    vectors = load(path)
    same = fingerprint(vectors)
    check_fingerprint(load(path), same, "x")
    vectors.data[1, 1] = 5
    other = fingerprint(vectors)
    vectors.add("new", row=0)
    assert len({same, other, fingerprint(vectors)}) == 3
    with pytest.raises(VectorsError, match="was trained with the vector table"):
        check_fingerprint(vectors, same, "The tagger")


def test_commands(path, tmp_path, capsys):
    from trfnb.cli import main

    def call(*arguments):
        assert main(["vectors", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    (tmp_path / "words.txt").write_text("cat\nbus\n")
    out = call("convert", tmp_path / "v.vec", tmp_path / "few", "--words", tmp_path / "words.txt",
               "--dtype", "float16")  # fmt: skip
    assert "2 rows x 3 (float16)" in out
    assert "5 rows x 3" in call("inspect", path, "--words", "cat")
    assert '"rows": 2' in call("inspect", tmp_path / "few", "--json")
    assert main(["vectors", "convert", str(tmp_path / "v.vec"), str(tmp_path / "few")]) == 2
    assert "already there" in capsys.readouterr().err
