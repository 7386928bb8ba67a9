"""Train a config on a corpus: the updates of ``spacy train``, kept in memory and measured."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter
from typing import Any, Literal, Protocol

import pandas as pd
from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.training import Example
from spacy.training.loop import subdivide_batch
from spacy.util import load_model_from_config, registry
from spacy.vocab import Vocab
from thinc.api import Config, Optimizer, fix_random_seed
from tqdm.auto import tqdm

from trfnb.experiments.weights import Snapshot, restore, snapshot

Split = Literal["train", "dev"]
Best = tuple[float, int, Snapshot, dict[str, Any]]


class HasExamples(Protocol):
    """What training needs of a corpus; `trfnb.corpora.Corpus` has it."""

    def examples(self, split: Split, vocab: Vocab) -> Sequence[Example]:
        """Return a split's Examples."""
        ...


@dataclass(frozen=True)
class Trained:
    """A trained pipeline and how it got there.

    Attributes:
        nlp: the pipeline, with the weights of its best evaluation.
        history: one row an update: ``step`` (from 1), ``epoch``, ``words`` and ``seconds`` of that
            update alone, a ``loss_NAME`` a component; and, where the pipeline was evaluated after
            the update, ``score`` and every numeric score by its name, else NaN.
        best_step: the update whose weights were kept.
        score: its weighted score.
        scores: all scores of that evaluation.
    """

    nlp: Language
    history: pd.DataFrame
    best_step: int
    score: float
    scores: dict[str, Any]


def initialize(config: Config, examples: Callable[[Vocab], Sequence[Example]]) -> Language:
    """Build and initialise a pipeline in the order, and with the random state, of ``spacy train``.

    Frozen components get their weights from the config's ``[initialize.before_init]``.
    """
    fix_random_seed(config.interpolate()["training"]["seed"])
    nlp = load_model_from_config(config.copy(), auto_fill=True)
    settings = settings_of(nlp)
    nlp._link_components()
    with nlp.select_pipes(disable=settings["frozen_components"]):
        nlp.initialize(lambda: examples(nlp.vocab), sgd=settings["optimizer"])
    return nlp


def train(
    config: Config,
    corpus: HasExamples,
    *,
    seed: int | None = None,
    progress: bool = True,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    before_step: Callable[[Language, int], bool] | None = None,
) -> Trained:
    """Train until the config's limits or its patience end; keep the best evaluation's weights.

    Evaluates on the dev split every ``eval_frequency`` updates and once at the end.

    Args:
        config: a complete config; it is not changed.
        corpus: where the train and dev Examples come from.
        seed: replaces the config's.
        progress: show a bar of updates with the latest and the best score.
        on_step: called with each row of the history as it is made.
        before_step: called before each update with the pipeline and the number of updates made;
            False ends the training there, and what was reached is evaluated.

    Raises:
        ValueError: the train or dev split is empty, or nothing in the config ends the training.
    """
    config = config.copy()
    if seed is not None:
        config["system"]["seed"] = config["training"]["seed"] = seed
    nlp = initialize(config, lambda vocab: corpus.examples("train", vocab))
    settings = settings_of(nlp)
    fix_random_seed(settings["seed"])
    dev = list(corpus.examples("dev", nlp.vocab))
    batches = epochs(
        list(corpus.examples("train", nlp.vocab)), settings["batcher"], settings["max_epochs"]
    )
    _check(settings, dev)
    rows: list[dict[str, Any]] = []
    best: Best | None = None
    dropouts = settings["dropout"]
    dropouts = repeat(dropouts) if isinstance(dropouts, float | int) else iter(dropouts)
    bar = tqdm(total=settings["max_steps"] or None, unit=" updates", disable=not progress)
    last = False
    upcoming = next(batches, None)
    while upcoming is not None and not last:
        epoch, batch = upcoming
        step = len(rows) + 1
        if before_step is not None and not before_step(nlp, len(rows)):
            break
        if settings["before_update"]:
            settings["before_update"](nlp, {"step": step - 1, "epoch": epoch})
        row = update(nlp, batch, settings, next(dropouts))
        row = {"step": step, "epoch": epoch, **row}
        upcoming = next(batches, None)
        last = upcoming is None or step == settings["max_steps"]
        if last or step % settings["eval_frequency"] == 0:
            best = _evaluated(row, nlp, dev, settings, best, bar)
            last |= 0 < settings["patience"] <= step - best[1]
        rows.append(row)
        bar.update()
        if on_step is not None:
            on_step(row)
    if rows and "score" not in rows[-1]:  # ended from outside
        best = _evaluated(rows[-1], nlp, dev, settings, best, bar)
    bar.close()
    if best is None:
        raise ValueError(
            "train: no update was made: the train split gave no batch, or the training was ended."
        )
    restore(nlp, best[2])
    return Trained(nlp, pd.DataFrame(rows), best[1], best[0], best[3])


