"""One update, and the dev loss."""

from dataclasses import dataclass

import numpy as np
from spacy.tokens import Doc
from thinc.api import fix_random_seed

from trfnb.pretraining.finished import averaged
from trfnb.pretraining.parallel import Share, sum_gradients
from trfnb.pretraining.setup import Setup


@dataclass(frozen=True)
class Updated:
    """What an update did.

    Attributes:
        words: Words of the batch.
        loss: Summed over the targets that this process looked at.
        targets: Targets of the batch.
        learn_rate: Used for it.
    """

    words: int
    loss: float
    targets: int
    learn_rate: float


def update(setup: Setup, docs: list[Doc], step: int, share: Share) -> Updated:
    """Make update ``step``; all that is random in it follows from the seed and that number."""
    model, optimizer = setup.model, setup.optimizer
    model.attrs["share"] = (share.number, share.of)
    fix_random_seed(_seed(setup.settings.seed or 0, step))
    prediction, backprop = model.begin_update(docs)
    loss, gradient = model.attrs["loss"](model.ops, docs, prediction)
    backprop(gradient)
    sum_gradients(model, share)
    given, warm = optimizer.learn_rate, setup.settings.warmup_steps
    used = given * min(1.0, step / warm) if warm else given
    optimizer.learn_rate = used
    model.finish_update(optimizer)
    optimizer.learn_rate = given
    optimizer.step_schedules()
    words = sum(len(doc) for doc in docs)
    return Updated(words, float(loss), getattr(prediction, "total", words), used)


def dev_loss(setup: Setup) -> float | None:
    """Return the mean loss on the text held out, always with the same masks; None without it."""
    model = setup.model
    if not setup.dev:
        return None
    model.attrs["share"] = (0, 1)
    total, targets = 0.0, 0
    with averaged(model, setup.optimizer):
        for number, batch in enumerate(setup.stream.batcher(setup.dev)):
            docs = list(batch)
            fix_random_seed(_seed(setup.settings.seed or 0, -number))
            prediction = model.predict(docs)
            loss, _ = model.attrs["loss"](model.ops, docs, prediction)
            total += float(loss)
            targets += getattr(prediction, "total", sum(map(len, docs)))
    return total / max(targets, 1)


def _seed(seed: int, number: int) -> int:
    """Return a seed for one update (or, below 1, one batch of the dev text)."""
    given = [seed, abs(number), int(number < 1)]
    return int(np.random.SeedSequence(given).generate_state(1)[0])
