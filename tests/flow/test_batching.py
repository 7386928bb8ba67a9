import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trfnb.flow.batching import length_sorted, micro_batches
from trfnb.flow.wordpieces import Wordpieces


def wordpieces(lengths: list[int]) -> Wordpieces:
    n = sum(lengths)
    zeros = np.zeros(len(lengths), dtype="int64")
    return Wordpieces(np.arange(1, n + 1), np.zeros((n, 2), "int64"), np.asarray(lengths), zeros)


@given(
    st.lists(st.integers(0, 30), max_size=40),
    st.integers(1, 100),
    st.none() | st.integers(0, 50),
)
def test_every_text_once_within_the_budget(lengths, budget, padding):
    groups = length_sorted(np.asarray(lengths, dtype="int64"), budget, padding)
    assert sorted(i for group in groups for i in group) == [i for i, n in enumerate(lengths) if n]
    for group in groups:
        longest = max(lengths[i] for i in group)
        assert len(group) == 1 or longest * len(group) <= budget
        wasted = sum(longest - lengths[i] for i in group)
        assert padding is None or wasted <= padding


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 40))
def test_rows_lead_back_to_the_ids(lengths, budget):
    flat = wordpieces(lengths)
    found = np.zeros_like(flat.ids)
    for batch in micro_batches(flat, budget, pad_id=0):
        found[batch.rows] = batch.ids[batch.mask]
        assert (batch.ids[~batch.mask] == 0).all()
        assert batch.is_full == bool(batch.mask.all())
    assert (found == flat.ids).all()


def test_sorting_leaves_little_padding():
    lengths = np.random.default_rng(0).geometric(0.05, size=1000)
    batches = micro_batches(wordpieces(lengths.tolist()), 1024, 0)
    sorted_positions = sum(batch.ids.size for batch in batches)
    in_order = sum(part.size * part.max() for part in np.split(lengths, 20))
    assert 1 - lengths.sum() / in_order > 0.6
    assert 1 - lengths.sum() / sorted_positions < 0.1


def test_no_budget():
    with pytest.raises(ValueError, match="at least 1 wordpiece, got 0"):
        length_sorted(np.asarray([1]), 0)
