"""What a trained pipeline costs and what it scores."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import pandas as pd
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from trfnb.experiments import weights
from trfnb.experiments.heads import HEADS
from trfnb.experiments.memory import MEGABYTE, peak_memory, words_only
from trfnb.experiments.training import HasExamples, Trained

UNITS = {
    "parameters": "numbers",
    "disk_mb": "MB on disk",
    "train_words_per_second": "words / s, training",
    "words_per_second": "words / s, inference",
    "memory_mb": "MB resident, inference",
    "train_memory_mb": "MB resident, training",
    "train_seconds": "s of updates",
}


def measure(
    trained: Trained,
    corpus: HasExamples,
    *,
    repeats: int = 3,
    memory: bool = True,
    memory_docs: int = 200,
) -> dict[str, float]:
    """Measure one trained pipeline: its cost, and each task's score on the dev split.

    Args:
        trained: what `trfnb.experiments.training.train` returned.
        corpus: the corpus it was trained on.
        repeats: timed passes over the dev split after one untimed; the median counts.
        memory: whether to measure memory, which starts two processes.
        memory_docs: train documents that those processes work through.

    Returns:
        One number a name; the costs' units are in `UNITS`, scores run from 0 to 1.
    """
    nlp = trained.nlp
    dev = [example.reference for example in corpus.examples("dev", nlp.vocab)]
    found = {
        "parameters": float(weights.count(nlp)),
        "disk_mb": disk_megabytes(nlp),
        "train_words_per_second": training_speed(trained.history),
        "words_per_second": inference_speed(nlp, dev, repeats=repeats),
        "train_seconds": float(trained.history["seconds"].sum()),
    }
    if memory:
        docs = [example.reference for example in corpus.examples("train", nlp.vocab)][:memory_docs]
        found["memory_mb"] = peak_memory(nlp, docs, "inference")["peak"]
        found["train_memory_mb"] = peak_memory(nlp, docs, "training")["peak"]
    return found | task_scores(trained.scores, nlp.pipe_names)


def task_scores(scores: dict[str, Any], tasks: Sequence[str]) -> dict[str, float]:
    """Pick the main score of each task, by the metric's name; NaN where there is none."""
    names = [HEADS[task].score for task in tasks if task in HEADS]
    found = {name: scores.get(name) for name in names}
    return {name: float("nan") if score is None else score for name, score in found.items()}


def disk_megabytes(nlp: Language) -> float:
    """Return the megabytes (10^6 bytes) of all files that ``nlp.to_disk`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        nlp.to_disk(folder)
        sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    return sum(sizes) / MEGABYTE


def inference_speed(nlp: Language, docs: Sequence[Doc], *, repeats: int = 3) -> float:
    """Return words a second of ``nlp.pipe`` over tokenised documents: the median of the passes.

    Annotations of the given documents are not looked at; one untimed pass comes first.

    Raises:
        ValueError: there are no documents.
    """
    if not docs:
        raise ValueError("inference_speed: got no documents; give at least one.")
    rates = []
    for _ in range(repeats + 1):
        fresh = [words_only(doc) for doc in docs]
        start = perf_counter()
        for _ in nlp.pipe(fresh):
            pass
        rates.append(sum(map(len, docs)) / (perf_counter() - start))
    return median(rates[1:])


def training_speed(history: pd.DataFrame, *, warm_up: int = 3) -> float:
    """Return words a second of the updates: the median over them, without the first few.

    Evaluations are not included. With fewer updates than the warm-up asks for, all count.
    """
    timed = history.iloc[warm_up:] if len(history) > warm_up else history
    return float((timed["words"] / timed["seconds"]).median())


def moved_scores(
    donor: Language, host: Language, task: str, examples: Sequence[Example]
) -> dict[str, float]:
    """Move one task's component from the donor into the host and score the task there.

    A component with a body of its own keeps its score; a listener now reads the host's body.
    The host's own component of that name is replaced.

    Returns:
        The task's main score ``"at_home"`` and ``"moved"``.
    """
    if task in host.pipe_names:
        host.remove_pipe(task)
    host.add_pipe(task, source=donor)
    return {
        "at_home": _score_alone(donor, task, examples),
        "moved": _score_alone(host, task, examples),
    }


def _score_alone(nlp: Language, task: str, examples: Sequence[Example]) -> Any:
    """Score a task without the other tasks: entities, say, stop at the parser's sentence ends."""
    own = [Example(_in(nlp, eg.predicted), _in(nlp, eg.reference)) for eg in examples]
    with nlp.select_pipes(
        disable=[name for name in nlp.pipe_names if name in HEADS and name != task]
    ):
        return nlp.evaluate(own)[HEADS[task].score]


def _in(nlp: Language, doc: Doc) -> Doc:
    return Doc(nlp.vocab).from_bytes(doc.to_bytes())
