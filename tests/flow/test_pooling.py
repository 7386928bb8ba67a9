import numpy as np
import pytest
from thinc.api import reduce_first, reduce_last, reduce_max, reduce_mean, reduce_sum
from thinc.types import Ragged

from trfnb.flow.pooling import pool

ROWS = np.asarray([[0.0, 1.0], [2.0, 5.0], [4.0, 3.0]], dtype="float32")
# three tokens: rows 1 and 2, none, row 2 again
ALIGN = Ragged(np.asarray([1, 2, 2], dtype="int32"), np.asarray([2, 0, 1], dtype="int32"))


@pytest.mark.parametrize(
    ("pooling", "first"),
    [
        (reduce_mean, [3, 4]),
        (reduce_max, [4, 5]),
        (reduce_sum, [6, 8]),
        (reduce_first, [2, 5]),
        (reduce_last, [4, 3]),
    ],
)
def test_each_reduction(pooling, first):
    vectors, _ = pool(pooling(), ROWS, ALIGN, is_train=False)
    assert vectors.tolist() == [first, [0, 0], [4, 3]]


@pytest.mark.parametrize(
    "pooling", [reduce_mean, reduce_max, reduce_sum, reduce_first, reduce_last]
)
def test_gradient_by_finite_differences(pooling):
    weights = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")
    _, backprop = pool(pooling(), ROWS, ALIGN, is_train=True)
    gradient = backprop(weights.copy())
    for index in np.ndindex(ROWS.shape):
        ends = []
        for step in (0.25, -0.25):
            moved = ROWS.copy()
            moved[index] += step
            ends.append(float((pool(pooling(), moved, ALIGN, False)[0] * weights).sum()))
        assert gradient[index] == pytest.approx((ends[0] - ends[1]) / 0.5, abs=1e-4)


def test_no_token_has_a_row():
    none = Ragged(np.zeros(0, dtype="int32"), np.zeros(2, dtype="int32"))
    vectors, backprop = pool(reduce_mean(), ROWS, none, is_train=True)
    assert vectors.tolist() == [[0, 0], [0, 0]]
    assert not backprop(np.ones((2, 2), dtype="f")).any()
