import numpy as np
import pytest
from thinc.api import CosineDistance

from trfnb.pretraining.losses import LOSSES, binary, categorical, cosine, vector_loss

RNG = np.random.default_rng(0)


def slope(loss, predicted, targets, at, step=1e-4):
    up, down = predicted.copy(), predicted.copy()
    up[at] += step
    down[at] -= step
    return (loss(up, targets)[0] - loss(down, targets)[0]) / (2 * step)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_distances_are_slopes(name):
    predicted, targets = RNG.normal(size=(4, 6)), RNG.normal(size=(4, 6))
    targets[2] = 0
    loss = vector_loss(name)
    _, gradient = loss(predicted, targets)
    for at in np.ndindex(predicted.shape):
        assert gradient[at] == pytest.approx(slope(loss, predicted, targets, at), abs=1e-4)
    assert not gradient[2].any()


def test_the_gradient_of_a_yes_or_no_is_its_slope():
    logits, targets = RNG.normal(size=(5, 1)), np.array([[0.0], [1], [1], [0], [1]])
    _, gradient = binary(logits, targets)
    for at in np.ndindex(logits.shape):
        assert gradient[at] == pytest.approx(slope(binary, logits, targets, at), abs=1e-4)


def test_cross_entropy_of_several_choices():
    logits = RNG.normal(size=(3, 8))

    def loss(logits, targets):
        each = np.exp(logits.reshape(3, 2, 4))
        return categorical(4)((each / each.sum(-1, keepdims=True)).reshape(3, 8), targets)

    targets = np.array([[0, 3], [2, -1], [1, 1]])
    _, gradient = loss(logits, targets)
    for at in np.ndindex(logits.shape):
        assert gradient[at] == pytest.approx(slope(loss, logits, targets, at), abs=1e-4)
    assert not gradient[1, 4:].any()


def test_cosine_points_where_thincs_points():
    predicted, targets = (RNG.normal(size=(4, 6)).astype("f") for _ in range(2))
    ours = cosine(predicted, targets)[1]
    theirs = CosineDistance(normalize=False, ignore_zeros=True).get_grad(predicted, targets)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_von_mises_fisher_is_least_in_the_direction_of_the_target():
    target = RNG.normal(size=(1, 8))
    wrong, right = RNG.normal(size=(1, 8)), target
    loss = LOSSES["vmf"]
    assert loss(right * 9, target)[0] < loss(wrong * 9, target)[0]


def test_an_unknown_distance_is_refused():
    with pytest.raises(ValueError, match="expected one of cosine, L2, vmf"):
        vector_loss("euclid")
