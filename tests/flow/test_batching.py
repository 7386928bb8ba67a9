import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trfnb.flow.batching import (
    grouped,
    length_sorted,
    micro_batches,
    originals,
    packs,
    text_rows,
)
from trfnb.flow.wordpieces import Wordpieces


def wordpieces(lengths: list[int]) -> Wordpieces:
    n = sum(lengths)
    zeros = np.zeros(len(lengths), dtype="int64")
    return Wordpieces(np.arange(1, n + 1), np.zeros((n, 2), "int64"), np.asarray(lengths), zeros)


@given(
    st.lists(st.integers(0, 30), max_size=40),
    st.integers(1, 100),
    st.just(math.inf) | st.integers(0, 50),
)
def test_every_text_once_within_the_budget(lengths, budget, padding):
    groups = length_sorted(np.asarray(lengths, dtype="int64"), budget, padding)
    assert sorted(i for group in groups for i in group) == [i for i, n in enumerate(lengths) if n]
    for group in groups:
        longest = max(lengths[i] for i in group)
        assert len(group) == 1 or longest * len(group) <= budget
        wasted = sum(longest - lengths[i] for i in group)
        assert wasted <= padding


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 40))
def test_rows_lead_back_to_the_ids(lengths, budget):
    flat = wordpieces(lengths)
    found = np.zeros_like(flat.ids)
    for batch in micro_batches(flat, budget, pad_id=0):
        found[batch.rows] = batch.ids[batch.mask]
        assert (batch.ids[~batch.mask] == 0).all()
    assert (found == flat.ids).all()


def test_sorting_leaves_little_padding():
    lengths = np.random.default_rng(0).geometric(0.05, size=1000)
    batches = micro_batches(wordpieces(lengths.tolist()), 1024, 0)
    sorted_positions = sum(batch.ids.size for batch in batches)
    in_order = sum(part.size * part.max() for part in np.split(lengths, 20))
    assert 1 - lengths.sum() / in_order > 0.6
    assert 1 - lengths.sum() / sorted_positions < 0.1


def test_packs_hold_each_wordpiece_once_under_the_budget():
    found = packs(wordpieces([5, 0, 30, 9, 5, 1, 9, 9, 3]), 12, np.arange(9))
    assert sorted(np.concatenate([one.rows for one in found])) == list(range(71))
    assert [len(one.ids) for one in found] == [30, 9, 9, 9, 10, 4]
    assert found[4].runs == [(2, 5)]
    assert found[5].positions.tolist() == [0, 1, 2, 0]


def test_equal_texts_are_found():
    ids, zeros = np.array([1, 2, 3, 1, 2, 1, 2, 3]), np.zeros(5, dtype="int64")
    pieces = Wordpieces(ids, np.zeros((8, 2), "int64"), np.array([3, 2, 0, 3, 0]), zeros)
    assert originals(pieces).tolist() == [0, 1, 2, 0, 2]
    assert text_rows(pieces, np.array([3, 2, 1]))[0].tolist() == [5, 6, 7, 3, 4]


def test_groups_hold_texts_of_about_one_length():
    groups = grouped([(1, 70), (3, 48), (2, 47), (2, 16), (3, 15), (4, 1)], waste=300)
    assert [(one.size, one.rows) for one in groups] == [
        ((1, 70), slice(0, 70)), ((5, 48), slice(70, 308)), ((5, 16), slice(308, 385)),
        ((4, 1), slice(385, 389)),
    ]  # fmt: skip
    assert [one.places is None for one in groups] == [True, False, False, True]
    assert groups[1].real.sum() == 3 * 48 + 2 * 47
