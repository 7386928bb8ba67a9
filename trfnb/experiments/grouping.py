"""Which tasks should share an encoder: affinity by lookahead, from one joint training.

After Fifty et al., "Efficiently Identifying Task Groupings for Multi-Task Learning" (TAG), 2021,
https://arxiv.org/abs/2109.04617.
"""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from spacy.language import Language
from spacy.training import Example
from thinc.api import Config, fix_random_seed

from trfnb.experiments.configs import with_sharing
from trfnb.experiments.search import rates_of
from trfnb.experiments.training import HasExamples, initialize, train
from trfnb.experiments.tuner import kept_random_state
from trfnb.experiments.weights import restore, snapshot


def affinity(
    config: Config,
    corpus: HasExamples,
    *,
    budget: str | None = None,
    every: int = 10,
    sentences: int = 32,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure how much a step for one task helps each task, in a training of all together.

    Every few updates a copy of the pipeline looks ahead on some sentences: it steps the encoder
    for one task alone, and compares each task's loss before and after, dropout left out. The
    affinity of *i* to *j* is 1 − (*j*'s loss after *i*'s step) / (*j*'s loss before): above 0 the
    step helps. Each weight moves by the encoder's rate towards the sign of its gradient, as in
    Adam's first step, so that a task with a large loss has no longer arm than the others. The
    training itself is the one that `train` makes without this.

    Args:
        config: a complete config whose components listen to one encoder; it is not changed.
        corpus: trained on.
        budget: see `train`; left out, the config's limits hold.
        every: updates between two looks.
        sentences: to look at, drawn anew from the train split for each look.
        seed: of the training and of what is drawn.
        progress: show a bar of updates.

    Returns:
        One row per look and pair: ``step``, the number of updates before it; ``of``, whose step;
        ``on``, whose loss; and the ``affinity``, NaN where the loss before was 0.

    Raises:
        ValueError: as `with_sharing` and `train`.
    """
    config = with_sharing(config, "shared")
    for component in config["components"].values():
        if component.get("factory") == "tok2vec":  # its listeners have no factor
            component["factory"] = "trfnb_tok2vec"
    probe = initialize(config, lambda vocab: corpus.examples("train", vocab), seed)
    examples, order = list(corpus.examples("train", probe.vocab)), random.Random(seed)
    rate = rates_of(config)["encoder"]
    rows: list[dict[str, Any]] = []

    def look(nlp: Language, made: int) -> bool:
        if made and made % every == 0:
            batch = order.sample(examples, min(sentences, len(examples)))
            with kept_random_state():
                restore(probe, snapshot(nlp))
                rows.extend({"step": made, **row} for row in lookahead(probe, batch, rate))
        return True

    train(config, corpus, budget=budget, seed=seed, test=False, progress=progress, before_step=look)
    return pd.DataFrame(rows, columns=["step", "of", "on", "affinity"])


def lookahead(nlp: Language, batch: Sequence[Example], rate: float) -> Iterator[dict[str, Any]]:
    """Step the encoder for each task alone, and compare all losses; the weights are put back.

    Args:
        nlp: a pipeline with one shared encoder of this package. Its factors are lost.
        batch: what to look at.
        rate: how far each weight of the encoder moves.

    Yields:
        ``of``, ``on`` and ``affinity`` (see `affinity`) for each pair, a task with itself as well.
    """
    shared: Any = next(pipe for _, pipe in nlp.pipeline if getattr(pipe, "listener_map", None))
    tasks, weights = list(shared.listener_map), snapshot(nlp)
    before = _losses(nlp, shared, batch)
    for task in tasks:
        _losses(nlp, shared, batch, of=task)
        shared.finish_update(partial(_step, rate))
        after = _losses(nlp, shared, batch)
        for other in tasks:
            gain = 1 - after[other] / before[other] if before[other] else np.nan
            yield {"of": task, "on": other, "affinity": gain}
        restore(nlp, weights)


def best_groups(affinities: pd.DataFrame, encoders: int) -> list[list[str]]:
    """Return the grouping of tasks with the highest affinity.

    A task gains the mean affinity of its group's other tasks to it, and nothing where it is
    alone; the grouping with the highest sum is found by trying all.

    Args:
        affinities: as `affinity` gives them; looks are averaged.
        encoders: the most groups.

    Returns:
        The groups, for `trfnb.experiments.configs.with_sharing`.
    """
    means = affinities.pivot_table(index="of", columns="on", values="affinity", sort=False)
    tasks = list(dict.fromkeys(affinities["of"]))
    gains = means.reindex(index=tasks, columns=tasks).fillna(0.0).to_numpy()

    def gain(group: list[int]) -> float:
        within = gains[np.ix_(group, group)]
        return float((within.sum() - within.trace()) / max(1, len(group) - 1))

    possible = (
        [np.flatnonzero(np.equal(labels, label)).tolist() for label in dict.fromkeys(labels)]
        for labels in product(range(encoders), repeat=len(tasks))
    )
    best = max(possible, key=lambda groups: sum(map(gain, groups)))
    return [[tasks[place] for place in group] for group in best]


# Return all losses, or leave one task's gradient at the shared encoder.
def _losses(nlp: Language, shared: Any, batch: Sequence[Example], of: str = "") -> dict[str, float]:
    for task, layers in shared.listener_map.items():
        for layer in layers:
            layer.grad_factor = float(task == of)
    losses: dict[str, float] = {}
    fix_random_seed(0)  # parsers cut long sentences at random
    others = [task for task in shared.listener_map if of and task != of]
    nlp.update(batch, drop=0.0, sgd=False, losses=losses, exclude=others)  # type: ignore[arg-type]
    for name, pipe in nlp.pipeline:
        if name in shared.listener_map:
            pipe.finish_update(partial(_step, 0.0))  # type: ignore[attr-defined]
    return losses


def _step(rate: float, key: Any, values: Any, gradient: Any) -> tuple[Any, Any]:
    values -= rate * np.sign(gradient)
    gradient[...] = 0.0
    return values, gradient
