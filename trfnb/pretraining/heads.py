"""Heads of one hidden layer, as spaCy's objectives have them."""

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


def softmax_head(width: int, pieces: int, nO: int) -> Head:
    """Predict probabilities; all alike at first."""
    head: Any = chain(hidden_layer(width, pieces), Softmax_v2(nO=nO, nI=width, init_W=zero_init))
    return head
