"""What factors at a shared encoder do: scores under many settings, and what is forgotten."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, product
from typing import Any

import pandas as pd
from spacy.language import Language
from spacy.training import Example
from spacy.training.loop import create_train_batches
from thinc.api import Config, fix_random_seed
from tqdm.auto import tqdm

from trfnb.experiments.configs import HEADS, build_config, with_sharing
from trfnb.experiments.measures import starved, task_scores
from trfnb.experiments.training import HasExamples, initialize, settings_of, train, updates
from trfnb.experiments.weights import restore, snapshot
from trfnb.flow.gradients import GradientLog

Setting = Mapping[str, Any]
POLICIES = ("equal_norms", "uncertainty", "loss_ratio", "upgrad", "pcgrad", "mgda", "cagrad")


def factor_settings(
    task: str, factors: Sequence[float], steps: int, policies: Sequence[str] = POLICIES
) -> dict[str, Setting]:
    """Return settings to compare, by name, for `compare_factors`.

    All factors at 1 and at 0; one task's factor at each of some values, the others at 1; factors
    that change in a run of some steps; and the policies that choose factors themselves.
    """
    quarter = max(1, steps // 4)
    up = {"@schedules": "trfnb.frozen_then_warmup.v1", "frozen": quarter, "warmup": quarter}
    down = {
        "@schedules": "warmup_linear.v1",
        "initial_rate": 1.0,
        "warmup_steps": 0,
        "total_steps": steps,
    }
    turned = {f"{task} × {f:g}": {"grad_factor": {task: f}} for f in factors if f != 1.0}
    return {
        "all × 1": {},
        "all × 0": {"grad_factor": 0.0},
        **turned,
        "frozen, then up": {"grad_factor": up},
        "down to 0": {"grad_factor": down},
        **{name: {"balance": name} for name in policies},
    }


def compare_factors(
    corpus: HasExamples,
    settings: Mapping[str, Setting],
    *,
    tasks: Sequence[str],
    encoder: str = "tok2vec",
    seeds: Sequence[int] = (0, 1, 2),
    budget: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Iterator[tuple[dict[str, Any], GradientLog]]:
    """Train every setting with every seed, seed by seed.

    Args:
        corpus: Trained and scored on.
        settings: By name, what `build_config` gets beside the options; ``sharing`` are groups
            of tasks, for `with_sharing`.
        tasks: See there.
        encoder: See there.
        seeds: One run each.
        budget: Of each run; see `train`. Left out, the options' limits hold.
        options: The same for all runs.

    Yields:
        One row per run, with ``setting``, ``seed``, the weighted dev ``score``, each task's score
        on test (dev where there is none), the ``seconds`` of its updates, and what shows that it
        was ``starved``; and the log of the gradients at the shared output, of the first group's
        where there are groups.
    """
    for seed, (name, setting) in product(seeds, settings.items()):
        given = {"seed": seed, **(options or {}), **setting}
        groups = given.pop("sharing", None)
        config = build_config(tasks, encoder, **given)
        config = with_sharing(config, groups) if groups else config
        trained = train(config, corpus, budget=budget, progress=False)
        row = {
            "setting": name,
            "seed": seed,
            "score": trained.score,
            **task_scores(trained.nlp, trained.scores),
            "seconds": float(trained.history["seconds"].sum()),
            "starved": starved(trained, corpus),
        }
        yield row, log_of(trained.nlp)


def log_of(nlp: Language) -> GradientLog:
    """Return the log of the gradients that met at a pipeline's shared encoder in training.

    Raises:
        ValueError: no component logs its listeners' gradients.
    """
    logs = [log for _, pipe in nlp.pipeline if (log := getattr(pipe, "gradient_log", None))]
    if not logs:
        raise ValueError(
            f"log_of: expected a shared encoder that was trained, got {nlp.pipe_names}."
        )
    return logs[0]


def forgetting(
    config: Config,
    corpus: HasExamples,
    *,
    first: str,
    second: str,
    factors: Iterable[float] = (0.0, 0.1, 0.3, 1.0),
    replays: Iterable[float] = (0.0, 0.2),
    steps: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Learn one task, then another on the same encoder, and score the first before and after.

    The train split is halved: the first task learns from one half, the second from the other.
    While the second learns, the first task's head rests, and the encoder follows the second
    task's gradient by a factor. A replay shows the first task again some of its own sentences
    before each of those updates, which trains its head and the encoder too: rehearsal, after
    Robins, "Catastrophic forgetting, rehearsal and pseudorehearsal", 1995,
    https://doi.org/10.1080/09540099550039318.

    Args:
        config: A complete config with both tasks listening to one encoder.
        corpus: With the annotation of both.
        first: The task learnt first.
        second: The task learnt second.
        factors: The second task's ``grad_factor``, one run each.
        replays: Sentences shown again for each new one, one run each; 0 is none.
        steps: Updates of each of the two trainings.
        seed: Of weights, order and dropout.
        progress: Whether to show a bar of runs.

    Returns:
        One row per run: ``factor``, ``replay``, ``seed``, the first task's score ``before`` and
        ``after`` the second was learnt, their difference ``forgotten``, and the ``second`` task's
        score, all on dev.
    """
    nlp = initialize(config, lambda vocab: corpus.examples("train", vocab), seed)
    train_split = list(corpus.examples("train", nlp.vocab))
    dev = list(corpus.examples("dev", nlp.vocab))
    random.Random(seed).shuffle(train_split)
    memory, new = train_split[: len(train_split) // 2], train_split[len(train_split) // 2 :]
    _learn(nlp, memory, steps, seed, resting=second)
    learnt, before = snapshot(nlp), _score(nlp, first, dev)
    rows = []
    for replay, factor in tqdm(list(product(replays, factors)), unit=" runs", disable=not progress):
        restore(nlp, learnt)
        for node in nlp.get_pipe(second).model.walk():  # type: ignore[attr-defined]
            if hasattr(node, "grad_factor"):
                node.grad_factor = factor
        _learn(nlp, new, steps, seed, resting=first, memory=memory, share=replay)
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


# Train one task and the encoder; the resting task learns from what is replayed to it only.
def _learn(
    nlp: Language,
    examples: list[Example],
    steps: int,
    seed: int,
    *,
    resting: str,
    memory: Sequence[Example] = (),
    share: float = 0.0,
) -> None:
    fix_random_seed(seed)
    settings = settings_of(nlp)
    order = random.Random(seed)
    again = chain.from_iterable(iter(lambda: order.sample(list(memory), len(memory)), []))
    others = [name for name in nlp.pipe_names if name in HEADS and name != resting]

    # Add the gradients of old sentences to those of the update that follows.
    def replayed() -> Iterator[tuple[int, list[Example]]]:
        batches = create_train_batches(nlp, lambda _: examples, settings["batcher"], 0)
        for epoch, batch in islice(batches, steps):
            batch = list(batch)
            if share:
                old = list(islice(again, max(1, round(share * len(batch)))))
                nlp.update(old, drop=settings["dropout"], sgd=False, exclude=others)  # type: ignore[arg-type]
                nlp.get_pipe(resting).finish_update(settings["optimizer"])  # type: ignore[attr-defined]
            yield epoch, batch

    list(updates(nlp, replayed(), settings, exclude=[resting]))


def _score(nlp: Language, task: str, dev: Sequence[Example]) -> float:
    return float(nlp.evaluate(list(dev))[HEADS[task].score] or 0.0)
