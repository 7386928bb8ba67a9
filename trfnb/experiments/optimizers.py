"""Adam with a slower rate for pretrained weights than for the task models on top of them."""

from typing import Any

from spacy.util import registry
from thinc.api import Optimizer
from thinc.optimizers import FloatOrSeq


class EncoderAdam(Optimizer):
    """Adam whose steps on torch modules are scaled by a factor.

    A task model starts from nothing and needs large steps; a pretrained encoder forgets what it
    knows if it takes them too. Discriminative rates are from Howard and Ruder, "Universal Language
    Model Fine-tuning for Text Classification", 2018.
    """

    __slots__ = ["encoder_factor"]

    def __init__(self, learn_rate: FloatOrSeq, *, encoder_factor: float, **settings: Any) -> None:
        super().__init__(learn_rate, **settings)
        self.encoder_factor = encoder_factor

    def __call__(
        self, key: tuple[int, str], weights: Any, gradient: Any, *, lr_scale: float = 1.0
    ) -> Any:
        """Return the stepped weights and a cleared gradient."""
        scale = lr_scale * self.scale_of(key)
        return super().__call__(key, weights, gradient, lr_scale=scale)

    def scale_of(self, key: tuple[int, str]) -> float:
        """Return what the rate of a parameter is multiplied by; fused steps ask for it."""
        # Thinc calls its own parameters "W", "b", "E"; torch's have their module's path in front.
        return self.encoder_factor if "." in key[1] else 1.0


@registry.optimizers("trfnb.Adam.v1")
def configure_adam(
    learn_rate: FloatOrSeq = 0.002,
    encoder_factor: float = 0.05,
    beta1: FloatOrSeq = 0.9,
    beta2: FloatOrSeq = 0.999,
    eps: FloatOrSeq = 1e-8,
    L2: FloatOrSeq = 0.01,
    L2_is_weight_decay: bool = True,
    grad_clip: FloatOrSeq = 1.0,
    use_averages: bool = False,
) -> Optimizer:
    """Build an `EncoderAdam`; the other settings are those of Thinc's ``Adam.v1``.

    Args:
        learn_rate: step size of the task models and of bodies written in Thinc.
        encoder_factor: what torch modules' step size is multiplied by.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the second moment's root.
        L2: weight decay or penalty.
        L2_is_weight_decay: which of the two.
        grad_clip: largest norm of one array's gradient.
        use_averages: keep averaged weights for evaluation.
    """
    return EncoderAdam(
        learn_rate,
        encoder_factor=encoder_factor,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        L2=L2,
        L2_is_weight_decay=L2_is_weight_decay,
        grad_clip=grad_clip,
        use_averages=use_averages,
    )
