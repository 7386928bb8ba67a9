import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.vectors import Vectors

from trfnb.vectors import VectorsError, prune
from trfnb.vectors import closest as closest_module
from trfnb.vectors.closest import _Rounded, closest
from trfnb.vectors.project import unit


def _vectors(rows=300, width=20, seed=0):
    data = np.random.default_rng(seed).normal(size=(rows, width)).astype("f4")
    nlp = spacy.blank("en")
    words = [f"w{i}" for i in range(rows)]
    for word in words:
        nlp.vocab.strings.add(word)
    return Vectors(strings=nlp.vocab.strings, data=data, keys=words), words, nlp


def test_same_as_spacys():
    vectors, words, nlp = _vectors()
    pruned = prune(vectors, 60)
    nlp.vocab.vectors = vectors
    theirs = nlp.vocab.prune_vectors(60)
    assert {w: o for w, (o, _) in pruned.remapped.items()} == {w: o for w, (o, _) in theirs.items()}
    ours = nlp.vocab.vectors
    assert all(np.array_equal(ours[w], pruned.vectors[w]) for w in words)
    scores = np.array([theirs[w][1] for w in pruned.remapped])
    np.testing.assert_allclose(pruned.cosines, scores, atol=6e-5)
    assert [c for _, _, c in pruned.harmed()] == sorted(pruned.cosines.tolist())[:20]
    assert pruned.quantiles()["0"] == pytest.approx(pruned.cosines.min())
    assert vectors.shape == (300, 20)


def test_priority_aliases_and_limits():
    vectors, _, _ = _vectors(rows=6)
    vectors.add("alias", row=5)
    pruned = prune(vectors, 2, priority=["w5", "nothing"])
    assert pruned.vectors.shape == (2, 20)
    assert np.array_equal(pruned.vectors["alias"], vectors["w5"])
    assert np.array_equal(pruned.vectors["w0"], vectors["w0"])
    assert len(pruned.cosines) == 4
    assert prune(vectors, 6).quantiles()["mean"] == 1
    for rows in (0, 7):
        with pytest.raises(VectorsError, match="from 1 to 6"):
            prune(vectors, rows)
    floret = Vectors(data=np.ones((4, 2), dtype="f4"), mode="floret", minn=1, maxn=2)
    with pytest.raises(VectorsError, match="floret"):
        prune(floret, 2)


def test_words_that_shared_a_row_are_harmed_once():
    vectors, words, _ = _vectors(rows=8)
    for number in range(20):
        vectors.add(f"alias{number}", row=7)
    harmed = prune(vectors, 4).harmed()
    assert sorted(word for word, _, _ in harmed) == words[4:]
    assert len(prune(vectors, 4).harmed(2)) == 2


@pytest.mark.parametrize("rounded", [True, False])
@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 130), queries=st.integers(0, 40), width=st.integers(1, 24),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_the_closest_is_the_closest(rounded, rows, queries, width, seed):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(rows, width)).astype("f4")
    table[rng.random(rows) < 0.1] = 0
    asked = np.concatenate([rng.normal(size=(queries, width)), table[:3] * 2]).astype("f4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closest_module, "_int8_is_faster", lambda: rounded)
        found, cosines = closest(asked, table)
    exact = unit(asked) @ unit(table).T
    np.testing.assert_allclose(cosines, exact.max(1, initial=-1), atol=1e-5)
    np.testing.assert_allclose(exact[np.arange(len(asked)), found], cosines, atol=1e-5)


def test_near_copies_are_told_apart():
    import torch

    base = np.random.default_rng(0).normal(size=(1, 64))
    table = (base + np.random.default_rng(1).normal(size=(500, 64)) * 1e-3).astype("f4")
    rows = torch.from_numpy(unit(table))
    best, cosine = _Rounded(rows).closest(rows[:50])
    assert best.tolist() == list(range(50))
    np.testing.assert_allclose(cosine.numpy(), 1, atol=1e-5)
