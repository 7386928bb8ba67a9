"""Layer choice, and a learned mix of all layers."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

from thinc.api import Model
from thinc.types import Floats2d

Layer = int | Literal["mix"]


def scalar_mix(
    model: Model, rows: Mapping[int, Floats2d]
) -> tuple[Floats2d, Callable[[Floats2d], dict[int, Floats2d]]]:
    """Return ``gamma * sum(softmax(mix)[l] * rows[l])`` over all layers.

    Each task learns which layers it needs (Peters et al., 2018, Deep contextualized word
    representations, https://arxiv.org/abs/1802.05365, eq. 1).

    Args:
        model: Holds the parameters ``mix`` (layers,) and ``gamma`` (1,).
        rows: Layer number -> (n, width), every layer from the embeddings' output on.

    Returns:
        (n, width), and a callback that adds to the parameters' gradients and returns those of the
        layers.
    """
    ops = model.ops
    weights: Any = model.get_param("mix")
    gamma: Any = cast(Any, model.get_param("gamma"))[0]
    shares: Any = ops.softmax(weights[None])[0]
    mixed: Any = sum(share * rows[layer] for layer, share in enumerate(shares))

    def backprop(d_mixed: Floats2d) -> dict[int, Floats2d]:
        pull = ops.xp.asarray([(d_mixed * its).sum(axis=(0, 1)) for _, its in sorted(rows.items())])
        model.inc_grad("gamma", ops.asarray1f([(shares * pull).sum()]))
        model.inc_grad("mix", ops.asarray1f(gamma * shares * (pull - (shares * pull).sum())))
        return {layer: gamma * share * d_mixed for layer, share in enumerate(shares)}

    return cast(Floats2d, gamma * mixed), backprop
