import numpy as np
import pytest

from trfnb.pretraining.layers import DISTANCES, binary, cross_entropy, one_hot

RNG = np.random.default_rng(0)


def slope(loss, predicted, targets, at, step=1e-4):
    up, down = predicted.copy(), predicted.copy()
    up[at] += step
    down[at] -= step
    return (loss(up, targets)[0] - loss(down, targets)[0]) / (2 * step)


@pytest.mark.parametrize("name", DISTANCES)
def test_gradients_of_distances_are_slopes(name):
    predicted, targets = RNG.normal(size=(4, 6)), RNG.normal(size=(4, 6))
    targets[2] = 0
    loss = DISTANCES[name]
    _, gradient = loss(predicted, targets)
    for at in np.ndindex(predicted.shape):
        assert gradient[at] == pytest.approx(slope(loss, predicted, targets, at), abs=1e-4)
    assert not gradient[2].any()


def test_the_gradient_of_a_yes_or_no_is_its_slope():
    logits, targets = RNG.normal(size=(5, 1)), np.array([[0.0], [1], [1], [0], [1]])
    _, gradient = binary(logits, targets)
    for at in np.ndindex(logits.shape):
        assert gradient[at] == pytest.approx(slope(binary, logits, targets, at), abs=1e-4)


@pytest.mark.parametrize("loss", [cross_entropy, one_hot])
def test_gradients_of_choices_are_slopes(loss):
    predicted, targets = RNG.normal(size=(3, 8)), np.array([[0, 3], [2, 2], [1, 1]])
    _, gradient = loss(predicted, targets)
    for at in np.ndindex(predicted.shape):
        assert gradient[at] == pytest.approx(slope(loss, predicted, targets, at), abs=1e-4)


def test_cross_entropy_of_certain_and_of_unknown_targets():
    logits = np.log([[0.5, 0.25, 0.25, 0.1, 0.2, 0.7]])
    loss, gradient = cross_entropy(logits, np.array([[0, -1]]))
    assert loss == pytest.approx(np.log(2))
    np.testing.assert_allclose(gradient, [[-0.5, 0.25, 0.25, 0, 0, 0]])
