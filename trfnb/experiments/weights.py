"""The weights of a pipeline: how they start, how they are stepped, how they are kept.

They live in Thinc parameters and in torch modules; everything here treats both alike.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import registry
from thinc.api import Model, Optimizer, to_numpy
from thinc.optimizers import FloatOrSeq

from trfnb.pretraining.weights import parameters

Snapshot = dict[tuple[str, str, str], Any]

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")


@registry.optimizers("trfnb.Adam.v1")
class EncoderAdam(Optimizer):
    """Thinc's Adam with smaller steps for torch modules than for the task models on top of them.

    A task model starts from nothing and needs large steps; a pretrained encoder forgets what it
    knows if it takes them too. Rates by part and by layer are from Howard and Ruder, "Universal
    Language Model Fine-tuning for Text Classification", 2018, https://arxiv.org/abs/1801.06146.

    Args:
        learn_rate: step size of the task models and of encoders written in Thinc.
        encoder_factor: what the step size of torch modules is multiplied by.
        layer_decay: what the rate of each encoder layer is, as a part of the rate of the layer
            above it; the embeddings stand below the first layer. 1.0 gives all the same rate.
        layers: how many layers the encoder has; needed if ``layer_decay`` is not 1.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the second moment's root.
        L2: weight decay or penalty.
        L2_is_weight_decay: which of the two.
        grad_clip: largest norm of one array's gradient.
        use_averages: keep averaged weights for evaluation.

    Raises:
        ValueError: ``layer_decay`` is given without ``layers``.
    """

    __slots__ = ["encoder_factor", "layer_decay", "layers"]

    def __init__(
        self,
        learn_rate: FloatOrSeq = 0.002,
        encoder_factor: float = 0.05,
        layer_decay: float = 1.0,
        layers: int | None = None,
        beta1: FloatOrSeq = 0.9,
        beta2: FloatOrSeq = 0.999,
        eps: FloatOrSeq = 1e-8,
        L2: FloatOrSeq = 0.01,
        L2_is_weight_decay: bool = True,
        grad_clip: FloatOrSeq = 1.0,
        use_averages: bool = False,
    ) -> None:
        if layer_decay != 1.0 and not layers:
            raise ValueError(
                f"trfnb.Adam.v1: layer_decay = {layer_decay} needs `layers`, the number of the "
                f"encoder's layers, got {layers}; 6 for MiniLM, 12 for most base models."
            )
        super().__init__(
            learn_rate,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            L2=L2,
            L2_is_weight_decay=L2_is_weight_decay,
            grad_clip=grad_clip,
            use_averages=use_averages,
        )
        self.encoder_factor = encoder_factor
        self.layer_decay = layer_decay
        self.layers = layers or 0

    def __call__(
        self, key: tuple[int, str], weights: Any, gradient: Any, *, lr_scale: float = 1.0
    ) -> Any:
        """Return the stepped weights and a cleared gradient."""
        return super().__call__(key, weights, gradient, lr_scale=lr_scale * self.scale_of(key))

    def scale_of(self, key: tuple[int, str]) -> float:
        """Return what the rate of a parameter is multiplied by; fused steps ask for it."""
        name = key[1]
        if "." not in name:  # Thinc calls its own parameters "W", "b", "E"; torch's have a path
            return 1.0
        layer = _LAYER.search(name)
        rest = self.layers if "embed" in name else 0
        below = self.layers - 1 - int(layer.group(1)) if layer else rest
        return self.encoder_factor * self.layer_decay**below


@registry.callbacks("trfnb.initialize_frozen.v1")
def frozen_initializer(names: list[str]) -> Callable[[Language], None]:
    """Build the callback for ``[initialize.before_init]`` that initialises the named components.

    ``spacy train`` initialises only what it will train. A pretrained encoder loads its weights
    here, a tok2vec draws random ones; neither changes later. The callback raises a ValueError if
    the pipeline lacks one of the components.
    """
    return partial(_initialize_frozen, names=names)


def _initialize_frozen(nlp: Language, names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in nlp.component_names]
    if unknown:
        raise ValueError(
            f"trfnb.initialize_frozen.v1: no components {unknown} in the pipeline "
            f"{nlp.component_names}; name components that [nlp.pipeline] lists."
        )
    doc = Doc(nlp.vocab, words=["One", "sentence", "sets", "the", "shapes", "."])
    for name in names:
        pipe: Any = nlp.get_pipe(name)
        pipe.initialize(lambda: [Example(doc, doc.copy())], nlp=nlp)


def arrays(nlp: Language) -> Iterator[tuple[tuple[str, str, str], Any]]:
    """Yield each weight array or tensor once, however many components refer to it.

    Disabled components are included. The key is the component's name, the layer's place in its
    model, and the weight's name.
    """
    seen = set()
    for component, pipe in nlp.components:
        model = getattr(pipe, "model", None)
        for name, known, value in parameters(model) if isinstance(model, Model) else ():
            if known not in seen:
                seen.add(known)
                place, _, param = name.partition(".")
                yield (component, place, param), value


def snapshot(nlp: Language) -> Snapshot:
    """Copy every weight, on the device where it is."""
    return {
        key: value.detach().clone() if isinstance(value, torch.Tensor) else value.copy()
        for key, value in arrays(nlp)
    }


def restore(nlp: Language, saved: Snapshot) -> None:
    """Write a snapshot's values into the pipeline's own arrays.

    Raises:
        ValueError: the pipeline's weights are not those that were saved.
    """
    present = dict(arrays(nlp))
    if {k: v.shape for k, v in present.items()} != {k: v.shape for k, v in saved.items()}:
        raise ValueError(
            f"Cannot restore: the snapshot has {len(saved)} weights, the pipeline {len(present)}, "
            "and their names or shapes differ. Restore into the pipeline that the snapshot was "
            "taken from, before adding labels or components."
        )
    with torch.no_grad():
        for key, value in present.items():
            value[...] = saved[key]


def fingerprint(nlp: Language, component: str | None = None) -> str:
    """Return the SHA-256 of all weights, of the pipeline or of one component.

    Two pipelines of the same make have the same one if, and only if, all bits are the same.
    """
    digest = sha256()
    for key, value in arrays(nlp):
        if component is None or key[0] == component:
            array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
            digest.update(f"{key[0]} {key[2]} {array.shape} {array.dtype}".encode())
            digest.update(to_numpy(array).tobytes())
    return digest.hexdigest()


def count(nlp: Language) -> int:
    """Count the trained or pretrained numbers of a pipeline; shared weights count once."""
    # Of arrays and tensors alike, nbytes over itemsize is the number of elements.
    return sum(value.nbytes // value.itemsize for _, value in arrays(nlp))
