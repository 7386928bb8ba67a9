import pickle

import numpy as np
import pytest
import spacy
from spacy.tokens import Doc

from trfnb.flow.encoder import EncoderShim
from trfnb.flow.wordpieces import encode
from trfnb.pretraining.masking import (
    MASK,
    MixedMask,
    RandomMask,
    Replacement,
    SpanMask,
    WholeWordMask,
    _hide,
    corrupt,
    corrupt_wordpieces,
    word_groups,
    wordpiece_groups,
    words_of,
)

VOCAB = spacy.blank("en").vocab
GROUPS = np.repeat(np.arange(4000), 2)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("strategy", [RandomMask, WholeWordMask, SpanMask])
@pytest.mark.parametrize("share", [0.15, 0.4])
def test_the_share_asked_for_is_hidden(strategy, share):
    hidden = [strategy(share)(GROUPS, rng(i)).mean() for i in range(5)]
    assert np.mean(hidden) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("strategy", [WholeWordMask(), SpanMask()])
def test_words_are_hidden_whole(strategy):
    hidden = strategy(GROUPS, rng())
    assert (hidden[::2] == hidden[1::2]).all()
    assert hidden.any()


def test_single_wordpieces_are_hidden_at_random():
    hidden = RandomMask(0.5)(GROUPS, rng())
    assert (hidden[::2] != hidden[1::2]).any()


def test_spans_are_longer_than_single_words():
    def mean_run(strategy):
        hidden = strategy(np.arange(20_000), rng()).astype(int)
        starts = (np.diff(np.concatenate([[0], hidden])) == 1).sum()
        return hidden.sum() / starts

    assert mean_run(RandomMask()) == pytest.approx(1.18, abs=0.05)
    assert mean_run(SpanMask()) > 3.5


def test_the_first_words_are_hidden_as_often_as_others():
    strategy, one = SpanMask(0.3), np.arange(8)
    often = np.mean([strategy(one, rng(i)) for i in range(4000)], axis=0)
    assert often == pytest.approx(np.full(8, 0.3), abs=0.04)


def test_a_mixture_follows_one_strategy_a_text():
    mixed = MixedMask(RandomMask(0.01), RandomMask(0.9))
    shares = np.array([mixed(np.arange(200), rng(i)).mean() for i in range(300)])
    assert (shares > 0.5).mean() == pytest.approx(0.5, abs=0.09)


def test_something_is_always_hidden():
    hidden = _hide(RandomMask(0.001), [np.arange(2), np.arange(1)], rng())
    assert hidden.sum() == 1
    assert len(_hide(RandomMask(), [], rng())) == 0
    assert len(_hide(SpanMask(), [np.arange(0)], rng())) == 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RandomMask(0.0), "greater than 0"),
        (lambda: WholeWordMask(1.0), "less than 1"),
        (lambda: MixedMask(), "expected strategies"),
    ],
)
def test_bad_settings_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_strategies_pickle():
    mixed = MixedMask(SpanMask(0.3), WholeWordMask())
    for one in (RandomMask(0.2), mixed):
        copied = pickle.loads(pickle.dumps(one))
        np.testing.assert_array_equal(copied(GROUPS, rng()), one(GROUPS, rng()))


def test_groups_end_at_spaces():
    doc = Doc(VOCAB, words=["I", "do", "n't", "know", "."], spaces=[1, 0, 1, 0, 0])
    assert word_groups(doc).tolist() == [0, 1, 1, 2, 2]
    assert word_groups(Doc(VOCAB, words=[])).tolist() == []
    # Scripts without spaces: else a text would be hidden as a whole, or not at all.
    chinese = Doc(VOCAB, words=["I", *"abcdefghijkl", "!"], spaces=[1, *[0] * 13])
    assert len(set(word_groups(chinese))) == 14


def test_shares_of_masks_other_words_and_kept_words():
    docs = [Doc(VOCAB, words=[f"w{i}" for i in range(4000)])]
    (seen,), hidden = corrupt(docs, RandomMask(0.5), Replacement(), np.random.default_rng(0))
    before = np.array(words_of(docs[0]))
    after = np.array(seen)
    assert (before[~hidden] == after[~hidden]).all()
    share = (after[hidden] == MASK).mean(), (after[hidden] == before[hidden]).mean()
    assert share == pytest.approx((0.8, 0.1), abs=0.03)
    assert set(after[hidden]) - {MASK} <= set(before)


def test_docs_keep_their_lengths():
    docs = [Doc(VOCAB, words=["a"] * n) for n in (3, 0, 5)]
    seen, hidden = corrupt(docs, RandomMask(), Replacement(), np.random.default_rng(0))
    assert [len(one) for one in seen] == [3, 0, 5]
    assert len(hidden) == 8


def wordpieces(tiny, *texts):
    shim = EncoderShim(tiny)
    shim.load()
    return shim.tokenizer, encode(shim.tokenizer, list(texts))


def test_wordpieces_are_grouped_by_word(tiny):
    _, found = wordpieces(tiny, "the bank unable", "paris, x")
    groups, content = wordpiece_groups(found)
    assert found.strings[0] == ["[CLS]", "the", "bank", "un", "##able", "[SEP]"]
    assert [one.tolist() for one in groups] == [[0, 1, 2, 2], [0, 0, 1]]
    assert content.tolist() == [0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0]


def test_special_tokens_are_never_hidden_and_words_are_hidden_whole(tiny):
    tokenizer, found = wordpieces(tiny, *["the bank unable in paris"] * 200)
    rng = np.random.default_rng(0)
    mask = tokenizer.mask_token_id
    ids, hidden = corrupt_wordpieces(found, WholeWordMask(0.3), Replacement(1, 0, mask), rng)
    assert (ids[hidden] == mask).all()
    assert (ids[~hidden] == found.ids[~hidden]).all()
    assert not np.isin(found.ids[hidden], tokenizer.all_special_ids).any()
    first = np.flatnonzero(found.ids == tokenizer.convert_tokens_to_ids("un"))
    assert (hidden[first] == hidden[first + 1]).all()
    _, single = corrupt_wordpieces(found, RandomMask(0.3), Replacement(word=mask), rng)
    assert (single[first] != single[first + 1]).any()
