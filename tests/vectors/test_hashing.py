import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy.strings import hash_string

from trfnb.vectors import hashing
from trfnb.vectors.blocks import Keys
from trfnb.vectors.symbols import spacy_symbols_here
from trfnb.vectors.wanted import Seen

from .tables import write_fasttext

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=90)


@given(st.lists(TEXT, min_size=1, max_size=20))
def test_keys_hash_as_in_spacy(words):
    from spacy.symbols import IDS

    words = [word for word in words if word not in IDS] or ["word"]
    assert Keys.of(words).hashes().tolist() == [hash_string(word) for word in words]


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=12))
def test_seen_tells_the_first_of_each(batches):
    seen, known = Seen(), set()
    for batch in batches:
        expected = []
        for number in batch:
            expected.append(number not in known)
            known.add(number)
        assert seen.new(np.array(batch, dtype=np.uint64)).tolist() == expected


def test_subwords_are_those_of_fasttext(tmp_path):
    """A model trained by floret's fastText mode gives the same vectors, known words or not."""
    floret = pytest.importorskip("floret")
    from trfnb.vectors.readers import open_source
    from trfnb.vectors.report import Report

    text = tmp_path / "text.txt"
    text.write_text("the café sat on the naïve 日本語 mat\n" * 100, "utf8")
    model = floret.train_unsupervised(
        str(text), dim=8, minn=1, maxn=4, bucket=60, minCount=1, thread=1, epoch=1, verbose=0
    )
    model.save_model(str(tmp_path / "model.bin"))
    source = open_source(tmp_path / "model.bin", Report(""))
    asked = ["the", "café", "日本語", "unseen", "ü", "</s>", "mats"]
    expected = np.array([model.get_word_vector(word) for word in asked])
    np.testing.assert_allclose(source.compose(asked), expected, atol=1e-7)
    first = next(source.blocks)
    own = np.array([model.get_word_vector(word) for word in first.keys.strings()])
    np.testing.assert_allclose(first.vectors, own, atol=1e-7)


def test_composition_by_hand(tmp_path):
    """`ab` has the bigrams `<a`, `ab`, `b>`: its vector is the mean of four rows."""
    from trfnb.vectors.readers import open_source
    from trfnb.vectors.report import Report

    def bucket(ngram: bytes) -> int:
        h = 2166136261
        for byte in ngram:
            h = ((h ^ byte) * 16777619) & 0xFFFFFFFF
        return h % 5

    words, buckets = np.eye(1, 6, dtype="f4"), np.eye(5, 6, 1, dtype="f4")
    path = write_fasttext(tmp_path / "m.bin", ["ab"], words, buckets=buckets, minn=2, maxn=2)
    got = open_source(path, Report("")).compose(["ab", "q"])
    rows = [buckets[bucket(n)] for n in (b"<a", b"ab", b"b>")]
    np.testing.assert_allclose(got[0], np.mean([words[0], *rows], axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        got[1], np.mean([buckets[bucket(n)] for n in (b"<q", b"q>")], axis=0)
    )


def test_many_words_are_hashed_in_parts(monkeypatch):
    words = [f"{'w' * (n % 70)}{n}" for n in range(50)]
    keys = Keys.of(words).part(3, 50)
    whole = keys.hashes().tolist()
    monkeypatch.setattr(hashing, "_AT_ONCE", 7)
    assert keys.hashes().tolist() == whole == [hash_string(word) for word in words[3:]]


def test_keys_are_taken_by_position_and_by_mask():
    keys = Keys.of(["b", "", "größe", "xyz"]).part(0, 4)
    assert keys.take(np.array([3, 2, 2, 1])).strings() == ["xyz", "größe", "größe", ""]
    assert keys.take(np.array([True, False, True, False])).strings() == ["b", "größe"]
    assert len(keys.take(np.zeros(0, dtype=np.int64))) == 0


def test_symbols_are_the_same_from_a_process_of_their_own():
    here = spacy_symbols_here()
    code = (
        "import sys, json; from trfnb.vectors.symbols import spacy_symbols; "
        "found = spacy_symbols(); assert 'spacy' not in sys.modules; print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == here
