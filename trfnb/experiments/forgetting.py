"""What a trained shared encoder forgets when it learns a second task, and what a replay keeps."""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
from spacy.language import Language
from spacy.training import Example
from thinc.api import Config, fix_random_seed
from tqdm.auto import tqdm

from trfnb.experiments.heads import HEADS
from trfnb.experiments.training import HasExamples, epochs, initialize, settings_of
from trfnb.experiments.weights import restore, snapshot


def forgetting(
    config: Config,
    corpus: HasExamples,
    *,
    first: str,
    second: str,
    factors: Iterable[float] = (0.0, 0.1, 0.3, 1.0),
    replays: Iterable[float] = (0.0, 0.2),
    updates: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Learn one task, then another on the same encoder, and score the first before and after.

    The train split is halved: the first task learns from one half, the second from the other.
    While the second learns, the first task's head rests, and the encoder follows the second
    task's gradient by a factor. A replay shows the first task again some of its own sentences at
    each of those updates, which trains its head and the encoder too: rehearsal, after Robins,
    "Catastrophic forgetting, rehearsal and pseudorehearsal", 1995,
    https://doi.org/10.1080/09540099550039318.

    Args:
        config: A complete config with both tasks listening to one body.
        corpus: With both layers.
        first: The task learnt first.
        second: The task learnt second.
        factors: The second task's ``grad_factor``, one run each.
        replays: Sentences shown again for each new one, one run each; 0 is none.
        updates: Of each of the two trainings.
        seed: Of weights, order and dropout.
        progress: Whether to show a bar of runs.

    Returns:
        A row a run: ``factor``, ``replay``, ``seed``, the first task's score ``before`` and
        ``after`` the second was learnt, their difference ``forgotten``, and the ``second`` task's
        score.

    Raises:
        ValueError: the config lacks one of the tasks.
    """
    if missing := [task for task in (first, second) if task not in config["components"]]:
        have = list(config["components"])
        raise ValueError(f"forgetting expected a config with {missing}, got the components {have}.")
    config = config.copy()
    config["system"]["seed"] = config["training"]["seed"] = seed
    nlp = initialize(config, lambda vocab: corpus.examples("train", vocab))
    train, dev = list(corpus.examples("train", nlp.vocab)), list(corpus.examples("dev", nlp.vocab))
    random.Random(seed).shuffle(train)
    memory, new = train[: len(train) // 2], train[len(train) // 2 :]
    _learn(nlp, first, memory, updates, seed, resting=second)
    learnt, before = snapshot(nlp), _score(nlp, first, dev)
    settings = [(factor, replay) for replay in replays for factor in factors]
    rows = []
    for factor, replay in tqdm(settings, unit=" runs", disable=not progress):
        restore(nlp, learnt)
        _turn(nlp, second, factor)
        replayed = memory if replay else []
        _learn(nlp, second, new, updates, seed, resting=first, memory=replayed, share=replay)
        after = _score(nlp, first, dev)
        rows.append(
            {
                "factor": factor,
                "replay": replay,
                "seed": seed,
                "before": before,
                "after": after,
                "forgotten": before - after,
                "second": _score(nlp, second, dev),
            }
        )
    return pd.DataFrame(rows)


def _learn(
    nlp: Language,
    task: str,
    examples: Sequence[Example],
    updates: int,
    seed: int,
    *,
    resting: str,
    memory: Sequence[Example] = (),
    share: float = 0.0,
) -> None:
    """Train one task and the body; the resting task learns from what is replayed to it only."""
    fix_random_seed(seed)
    settings = settings_of(nlp)
    batches = epochs(list(examples), settings["batcher"], 0)
    again = _samples(memory, seed)
    for _ in range(updates):
        batch = next(batches)[1]
        drop = settings["dropout"]
        nlp.update(batch, drop=drop, sgd=False, exclude=[resting])  # type: ignore[arg-type]
        if memory:
            replayed = [next(again) for _ in range(max(1, round(share * len(batch))))]
            nlp.update(replayed, drop=drop, sgd=False, exclude=[task])  # type: ignore[arg-type]
        for name, pipe in nlp.pipeline:
            if name != resting or memory:
                pipe.finish_update(settings["optimizer"])  # type: ignore[attr-defined]
        settings["optimizer"].step_schedules()


def _samples(memory: Sequence[Example], seed: int) -> Iterator[Example]:
    order = random.Random(seed)
    while memory:
        yield from order.sample(list(memory), len(memory))


def _turn(nlp: Language, task: str, factor: float) -> None:
    pipe: Any = nlp.get_pipe(task)
    for node in pipe.model.walk():
        if hasattr(node, "grad_factor"):
            node.grad_factor = factor


def _score(nlp: Language, task: str, dev: Sequence[Example]) -> float:
    return float(nlp.evaluate(list(dev))[HEADS[task].score] or 0.0)
