"""Train a config on a corpus: the updates of ``spacy train``, kept in memory and measured.

spaCy's own loop makes the updates. Evaluations, the end and, with a budget, the learn rate are
decided here: the dev split chooses the weights, the test split is scored once at the end.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, Protocol

import pandas as pd
from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.training import Example
from spacy.training.loop import create_train_batches, train_while_improving
from spacy.util import get_sourced_components, load_model_from_config, registry
from spacy.vocab import Vocab
from thinc.api import Config, NumpyOps, fix_random_seed, get_current_ops, use_ops
from tqdm.auto import tqdm

from trfnb.experiments.configs import peak_rate
from trfnb.experiments.weights import Snapshot, restore, snapshot

WARM_UP = 0.1  # of a budget
MOST, FEWEST = 10, 4  # evaluations in a budget


class HasExamples(Protocol):
    """What training needs of a corpus; `trfnb.corpora.Corpus` has it.

    A corpus with a test split also has a true ``test`` attribute.
    """

    def examples(self, split: Any, vocab: Vocab) -> Sequence[Example]:
        """Return the Examples of a split: ``"train"``, ``"dev"`` or ``"test"``."""


@dataclass(frozen=True)
class Trained:
    """A trained pipeline and how it got there.

    Attributes:
        nlp: the pipeline, with the weights of its best evaluation on dev.
        history: one row per update: ``step`` (from 1), ``epoch``, ``words`` and ``seconds`` of
            that update alone, a ``loss_NAME`` per component; and, where the pipeline was evaluated
            after the update, ``score`` and every numeric dev score by its name, else NaN.
        best_step: the update whose weights were kept.
        score: its weighted dev score.
        dev_scores: all dev scores of that evaluation.
        scores: all scores on the test split; those on dev where the corpus has no test split.
    """

    nlp: Language
    history: pd.DataFrame
    best_step: int
    score: float
    dev_scores: dict[str, Any]
    scores: dict[str, Any]


def train(
    config: Config,
    corpus: HasExamples,
    *,
    budget: str | None = None,
    seed: int | None = None,
    test: bool = True,
    progress: bool = True,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    before_step: Callable[[Language, int], bool] | None = None,
) -> Trained:
    """Train until the config's limits and patience, or a budget, end; keep the best weights.

    Without a budget the pipeline is evaluated on dev every ``eval_frequency`` updates and at the
    end. With one, the budget replaces ``max_steps``, ``max_epochs``, ``patience`` and the learn
    rate's schedule: the rate rises linearly during the first tenth to the config's highest rate
    and falls to 0 at the end. Much is gained while it falls, also after evaluations that did not
    rise, so nothing ends a budget early. There are ten evaluations, or down to four where they
    would read more than half of the words that are trained on. The pipeline's config then holds
    the same recipe in updates, for ``spacy train``.

    Args:
        config: a complete config; it is not changed.
        corpus: where the Examples come from.
        budget: what the run may take, such as ``"2 min"``, ``"90 s"`` or ``"60000 words"``. Time
            includes evaluations; words make runs that can be repeated exactly.
        seed: replaces the config's.
        test: score the test split at the end; False leaves it untouched, as a search must.
        progress: show a bar of updates with the latest and the best score.
        on_step: called with each row of the history as it is made.
        before_step: called before each update with the pipeline and the number of updates made;
            False ends the training there, and what was reached is evaluated.

    Raises:
        ValueError: the train or dev split is empty, nothing ends the training, or the budget
            cannot be read.
    """
    nlp = initialize(config, lambda vocab: corpus.examples("train", vocab), seed)
    settings = settings_of(nlp)
    fix_random_seed(settings["seed"])
    dev = list(corpus.examples("dev", nlp.vocab))
    max_steps, max_epochs = settings["max_steps"], max(0, settings["max_epochs"])
    problems = [] if dev else ["the dev split is empty: give the corpus a dev part to score on"]
    if not (budget or max_steps or max_epochs or settings["patience"]):
        problems.append("nothing ends the training: set max_steps, max_epochs, patience or budget")
    if problems:
        raise ValueError("Cannot train:\n- " + "\n- ".join(problems))
    course = _Budget(budget, sum(map(len, dev))) if budget else None
    if course:
        max_steps = max_epochs = 0
        peak = peak_rate(nlp.config.interpolate()["training"]["optimizer"].get("learn_rate", {}))
        rates = course.rates(peak)
        settings["optimizer"].schedules["learn_rate"] = rates
        settings["optimizer"].learn_rate = next(rates)
    rows: list[dict[str, Any]] = []
    best = _Best(nlp, dev, settings)
    ended = False

    def batches() -> Iterator[tuple[int, list[Example]]]:
        train_split = corpus.examples("train", nlp.vocab)
        for epoch, batch in create_train_batches(
            nlp, lambda _: train_split, settings["batcher"], max_epochs
        ):
            if ended or (before_step and not before_step(nlp, len(rows))):
                return
            batch = list(batch)
            if course:
                # Before the update: the loop asks for the next learn rate right after it.
                course.words += sum(len(example) for example in batch)
            yield epoch, batch

    with tqdm(total=max_steps or None, unit=" updates", disable=not progress) as bar:
        for row in updates(nlp, batches(), settings):
            rows.append(row)
            if course:
                due, ended = course.due(), course.done == 1.0
            else:
                ended = row["step"] == max_steps
                due = ended or row["step"] % settings["eval_frequency"] == 0
            if due:
                best.evaluate(row)
                bar.set_postfix(score=f"{row['score']:.3f}", best=f"{best.score:.3f}")
                ended |= not course and 0 < settings["patience"] <= row["step"] - best.step
            bar.update()
            if on_step is not None:
                on_step(row)
    if not rows:
        raise ValueError(
            "train: no update was made: the train split gave no batch, or the training was ended."
        )
    if "score" not in rows[-1]:
        best.evaluate(rows[-1])
    restore(nlp, best.weights)
    if course:
        _write_recipe(nlp, len(rows), peak, course.evaluations)
    held_out = test and scored_split(corpus) == "test"
    scores = nlp.evaluate(corpus.examples("test", nlp.vocab)) if held_out else best.scores
    return Trained(nlp, pd.DataFrame(rows), best.step, best.score, best.scores, scores)


def scored_split(corpus: HasExamples) -> Literal["dev", "test"]:
    """Return the split that final scores are of: test, or dev where the corpus has no test."""
    return "test" if getattr(corpus, "test", None) else "dev"


def initialize(
    config: Config, examples: Callable[[Vocab], Sequence[Example]], seed: int | None = None
) -> Language:
    """Build and initialise a pipeline in the order, and with the random state, of ``spacy train``.

    Frozen components get their weights from the config's ``[initialize.before_init]``. A seed takes
    the place of the config's, which is not changed.
    """
    config = config.copy()
    if seed is not None:
        config["system"]["seed"] = config["training"]["seed"] = seed
    fix_random_seed(config.interpolate()["training"]["seed"])
    # Thinc's BLIS makes a third of OpenBLAS's products a second on several processors.
    on_cpu = type(get_current_ops()) is NumpyOps
    with use_ops("numpy", use_blis=False) if on_cpu else nullcontext():
        nlp = load_model_from_config(config, auto_fill=True)
    settings = settings_of(nlp)
    nlp._link_components()
    made = examples(nlp.vocab)  # once: every component asks for them
    frozen = settings["frozen_components"]
    sourced = [*get_sourced_components(config.interpolate())]  # they have their weights
    with nlp.select_pipes(enable=[name for name in sourced if name not in frozen]):
        nlp.resume_training(sgd=settings["optimizer"])
    with nlp.select_pipes(disable=[*frozen, *sourced]):
        nlp.initialize(lambda: made, sgd=settings["optimizer"])
    return nlp


def settings_of(nlp: Language) -> dict[str, Any]:
    """Resolve the pipeline's ``[training]`` block: a fresh optimiser, batcher and schedules."""
    training = nlp.config.interpolate()["training"]
    return dict(registry.resolve(training, schema=ConfigSchemaTraining))


