from itertools import islice

import pytest

from trfnb.flow.schedules import moves, thaw


def test_frozen_then_warming_up():
    assert list(islice(thaw(2, 3), 7)) == [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert list(islice(thaw(0, 0, -0.5), 2)) == [-0.5, -0.5]


def test_moves_hold_until_the_next():
    assert list(islice(moves([0, 2, 3], [1, 0.5, 0]), 6)) == [1, 1, 0.5, 0, 0, 0]


def test_wrong_thaw():
    with pytest.raises(ValueError, match="frozen=-1, warmup=2"):
        thaw(-1, 2)


def test_wrong_moves_are_all_named_at_once():
    with pytest.raises(ValueError, match="0 as the first start, not 1") as caught:
        moves([1, 1], [1.0, "high"])
    assert "starts that rise" in str(caught.value)
    assert "numbers as factors, not ['high']" in str(caught.value)
    with pytest.raises(ValueError, match="1 starts and 2 factors"):
        moves([0], [1.0, 2.0])
