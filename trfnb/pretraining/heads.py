"""A head on a tok2vec layer: the model that is trained, and the losses that train it.

``model(docs)`` hides words, computes the layer, and predicts only at the places that the loss
looks at; ``model.attrs["loss"]`` compares, as ``spacy pretrain`` expects.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import LayerNorm, Linear, Maxout, Model, chain, reduce_mean, zero_init
from thinc.types import Floats2d

from trfnb.pipe.model import token_vector_model
from trfnb.pretraining.masking import Hidden
from trfnb.pretraining.tok2vec import row_encoder, use_fast_gemm

# Predictions (n, nO) and their targets -> the loss summed over rows, and its gradient. A row
# without a target adds nothing to either.
Loss = Callable[[Any, Any], tuple[float, Floats2d]]
# Docs and a random generator -> the words that are shown, and which of all words are predicted.
Task = Callable[..., tuple[list[list[str]], Hidden]]
# Docs, the words shown, and the rows that are predicted -> (rows, …) targets.
Targets = Callable[[Sequence[Doc], list[list[str]], NDArray[np.int64]], Any]


class Prediction(NamedTuple):
    """What a head says, (n, nO), and what it should say, as the loss takes it."""

    output: Any
    targets: Any


def objective_model(
    vocab: Vocab, tok2vec: Model, head: Model, task: Task, targets: Targets, loss: Loss
) -> Model[list[Doc], Prediction]:
    """Put a head on a layer.

    Args:
        vocab: The pipeline's.
        tok2vec: The layer, initialised; a shared transformer too.
        head: From (n, width) vectors to (n, nO) predictions.
        task: Hides words and says where to predict.
        targets: Makes the targets of those places.
        loss: Compares predictions and targets.
    """
    # A shared transformer's rows are averaged.
    shared = tok2vec.name == "transformer_model"
    layer = token_vector_model(tok2vec, reduce_mean()) if shared else tok2vec
    if layer.has_dim("nO") is not True:
        layer.initialize()
    head.initialize(X=layer.ops.alloc2f(1, layer.get_dim("nO")))
    use_fast_gemm(layer)
    use_fast_gemm(head)
    return Model(
        "pretraining",
        _predict,
        layers=[layer, head],
        refs={"tok2vec": tok2vec, "output_layer": head},
        attrs={
            "loss": partial(mean_loss, loss),
            "task": task,
            "targets": targets,
            "row_encoder": row_encoder(layer, vocab),
        },
    )


def mean_loss(
    loss: Loss, ops: Any, docs: Sequence[Doc], prediction: Prediction
) -> tuple[float, Floats2d]:
    """Return the loss summed over a batch's targets, and the gradient of its mean."""
    summed, gradient = loss(ops.to_numpy(prediction.output), prediction.targets)
    return summed, ops.asarray2f(gradient / np.float32(max(len(gradient), 1)))


def _predict(
    model: Model[list[Doc], Prediction], docs: Sequence[Doc], is_train: bool
) -> tuple[Prediction, Callable[[Floats2d], list[Doc]]]:
    words, predicted = model.attrs["task"](docs, rng=step_rng())
    rows = np.flatnonzero(predicted)
    vectors, backprop_encoder = model.attrs["row_encoder"](docs, words, rows, is_train)
    output, backprop_head = model.layers[1](vectors, is_train)

    def backprop(d_output: Floats2d) -> list[Doc]:
        backprop_encoder(backprop_head(d_output))
        return []

    return Prediction(output, model.attrs["targets"](docs, words, rows)), backprop


def step_rng() -> np.random.Generator:
    """Return a generator that follows from Python's random state, which `fix_random_seed` sets."""
    return np.random.default_rng(random.getrandbits(64))


def hidden_layer_head(width: int, pieces: int, nO: int) -> Model[Floats2d, Floats2d]:
    """Return a head of one hidden layer, as spaCy's objectives have them; zero at first."""
    hidden: Any = chain(Maxout(nO=width, nP=pieces), LayerNorm(nI=width))
    return chain(hidden, Linear(nO=nO, nI=width, init_W=zero_init))


def cross_entropy(logits: Any, targets: Any) -> tuple[float, Floats2d]:
    """Cross-entropy in nats of several choices a row, each between the same number of classes.

    Args:
        logits: (n, choices * classes).
        targets: (n, choices) numbers of classes, negative where there is none.
    """
    n, choices = targets.shape
    gradient = logits.reshape(n, choices, -1)
    gradient = np.exp(gradient - gradient.max(axis=-1, keepdims=True))
    gradient /= gradient.sum(axis=-1, keepdims=True)
    known = targets >= 0
    at = (*known.nonzero(), targets[known])
    total = -float(np.log(np.maximum(gradient[at], 1e-12)).sum())
    gradient[at] -= 1
    gradient[~known] = 0
    return total, gradient.reshape(logits.shape)


def one_hot(numbers: Any, targets: Any) -> tuple[float, Floats2d]:
    """Half the squared distance from one-hot rows; arguments as for `cross_entropy`."""
    n, choices = targets.shape
    difference = numbers.reshape(n, choices, -1).copy()
    difference[(*np.indices(targets.shape), targets)] -= 1
    return float((difference**2).sum() / 2), difference.reshape(numbers.shape)


def binary(logits: Any, targets: Any) -> tuple[float, Floats2d]:
    """Cross-entropy in nats of one yes or no a row: logits (n, 1), targets (n, 1) of 0 and 1."""
    total = float((np.logaddexp(0, logits) - targets * logits).sum())
    return total, (1 / (1 + np.exp(-logits)) - targets).astype("f")


def cosine(predicted: Any, targets: Any) -> tuple[float, Floats2d]:
    """One minus the cosine."""
    length, known = _norm(predicted), (targets != 0).any(axis=1, keepdims=True)
    direction, wanted = predicted / length, targets / _norm(targets)
    near = (direction * wanted).sum(axis=1, keepdims=True)
    gradient = -(wanted - near * direction) / length * known
    return float(((1 - near) * known).sum()), gradient.astype("f")


def squared(predicted: Any, targets: Any) -> tuple[float, Floats2d]:
    """Half the squared distance to the target made one long, so that no target weighs more."""
    known = (targets != 0).any(axis=1, keepdims=True)
    difference = (predicted - targets / _norm(targets)) * known
    return float((difference**2).sum() / 2), difference.astype("f")


DISTANCES: dict[str, Loss] = {"cosine": cosine, "L2": squared}


def _norm(rows: Any) -> Any:
    return np.maximum(np.sqrt((rows**2).sum(axis=1, keepdims=True)), 1e-8)