def updates(
    nlp: Language,
    batches: Iterable[tuple[int, list[Example]]],
    settings: dict[str, Any],
    *,
    exclude: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Make one update for each batch, by spaCy's own loop, and yield a row about it.

    All tasks' gradients come first, then one step of every component: a shared encoder is stepped
    once, on the sum of what its listeners returned.

    Args:
        nlp: an initialised pipeline.
        batches: pairs of epoch and Examples; the next is asked for after the row was taken.
        settings: as `settings_of` gives them.
        exclude: components that are not updated, beside the frozen ones.

    Yields:
        ``step`` (from 1), ``epoch``, ``words``, ``seconds``, and a ``loss_NAME`` per component.
    """
    start = 0.0

    def timed() -> Iterator[tuple[int, list[Example]]]:
        nonlocal start
        for numbered in batches:
            start = perf_counter()
            yield numbered

    summed: dict[str, float] = {}
    loop = train_while_improving(
        nlp,
        settings["optimizer"],
        timed(),
        lambda: (0.0, {}),  # spaCy's loop evaluates once at its start; our evaluations come later
        dropout=settings["dropout"],
        accumulate_gradient=settings["accumulate_gradient"],
        patience=0,
        max_steps=0,
        eval_frequency=sys.maxsize,
        exclude=[*settings["frozen_components"], *exclude],
        annotating_components=settings["annotating_components"],
        before_update=settings["before_update"],
    )
    for batch, info, evaluated in loop:
        seconds = perf_counter() - start
        losses = {name: float(loss) for name, loss in info["losses"].items()}
        yield {
            "step": info["step"] + 1,
            "epoch": info["epoch"],
            "words": sum(len(example) for example in batch),
            "seconds": seconds,
            **{f"loss_{name}": loss - summed.get(name, 0.0) for name, loss in losses.items()},
        }
        # The loop sums losses, and begins anew after its evaluation.
        summed = losses if evaluated is None else {}


def read_budget(budget: str) -> tuple[float, Literal["words", "seconds"]]:
    """Read ``"2 min"``, ``"90 s"`` or ``"60000 words"`` as an amount and its unit.

    Raises:
        ValueError: it is something else, or not above 0.
    """
    found = re.fullmatch(r"([\d,_]+(?:\.\d+)?)\s*(words|s|min|h)", str(budget).strip())
    amount = float(re.sub("[,_]", "", found.group(1)) or 0) if found else 0.0
    if found is None or amount == 0:
        raise ValueError(
            f"budget: expected a number above 0 and a unit, got {budget!r}. "
            'Write "2 min", "90 s", "1 h" or "60000 words".'
        )
    if found.group(2) == "words":
        return amount, "words"
    return amount * {"s": 1, "min": 60, "h": 3600}[found.group(2)], "seconds"


# How much of a budget is used up, and the learn rate and evaluations that follow from it.
class _Budget:
    def __init__(self, budget: str, dev_words: int) -> None:
        self.amount, self.unit = read_budget(budget)
        affordable = self.amount / max(1, dev_words) / 2 if self.unit == "words" else MOST
        self.evaluations = round(min(MOST, max(FEWEST, affordable)))
        self.words = self.made = 0
        self.start = perf_counter()

    # The part of the budget that is used up.
    @property
    def done(self) -> float:
        used = self.words if self.unit == "words" else perf_counter() - self.start
        return min(1.0, used / self.amount)

    # Return whether another evaluation's share is used up since the last call.
    def due(self) -> bool:
        before, self.made = self.made, int(self.done * self.evaluations)
        return self.made > before

    # Yield the learn rate of each update: a linear warm-up, then a decay to 0.
    def rates(self, peak: float) -> Iterator[float]:
        while True:
            yield peak * min(self.done / WARM_UP, (1 - self.done) / (1 - WARM_UP))


class _Best:
    def __init__(self, nlp: Language, dev: list[Example], settings: dict[str, Any]) -> None:
        self.nlp, self.dev, self.settings = nlp, dev, settings
        self.score, self.step = float("-inf"), 0
        self.scores: dict[str, Any] = {}
        self.weights: Snapshot = {}

    # Add the scores of now to a history's row, and keep the weights if they are better.
    def evaluate(self, row: dict[str, Any]) -> None:
        averages = self.settings["optimizer"].averages
        with self.nlp.use_params(averages) if averages else nullcontext():
            scores = self.nlp.evaluate(self.dev)
            numbers = {name: float(v) for name, v in scores.items() if isinstance(v, float | int)}
            weights = {name: one for name, one in self.settings["score_weights"].items() if one}
            if not weights or (unknown := weights.keys() - scores.keys()):
                got = f"unknown {sorted(unknown)}" if weights else "none"
                raise ValueError(
                    "[training.score_weights] expected weights above 0 of scores on dev, by which "
                    f"weights are kept, got {got}; there are {sorted(numbers)}."
                )
            score = sum(numbers.get(name, 0.0) * weight for name, weight in weights.items())
            if score > self.score:
                self.score, self.step, self.scores = score, row["step"], scores
                self.weights = snapshot(self.nlp)
        row |= {"score": score} | numbers


# Put into the pipeline's config what a budget came to, in updates.
def _write_recipe(nlp: Language, made: int, peak: float, evaluations: int) -> None:
    training = nlp.config["training"]
    training["max_steps"], training["max_epochs"], training["patience"] = made, 0, 0
    training["eval_frequency"] = max(1, made // evaluations)
    training["optimizer"]["learn_rate"] = {
        "@schedules": "warmup_linear.v1",
        "warmup_steps": max(1, round(made * WARM_UP)),
        "total_steps": made,
        "initial_rate": peak,
    }
