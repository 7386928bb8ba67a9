import numpy as np
import pytest
import torch
from thinc.api import NumpyOps

from trfnb.pretraining.layers import (
    DISTANCES,
    Prediction,
    binary,
    cross_entropy,
    mean_loss,
    one_hot,
)

RNG = np.random.default_rng(0)


def of(loss, predicted, targets):
    """Return the loss of a batch, and the gradient of its sum."""
    predicted, targets = (np.asarray(one, dtype="f") for one in (predicted, targets))
    if loss in (binary, cross_entropy, one_hot):
        targets = targets.astype("int64")
    summed, gradient = mean_loss(loss, NumpyOps(), [], Prediction(predicted, targets))
    return summed, gradient * len(predicted)


def test_distances():
    predicted, targets = RNG.normal(size=(4, 6)), RNG.normal(size=(4, 6))
    unit = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    cosines = (predicted * unit).sum(axis=1) / np.linalg.norm(predicted, axis=1)
    expected = {"cosine": (1 - cosines).sum(), "L2": ((predicted - unit) ** 2).sum() / 2}
    for name, loss in DISTANCES.items():
        summed, gradient = of(loss, predicted, targets)
        assert summed == pytest.approx(expected[name], abs=1e-5)
        assert gradient.all()
    np.testing.assert_allclose(gradient, predicted - unit, atol=1e-6)


def test_yes_or_no():
    logits, targets = RNG.normal(size=(5, 1)), np.array([[0.0], [1], [1], [0], [1]])
    chance = 1 / (1 + np.exp(-logits))
    summed, gradient = of(binary, logits, targets)
    assert summed == pytest.approx(-np.log(np.where(targets > 0, chance, 1 - chance)).sum())
    np.testing.assert_allclose(gradient, chance - targets, atol=1e-6)


def test_half_the_squared_distance_from_one_hot_rows():
    numbers, targets = RNG.normal(size=(3, 8)), np.array([[0, 3], [2, 2], [1, 1]])
    difference = numbers.reshape(3, 2, 4) - np.eye(4)[targets]
    summed, gradient = of(one_hot, numbers, targets)
    assert summed == pytest.approx((difference**2).sum() / 2, rel=1e-5)
    np.testing.assert_allclose(gradient, difference.reshape(3, 8), atol=1e-6)


def test_cross_entropy_of_two_choices():
    logits = np.log([[0.5, 0.25, 0.25, 0.1, 0.2, 0.7]])
    loss, gradient = of(cross_entropy, logits, np.array([[0, 2]]))
    assert loss == pytest.approx(np.log(2) - np.log(0.7))
    np.testing.assert_allclose(gradient, [[-0.5, 0.25, 0.25, 0.1, 0.2, -0.3]], atol=1e-6)


def test_the_gradient_is_that_of_the_mean():
    logits, targets = RNG.normal(size=(4, 1)).astype("f"), np.ones((4, 1), dtype="int64")
    summed, gradient = mean_loss(binary, NumpyOps(), [], Prediction(logits, targets))
    assert summed == pytest.approx(float(binary(torch.tensor(logits), torch.tensor(targets))))
    np.testing.assert_allclose(gradient, (1 / (1 + np.exp(-logits)) - 1) / 4, atol=1e-6)
