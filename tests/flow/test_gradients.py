import itertools
import math
from copy import deepcopy

import numpy as np
import pytest
import spacy

from trfnb.flow.grad_factor import GradFactor, Junction

nlp = spacy.blank("en")


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


def test_gradients_are_summed_by_their_factor():
    docs = [nlp("a b")]
    sent = []
    junction = Junction(docs, None, sent.append, {1: 0.5, 2: -1.0})
    first, second = np.ones((2, 3), "f"), np.full((2, 3), 2.0, "f")
    junction.add(1, 0.5, {0: first})
    junction.add(2, -1.0, {0: second, 1: first})
    squares = junction.settle()
    assert sent[0][0].tolist() == [[-1.5] * 3] * 2
    assert sent[0][1].tolist() == [[-1.0] * 3] * 2
    assert squares == pytest.approx(6 * 0.25 + 6 * 4 + 6)
    assert first.tolist() == [[1.0] * 3] * 2, "a listener's own array must not change"
    assert junction.settle() == 0.0, "a batch goes back once"
    assert len(sent) == 1


def test_other_docs_and_another_order_are_errors():
    a, b = nlp("a"), nlp("b")
    junction = Junction([a, b], None, None)
    junction.check([a, b], "transformer")
    with pytest.raises(ValueError, match="the same docs in another order"):
        junction.check([b, a], "transformer")
    with pytest.raises(ValueError, match="other docs"):
        junction.check([a, nlp("b")], "transformer")


def test_complete_once_all_expected_have_come():
    calls = []
    junction = Junction([], None, lambda parts: None, {1: 1.0, 2: 1.0, 3: 0.0})
    junction.when_complete = lambda: calls.append(1)
    junction.add(1, 1.0, {})
    assert not calls
    junction.add(2, 1.0, {})
    assert calls == [1]