def _evaluated(
    row: dict[str, Any],
    nlp: Language,
    dev: list[Example],
    settings: dict[str, Any],
    best: Best | None,
    bar: Any,
) -> Best:
    """Add the scores of now to a history's row; return the better of now and the best."""
    with _averages(nlp, settings["optimizer"]):
        score, scores = evaluate(nlp, dev, settings["score_weights"])
        if best is None or score > best[0]:
            best = (score, row["step"], snapshot(nlp), scores)
    row |= {"score": score} | {k: v for k, v in scores.items() if _is_number(v)}
    bar.set_postfix(score=f"{score:.3f}", best=f"{best[0]:.3f}")
    return best


def epochs(
    examples: list[Example], batcher: Callable[..., Any], max_epochs: int
) -> Iterator[tuple[int, list[Example]]]:
    """Yield (epoch, batch), shuffling anew each epoch; endlessly if ``max_epochs`` is 0."""
    epoch = 0
    while examples and (max_epochs < 1 or epoch < max_epochs):
        random.shuffle(examples)
        for batch in batcher(examples):
            yield epoch, list(batch)
        epoch += 1


def update(
    nlp: Language, batch: list[Example], settings: dict[str, Any], dropout: float
) -> dict[str, Any]:
    """Make one update: all tasks' gradients first, then one step of every component.

    A shared body is thus stepped once, on the sum of what its listeners returned.
    """
    frozen = settings["frozen_components"]
    losses: dict[str, float] = {}
    start = perf_counter()
    for part in subdivide_batch(batch, settings["accumulate_gradient"]):
        nlp.update(
            part,
            drop=dropout,
            losses=losses,
            sgd=False,  # type: ignore[arg-type]  # as spaCy's own loop: gradients only
            exclude=frozen,
            annotates=settings["annotating_components"],
        )
    for name, pipe in nlp.pipeline:
        if name not in frozen and getattr(pipe, "is_trainable", False):
            pipe.finish_update(settings["optimizer"])  # type: ignore[attr-defined]
    settings["optimizer"].step_schedules()
    return {
        "words": sum(len(example) for example in batch),
        "seconds": perf_counter() - start,
        **{f"loss_{name}": float(loss) for name, loss in losses.items()},
    }


def evaluate(
    nlp: Language, examples: Sequence[Example], weights: dict[str, float | None]
) -> tuple[float, dict[str, Any]]:
    """Return the weighted score and all scores; the weights need not sum to 1."""
    scores = nlp.evaluate(examples)
    numbers = {name: value for name, value in scores.items() if _is_number(value)}
    return sum(numbers.get(name, 0.0) * (weight or 0.0) for name, weight in weights.items()), scores


def settings_of(nlp: Language) -> dict[str, Any]:
    """Resolve the pipeline's ``[training]`` block: a fresh optimiser, batcher and schedules."""
    resolved = registry.resolve(nlp.config.interpolate()["training"], schema=ConfigSchemaTraining)
    return dict(resolved)


def _averages(nlp: Language, optimizer: Optimizer) -> Any:
    return nlp.use_params(optimizer.averages) if optimizer.averages else nullcontext()


def _check(settings: dict[str, Any], dev: list[Example]) -> None:
    problems = []
    if not dev:
        problems.append("the dev split is empty: give the corpus a dev part to score on")
    if not (settings["max_steps"] or settings["max_epochs"] > 0 or settings["patience"]):
        problems.append("nothing ends the training: set max_steps, max_epochs or patience")
    if problems:
        raise ValueError("Cannot train:\n- " + "\n- ".join(problems))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
