import itertools
import math
from copy import deepcopy
from itertools import islice

import pytest

from trfnb.flow.grad_factor import GradFactor, frozen_then_warmup, piecewise_constant


def test_a_constant_stays():
    factor = GradFactor(0.5)
    factor.step()
    assert factor.now == 0.5


def test_a_schedule_moves_with_each_step_and_then_stays():
    factor = GradFactor(iter([0.0, 0.5, 1.0]))
    seen = []
    for _ in range(5):
        seen.append(factor.now)
        factor.step()
    assert seen == [0.0, 0.5, 1.0, 1.0, 1.0]


def test_a_copy_goes_on_by_itself():
    factor = GradFactor(itertools.count(1.0))
    factor.step()
    copied = deepcopy(factor)
    factor.step()
    assert (factor.now, copied.now) == (3.0, 2.0)
    copied.step()
    assert copied.now == 3.0


def values(make, value):
    factor = make(value)
    for _ in range(2):
        yield factor.now
        factor.step()


@pytest.mark.parametrize("value", ["high", None, object(), True, [0.5, "x"], ["x"]])
def test_not_a_number(value):
    with pytest.raises(TypeError, match="grad_factor expected a finite number or a schedule"):
        list(values(GradFactor, value))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, []])
def test_not_finite(value):
    with pytest.raises(ValueError, match="grad_factor expected"):
        GradFactor(value)


def test_frozen_then_warming_up():
    assert list(islice(frozen_then_warmup(2, 3), 7)) == [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert list(islice(frozen_then_warmup(0, 0, -0.5), 2)) == [-0.5, -0.5]
    with pytest.raises(ValueError, match="frozen=-1, warmup=2"):
        frozen_then_warmup(-1, 2)


def test_piecewise_constant():
    assert list(islice(piecewise_constant([0, 2, 3], [1, 0.5, 0]), 6)) == [1, 1, 0.5, 0, 0, 0]


def test_all_that_is_wrong_with_the_pieces_is_named_at_once():
    with pytest.raises(ValueError, match="0 as the first start, not 1") as caught:
        piecewise_constant([1, 1], [1.0, "high"])
    assert "starts that rise" in str(caught.value)
    assert "numbers as factors, not ['high']" in str(caught.value)
    with pytest.raises(ValueError, match="1 starts and 2 factors"):
        piecewise_constant([0], [1.0, 2.0])
