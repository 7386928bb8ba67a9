"""Heads of one hidden layer, as spaCy's objectives have them."""

from collections.abc import Callable
from typing import Any

from thinc.api import LayerNorm, Linear, Maxout, Model, Softmax_v2, chain, zero_init
from thinc.types import Floats2d

Head = Model[Floats2d, Floats2d]


def hidden_layer(width: int, pieces: int) -> Head:
    """Maxout and layer norm."""
    layer: Any = chain(Maxout(nO=width, nP=pieces), LayerNorm(nI=width))
    return layer


def linear_head(width: int, pieces: int, nO: int) -> Head:
    """Predict numbers; zero at first."""
    head: Any = chain(hidden_layer(width, pieces), Linear(nO=nO, nI=width, init_W=zero_init))
    return head


def choices_head(width: int, pieces: int, choices: int, classes: int) -> Head:
    """Predict probabilities of several choices at once, each between the same classes.

    Thinc's ``MultiSoftmax`` is meant for this, but gives the linear layer's numbers as they are.
    """
    head: Any = chain(linear_head(width, pieces, choices * classes), _softmax_each(classes))
    return head


def _softmax_each(classes: int) -> Head:
    """Make every ``classes`` columns probabilities; gradients are those of the numbers before."""

    def forward(
        model: Head, X: Floats2d, is_train: bool
    ) -> tuple[Floats2d, Callable[[Floats2d], Floats2d]]:
        rows: Any = X
        parts = rows.reshape(len(rows), -1, classes)
        return model.ops.softmax(parts).reshape(rows.shape), lambda d_logits: d_logits

    return Model("softmax_each", forward)


def softmax_head(width: int, pieces: int, nO: int) -> Head:
    """Predict probabilities; all alike at first."""
    head: Any = chain(hidden_layer(width, pieces), Softmax_v2(nO=nO, nI=width, init_W=zero_init))
    return head
