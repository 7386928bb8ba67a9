"""Train one pipeline with many settings of its factors, over seeds."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from spacy.language import Language

from trfnb.experiments.measures import task_scores
from trfnb.experiments.pipelines import build_config
from trfnb.experiments.training import HasExamples, train
from trfnb.flow.gradient_log import GradientLog

Setting = Mapping[str, Any]

POLICIES = ("equal_norms", "uncertainty", "loss_ratio", "upgrad", "pcgrad", "mgda", "cagrad")


def dial(task: str, factors: Sequence[float]) -> dict[str, Setting]:
    """Return settings that turn one task's factor and leave the others at 1."""
    return {f"{task} × {factor:g}": {"grad_factor": {task: factor}} for factor in factors}


def schedules(updates: int) -> dict[str, Setting]:
    """Return settings whose factors change in the course of a run of some updates."""
    quarter = max(1, updates // 4)
    up = {"@schedules": "trfnb.thaw.v1", "frozen": quarter, "warmup": quarter}
    down = {
        "@schedules": "warmup_linear.v1",
        "initial_rate": 1.0,
        "warmup_steps": 0,
        "total_steps": updates,
    }
    return {"frozen, then up": {"grad_factor": up}, "down to 0": {"grad_factor": down}}


def policies(names: Sequence[str] = POLICIES) -> dict[str, Setting]:
    """Return settings that leave all factors to a balancing policy."""
    return {name: {"balance": name} for name in names}


def compare_factors(
    corpus: HasExamples,
    settings: Mapping[str, Setting],
    *,
    tasks: Sequence[str],
    body: str = "tok2vec",
    seeds: Sequence[int] = (0, 1, 2),
    options: Mapping[str, Any] | None = None,
) -> Iterator[tuple[dict[str, Any], GradientLog]]:
    """Train every setting with every seed, seed by seed.

    Args:
        corpus: Trained and scored on.
        settings: By name, what `build_config` gets beside the options.
        tasks: See there.
        body: See there.
        seeds: One run each.
        options: The same for all runs.

    Yields:
        A row a run, with ``setting``, ``seed``, ``score``, each task's score and the ``seconds``
        of its updates; and what met at the shared output in it.
    """
    for seed, (name, setting) in product(seeds, settings.items()):
        config = build_config(tasks, body, seed=seed, **{**(options or {}), **setting})
        trained = train(config, corpus, progress=False)
        row = {"setting": name, "seed": seed, "score": trained.score}
        row |= task_scores(trained.scores, trained.nlp.pipe_names)
        row["seconds"] = float(trained.history["seconds"].sum())
        yield row, log_of(trained.nlp)


def log_of(nlp: Language) -> GradientLog:
    """Return what met at the shared output of a pipeline's body in training.

    Raises:
        ValueError: no component logs its listeners' gradients.
    """
    for _, pipe in nlp.pipeline:
        if isinstance(log := getattr(pipe, "gradient_log", None), GradientLog):
            return log
    raise ValueError(
        f"log_of expected a pipeline with a shared body, got the components {nlp.pipe_names}."
    )
