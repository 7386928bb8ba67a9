import numpy as np
import pytest
import spacy
from spacy.tokens import Doc

from trfnb.pretraining.corruption import MASK, Replacement, corrupt, texts, word_groups
from trfnb.pretraining.masking import random_mask

VOCAB = spacy.blank("en").vocab


def test_groups_end_at_spaces():
    doc = Doc(VOCAB, words=["I", "do", "n't", "know", "."], spaces=[1, 0, 1, 0, 0])
    assert word_groups(doc).tolist() == [0, 1, 1, 2, 2]
    assert word_groups(Doc(VOCAB, words=[])).tolist() == []


def test_shares_of_masks_other_words_and_kept_words():
    docs = [Doc(VOCAB, words=[f"w{i}" for i in range(4000)])]
    (seen,), hidden = corrupt(docs, random_mask(0.5), Replacement(), np.random.default_rng(0))
    before = np.array(texts(docs[0]))
    after = np.array(seen)
    assert (before[~hidden] == after[~hidden]).all()
    share = (after[hidden] == MASK).mean(), (after[hidden] == before[hidden]).mean()
    assert share == pytest.approx((0.8, 0.1), abs=0.03)
    assert set(after[hidden]) - {MASK} <= set(before)


def test_docs_keep_their_lengths():
    docs = [Doc(VOCAB, words=["a"] * n) for n in (3, 0, 5)]
    seen, hidden = corrupt(docs, random_mask(), Replacement(), np.random.default_rng(0))
    assert [len(one) for one in seen] == [3, 0, 5]
    assert len(hidden) == 8


def test_shares_above_one_are_refused():
    with pytest.raises(ValueError, match="sum to at most 1"):
        Replacement(0.8, 0.3)
