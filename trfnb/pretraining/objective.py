"""A body and a head that predicts what was hidden, as one model that spaCy's own loop trains too.

``model(docs)`` hides words, computes the body, and predicts at the places that the loss looks at,
and only there. ``model.attrs["loss"]`` is what ``spacy pretrain`` calls.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model
from thinc.types import Floats2d

from trfnb.pretraining.corruption import step_rng
from trfnb.pretraining.losses import Loss
from trfnb.pretraining.probing import body_of, token_vectors
from trfnb.pretraining.products import accelerate
from trfnb.pretraining.task import MakeTask, Targets, Task

Objective = Callable[[Vocab, Model], Model]


@dataclass(frozen=True)
class Prediction:
    """What a head says, and what it should say.

    Attributes:
        output: (n, nO); None where this process has nothing to tell.
        targets: As the loss takes them.
        total: Targets of the whole batch, of which this may be one process's part.
    """

    output: Any
    targets: Any
    total: int


def objective_model(
    vocab: Vocab, tok2vec: Model, head: Model, make_task: MakeTask, targets: Targets, loss: Loss
) -> Model[list[Doc], Prediction]:
    """Put a head on a body.

    Args:
        vocab: The pipeline's.
        tok2vec: The body, initialised; a shared transformer too.
        head: From (n, width) vectors to (n, nO) predictions.
        make_task: Hides words and says where to look.
        targets: Makes the targets of those places.
        loss: Compares predictions and targets.
    """
    body = token_vectors(tok2vec)
    model: Model[list[Doc], Prediction] = Model(
        "pretraining",
        _forward,
        init=_init,
        layers=[body, head],
        refs={"tok2vec": tok2vec, "output_layer": head},
        attrs={
            "loss": partial(batch_loss, loss),
            "share": (0, 1),
            "vocab": vocab,
            "make_task": make_task,
            "targets": targets,
        },
    )
    return model


def batch_loss(
    loss: Loss, ops: Any, docs: Any, prediction: Prediction
) -> tuple[float, Floats2d | None]:
    """Return the summed loss, and the gradient of its mean over the whole batch's targets."""
    if prediction.output is None:
        return 0.0, None
    summed, gradient = loss(ops.to_numpy(prediction.output), prediction.targets)
    return summed, ops.asarray2f(gradient / np.float32(max(prediction.total, 1)))


def _init(model: Model[list[Doc], Prediction], X: Any = None, Y: Any = None) -> None:
    body, head = model.layers
    if not body.has_dim("nO"):
        body.initialize(X=X)
    head.initialize(X=model.ops.alloc2f(1, body.get_dim("nO")))
    accelerate(model)
    model.attrs["body"] = body_of(body, model.attrs["vocab"])


def _forward(
    model: Model[list[Doc], Prediction], docs: Sequence[Doc], is_train: bool
) -> tuple[Prediction, Callable[[Floats2d], list[Doc]]]:
    number, of = model.attrs["share"]
    task: Task = model.attrs["make_task"](docs, step_rng())
    ends = np.cumsum([len(doc) for doc in docs])
    own = range(number, len(docs), of)
    parts = [task.looked_at[ends[i] - len(docs[i]) : ends[i]] for i in own]
    rows = np.flatnonzero(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)
    total = int(task.looked_at.sum())
    if not len(rows):
        return Prediction(None, None, total), lambda d_output: []
    mine, words = [docs[i] for i in own], [task.words[i] for i in own]
    vectors, backprop_body = model.attrs["body"](mine, words, rows, is_train)
    output, backprop_head = model.layers[1](vectors, is_train)
    targets = model.attrs["targets"](mine, words, rows)

    def backprop(d_output: Floats2d) -> list[Doc]:
        backprop_body(backprop_head(d_output))
        return []

    return Prediction(output, targets, total), backprop
