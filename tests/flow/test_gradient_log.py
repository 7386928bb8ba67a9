import math

import numpy as np
import pytest

from trfnb.flow.gradient_log import ABSENT, AT_ZERO, MEASURED, GradientLog, gram

X = np.array([[3.0, 0.0], [0.0, 4.0]], "f")  # norm 5
Y = np.array([[-3.0, 0.0], [0.0, 0.0]], "f")  # norm 3, cosine -9/15 with X


def test_products_of_gradients():
    np.testing.assert_array_equal(gram([{0: X}, {0: Y}]), [[25, -9], [-9, 9]])


def test_several_layers_add_up_and_strangers_do_not_meet():
    found = gram([{1: X, 2: Y}, {2: Y}, {3: X}])
    np.testing.assert_array_equal(found, [[34, 9, np.nan], [9, 9, np.nan], [np.nan, np.nan, 25]])


def test_without_pairs_only_norms():
    np.testing.assert_array_equal(gram([{0: X}, {0: Y}], pairs=False), [[25, np.nan], [np.nan, 9]])


def test_no_gradient_at_all():
    assert gram([]).shape == (0, 0)
    np.testing.assert_array_equal(gram([{}]), [[0.0]])


def logged(*batches, close=True):
    log = GradientLog()
    for factors, pulls in batches:
        log.add(list(factors), factors, list(pulls), gram([{0: p} for p in pulls.values()]))
        if close:
            log.close()
    log.close()
    return log


def test_table_by_hand():
    table = logged(({"a": 1.0, "b": 2.0}, {"b": Y, "a": X})).table()
    assert list(table["listener"]) == ["a", "b"]
    assert list(table["raw_norm"]) == [5, 3]
    assert list(table["norm"]) == [5, 6]
    total = X + 2 * Y
    expected = [(X * total).sum() / (total**2).sum(), (2 * Y * total).sum() / (total**2).sum()]
    np.testing.assert_allclose(table["share"], expected)
    assert table["share"].sum() == pytest.approx(1)
    assert set(table["state"]) == {MEASURED}


def test_cosine_is_that_of_the_raw_gradients():
    conflicts = logged(({"a": 1.0, "b": -2.0}, {"a": X, "b": Y})).conflicts()
    assert conflicts.values.tolist() == [[1, "a", "b", pytest.approx(-0.6)]]


def test_what_was_not_computed_is_said():
    table = logged(({"a": 1.0, "b": 0.0, "c": 1.0}, {"a": X})).table().set_index("listener")
    assert list(table["state"]) == [MEASURED, AT_ZERO, ABSENT]
    assert math.isnan(table["raw_norm"]["b"])
    assert table["norm"]["b"] == 0
    assert math.isnan(table["norm"]["c"])
    assert table["share"]["a"] == 1


def test_parts_of_a_step_add_up():
    log = logged(
        ({"a": 1.0, "b": 1.0}, {"a": X, "b": Y}),
        ({"a": 0.5, "b": 1.0}, {"a": 2 * X, "b": X}),
        close=False,
    )
    (step,) = log.steps
    stacked = gram([{0: np.concatenate([X, 2 * X])}, {0: np.concatenate([Y, X])}])
    np.testing.assert_allclose(step.gram, stacked)
    assert step.factors == (0.75, 1.0)
    assert step.varied


def test_an_empty_log_has_its_columns():
    log = GradientLog()
    log.close()
    assert {"step", "listener", "factor", "raw_norm", "norm", "share"} <= set(log.table())
    assert list(log.conflicts()) == ["step", "first", "second", "cosine"]
