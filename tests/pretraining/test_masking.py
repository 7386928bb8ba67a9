import numpy as np
import pytest

from trfnb.pretraining.masking import hide, mixed_mask, random_mask, span_mask, whole_word_mask

GROUPS = np.repeat(np.arange(4000), 2)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("strategy", [random_mask, whole_word_mask, span_mask])
@pytest.mark.parametrize("share", [0.15, 0.4])
def test_the_share_asked_for_is_hidden(strategy, share):
    hidden = [strategy(share)(GROUPS, rng(i)).mean() for i in range(5)]
    assert np.mean(hidden) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("strategy", [whole_word_mask(), span_mask()])
def test_words_are_hidden_whole(strategy):
    hidden = strategy(GROUPS, rng())
    assert (hidden[::2] == hidden[1::2]).all()
    assert hidden.any()


def test_single_wordpieces_are_hidden_at_random():
    hidden = random_mask(0.5)(GROUPS, rng())
    assert (hidden[::2] != hidden[1::2]).any()


def test_spans_are_longer_than_single_words():
    def mean_run(strategy):
        hidden = strategy(np.arange(20_000), rng()).astype(int)
        starts = (np.diff(np.concatenate([[0], hidden])) == 1).sum()
        return hidden.sum() / starts

    assert mean_run(random_mask()) == pytest.approx(1.18, abs=0.05)
    assert mean_run(span_mask()) > 3.5
    assert mean_run(span_mask(longest=1)) == pytest.approx(1.18, abs=0.05)


def test_the_first_words_are_hidden_as_often_as_others():
    strategy, one = span_mask(0.3), np.arange(8)
    often = np.mean([strategy(one, rng(i)) for i in range(4000)], axis=0)
    assert often == pytest.approx(np.full(8, 0.3), abs=0.04)


def test_a_mixture_follows_one_strategy_a_text():
    mixed = mixed_mask([random_mask(0.01), random_mask(0.9)], [1, 3])
    shares = np.array([mixed(np.arange(200), rng(i)).mean() for i in range(300)])
    assert (shares > 0.5).mean() == pytest.approx(0.75, abs=0.07)


def test_something_is_always_hidden():
    hidden = hide(random_mask(0.001), [np.arange(2), np.arange(1)], rng())
    assert hidden.sum() == 1
    assert len(hide(random_mask(), [], rng())) == 0
    assert len(hide(span_mask(), [np.arange(0)], rng())) == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: random_mask(0.0),
        lambda: whole_word_mask(1.0),
        lambda: span_mask(0.1, success=0),
        lambda: mixed_mask([]),
        lambda: mixed_mask([random_mask()], [0]),
        lambda: mixed_mask([random_mask()], [1, 2]),
    ],
)
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()
