"""How far predictions are from their targets, with the gradient of that.

Each takes (n, width) predictions and their targets and returns the sum over rows and its
gradient; rows without a target count for nothing.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from thinc.types import Floats2d

Loss = Callable[[Any, Any], tuple[float, Floats2d]]


def categorical(classes: int) -> Loss:
    """Cross-entropy in nats of several choices a row, each between ``classes``.

    Predictions are probabilities (n, choices * classes), targets numbers (n, choices), negative
    where there is none; the gradient is that of the logits below the softmax.
    """

    def loss(probabilities: Any, targets: Any) -> tuple[float, Floats2d]:
        n, choices = targets.shape
        gradient = probabilities.reshape(n, choices, classes).copy()
        known = targets >= 0
        row, choice = known.nonzero()
        at = (row, choice, targets[known])
        total = -float(np.log(np.maximum(gradient[at], 1e-12)).sum())
        gradient[at] -= 1
        gradient[~known] = 0
        return total, gradient.reshape(n, choices * classes)

    return loss


def one_hot(classes: int) -> Loss:
    """Half the squared distance from one-hot rows; arguments as for `categorical`."""

    def loss(numbers: Any, targets: Any) -> tuple[float, Floats2d]:
        n, choices = targets.shape
        difference = numbers.reshape(n, choices, classes).copy()
        difference[(*np.indices(targets.shape), targets)] -= 1
        return float((difference**2).sum() / 2), difference.reshape(n, choices * classes)

    return loss


def binary(logits: Any, targets: Any) -> tuple[float, Floats2d]:
    """Cross-entropy in nats of one yes or no a row: logits (n, 1), targets (n, 1) of 0 and 1."""
    total = float((np.logaddexp(0, logits) - targets * logits).sum())
    return total, (1 / (1 + np.exp(-logits)) - targets).astype("f")


def cosine(predicted: Any, targets: Any) -> tuple[float, Floats2d]:
    """One minus the cosine."""
    a, b, known = _norm(predicted), _norm(targets), _known(targets)
    direction, wanted = predicted / a, targets / b
    near = (direction * wanted).sum(axis=1, keepdims=True)
    gradient = -(wanted - near * direction) / a * known
    return float(((1 - near) * known).sum()), gradient.astype("f")


def squared(predicted: Any, targets: Any) -> tuple[float, Floats2d]:
    """Half the squared distance to the target made one long, so that no target weighs more."""
    known = _known(targets)
    difference = (predicted - targets / _norm(targets)) * known
    return float((difference**2).sum() / 2), difference.astype("f")


def von_mises_fisher(predicted: Any, targets: Any) -> tuple[float, Floats2d]:
    r"""Negative log-likelihood of the target's direction, regularised.

    The prediction's direction is the distribution's mean, its length the concentration. After
    Kumar and Tsvetkov (2019, https://arxiv.org/abs/1812.04616): the normaliser by their closed
    bound :math:`\sqrt{b^2 + κ^2} - a \log(a + \sqrt{b^2 + κ^2})` with :math:`a = m/2 - 1` and
    :math:`b = m/2 + 1`; 0.02 times the length and 0.1 times the agreement regularise it.
    """
    m, known = predicted.shape[1], _known(targets)
    a, b, length = m / 2 - 1, m / 2 + 1, _norm(predicted)
    wanted = targets / _norm(targets)
    root = np.sqrt(b**2 + length**2)
    agreement = (predicted * wanted).sum(axis=1, keepdims=True)
    # Less its value at length 0, for numbers of a readable size; the gradient is the same.
    normaliser = root - a * np.log(a + root) - (b - a * np.log(a + b))
    value = normaliser + 0.02 * length - 0.1 * agreement
    slope = length / root * (1 - a / (a + root)) + 0.02
    gradient = (slope * predicted / length - 0.1 * wanted) * known
    return float((value * known).sum()), gradient.astype("f")


LOSSES: dict[str, Loss] = {"cosine": cosine, "L2": squared, "vmf": von_mises_fisher}


def vector_loss(name: str) -> Loss:
    """Return a distance between vectors by its name.

    Raises:
        ValueError: no such distance.
    """
    if name not in LOSSES:
        raise ValueError(f"loss expected one of {', '.join(LOSSES)}, got {name!r}.")
    return LOSSES[name]


def _norm(rows: Any) -> Any:
    return np.maximum(np.sqrt((rows**2).sum(axis=1, keepdims=True)), 1e-8)


def _known(targets: Any) -> Any:
    return (targets != 0).any(axis=1, keepdims=True)
