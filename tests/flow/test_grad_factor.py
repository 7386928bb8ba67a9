"""Factors as numbers and schedules, and each policy on gradients to work out by hand."""

import itertools
import math
import pickle
import sys
from copy import deepcopy
from itertools import islice

import numpy as np
import pytest
import torch
from spacy.util import registry

from trfnb.flow.grad_factor import (
    GradFactor,
    TaskGradients,
    chosen_factors,
    frozen_then_warmup,
    piecewise_constant,
)
from trfnb.flow.gradients import gram


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


@pytest.mark.parametrize("value", ["high", None, object(), True, [0.5, "x"], ["x"], []])
def test_not_a_number(value):
    with pytest.raises(TypeError, match="grad_factor expected a finite number or a schedule"):
        GradFactor(value).step()


@pytest.mark.parametrize("value", [math.nan, -math.inf, [0.5, math.inf]])
def test_not_finite(value):
    with pytest.raises(ValueError, match="grad_factor expected a finite number, got"):
        GradFactor(value).step()


def test_frozen_then_warming_up():
    assert list(islice(frozen_then_warmup(2, 3), 7)) == [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert list(islice(frozen_then_warmup(0, 0, -0.5), 2)) == [-0.5, -0.5]
    with pytest.raises(ValueError, match="frozen\n  Input should be greater than or equal to 0"):
        frozen_then_warmup(frozen=-1)


def test_piecewise_constant():
    assert list(islice(piecewise_constant([0, 2, 3], [1, 0.5, 0]), 6)) == [1, 1, 0.5, 0, 0, 0]


@pytest.mark.parametrize("starts", [[1, 2], [0, 0], [0], [0, 1, 2]])
def test_starts_that_do_not_fit_the_factors(starts):
    with pytest.raises(ValueError, match="rise from 0, got starts="):
        piecewise_constant(starts, [1.0, 2.0])


FROM_TORCHJD = ["pcgrad", "mgda", "cagrad", "upgrad"]


def task_gradients(*gradients, losses=None):
    names = tuple("abc"[: len(gradients)])
    products = gram([{0: np.array([g], "f")} for g in gradients])
    return TaskGradients(
        names, products, np.full(len(names), math.nan) if losses is None else losses
    )


def policy(name, **settings):
    if name in FROM_TORCHJD:
        pytest.importorskip("torchjd")
    return registry.resolve({"one": {"@balancers": f"trfnb.{name}.v1", **settings}})["one"]


def aggregate(factors, *gradients):
    return sum(f * np.array(g) for f, g in zip(factors, gradients, strict=True))


def test_equal_norms():
    strong, weak = [6.0, 0.0], [0.0, 2.0]
    factors = policy("equal_norms")(task_gradients(strong, weak))
    np.testing.assert_allclose(factors * [6, 2], [4, 4])


def test_equal_norms_remember():
    smooth = policy("equal_norms", smoothing=0.5)
    smooth(task_gradients([4.0, 0.0], [0.0, 4.0]))
    np.testing.assert_allclose(smooth(task_gradients([4.0, 0.0], [0.0, 8.0])), [5 / 4, 5 / 6])


def test_uncertainty_gives_less_to_a_noisy_task():
    learn = policy("uncertainty", rate=0.1)
    for _ in range(300):
        factors = learn(task_gradients([1.0, 0], [0, 1.0], losses=np.array([0.5, 2.0])))
    # At rest σ² is the loss itself, so that the weights are as 1/0.5 to 1/2.
    assert factors[0] / factors[1] == pytest.approx(4, rel=0.01)
    assert factors.mean() == pytest.approx(1)


def test_loss_ratio_gives_more_to_a_task_that_stands_still():
    weigh = policy("loss_ratio", temperature=1.0, window=2)
    for losses in ([4.0, 1.0], [4.0, 1.0], [2.0, 1.0]):
        assert weigh(task_gradients([1.0], [1.0], losses=np.array(losses))).tolist() == [1, 1]
    factors = weigh(task_gradients([1.0], [1.0], losses=np.array([2.0, 1.0])))
    assert factors[1] / factors[0] == pytest.approx(math.exp(1 - 0.5))


def test_pcgrad_by_hand():
    a, b = np.array([1.0, 0.0]), np.array([-1.0, 1.0])
    factors = policy("pcgrad")(task_gradients(a, b))
    by_hand = (a - (a @ b) / (b @ b) * b) + (b - (a @ b) / (a @ a) * a)
    np.testing.assert_allclose(aggregate(factors, a, b), by_hand, atol=1e-6)


def test_mgda_is_the_shortest_vector_between_both():
    a, b = np.array([2.0, 0.0]), np.array([0.0, 1.0])
    found = aggregate(policy("mgda")(task_gradients(a, b)), a, b)
    np.testing.assert_allclose(found, 2 * np.array([0.4, 0.8]), atol=1e-2)


@pytest.mark.parametrize("name", ["mgda", "upgrad"])
def test_no_task_gets_worse(name):
    a, b = np.array([1.0, 0.0]), np.array([-3.0, 1.0])
    found = aggregate(policy(name)(task_gradients(a, b)), a, b)
    assert found @ a >= -1e-3
    assert found @ b >= -1e-3
    assert (a + b) @ a < 0, "the plain sum would harm one"


def test_cagrad_at_zero_is_the_mean():
    factors = policy("cagrad", c=0.0)(task_gradients([1.0, 0.0], [-1.0, 2.0]))
    np.testing.assert_allclose(factors, [1, 1], atol=1e-3)


@pytest.mark.parametrize("name", ["pcgrad", "upgrad", "equal_norms"])
def test_nothing_to_balance_leaves_the_sum(name):
    factors = policy(name)(task_gradients([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]))
    np.testing.assert_allclose(factors, [1, 1, 1], atol=1e-3)


@pytest.mark.parametrize("name", [*FROM_TORCHJD, "equal_norms", "uncertainty", "loss_ratio"])
def test_zero_gradients_and_unknown_losses(name):
    """As of a head at its start, whose output weights are zero."""
    weigh = policy(name)
    for gradients in (([0.0, 0], [0, 0]), ([0.0, 0], [0, 3.0]), ([1.0, 0], [-1.0, 0])):
        factors = np.asarray(weigh(task_gradients(*gradients)))
        assert np.isfinite(factors).all()
    pickle.loads(pickle.dumps(weigh))  # a component takes its policy to other processes
    assert np.isfinite(weigh(task_gradients([1e-6, 0.0], [0, 1e6]))).all()


def test_pcgrads_order_is_random_and_repeats():
    crowd = task_gradients([1.0, 0, 0], [-1.0, 0.5, 0], [-0.5, -1.0, 0.2])
    before = torch.random.get_rng_state()
    first, second = policy("pcgrad"), policy("pcgrad")
    factors = [tuple(first(crowd)) for _ in range(8)]
    assert [tuple(second(crowd)) for _ in range(8)] == factors
    assert len(set(factors)) > 1
    assert (torch.random.get_rng_state() == before).all(), "dropout draws from torch's own state"


@pytest.mark.parametrize("returned", [[1.0], [1.0, math.nan], 1.0])
def test_a_policy_that_returns_something_else(returned):
    with pytest.raises(ValueError, match="expected to return 2 finite factors, one each for a, b"):
        chosen_factors(lambda gradients: returned, ["a", "b"], np.eye(2), {})


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("equal_norms", "smoothing", 1.0),
        ("loss_ratio", "temperature", 0),
        ("loss_ratio", "window", 0),
    ],
)
def test_wrong_settings(name, setting, value):
    with pytest.raises(ValueError, match=f"{setting}\n  Input should be .* input_value={value}"):
        policy(name, **{setting: value})


def test_without_torchjd(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ImportError, match=r"pip install 'trfnb\[balance\]'"):
        registry.balancers.get("trfnb.upgrad.v1")()
