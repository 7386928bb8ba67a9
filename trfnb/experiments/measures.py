"""What a trained pipeline scores and costs, and whether it was trained long enough."""

import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Literal

import pandas as pd
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example

from trfnb.experiments import weights
from trfnb.experiments.configs import HEADS
from trfnb.experiments.training import HasExamples, Trained, scored_split, settings_of, updates

MEGABYTE = 1e6
Work = Literal["inference", "training"]

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
    """Measure one trained pipeline: its cost, and each task's main score.

    Args:
        trained: what `trfnb.experiments.train` returned.
        corpus: the corpus it was trained on.
        repeats: timed passes over the dev split after one untimed; the median counts.
        memory: whether to measure memory, which starts two processes.
        memory_docs: train documents that those processes work through.

    Returns:
        One number per name; the costs' units are in `UNITS`, scores run from 0 to 1.
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
        found["memory_mb"] = peak_memory(nlp, docs, "inference")
        found["train_memory_mb"] = peak_memory(nlp, docs, "training")
    return found | task_scores(nlp, trained.scores)


def main_scores(nlp: Language) -> dict[str, str]:
    """Return, by component, the name of the score that stands for its task.

    That is `HEADS`' for the tasks of `build_config`, and for any other component the one that its
    factory weighs most. Components without a score, such as an encoder, are left out.
    """
    found = {}
    for name, pipe in nlp.pipeline:
        meta = nlp.get_pipe_meta(name)
        given = meta.default_score_weights or {}
        weighed = {metric: weight for metric, weight in given.items() if weight}
        if weighed and getattr(pipe, "is_trainable", False):
            head = HEADS.get(meta.factory)
            best = head.score if head else max(weighed, key=lambda metric: weighed[metric])
            key = getattr(pipe, "cfg", {}).get("spans_key", "sc")  # spans are scored by their key
            found[name] = best.replace("spans_sc_", f"spans_{key}_")
    return found


def task_scores(nlp: Language, scores: Mapping[str, Any]) -> dict[str, float]:
    """Pick the main score of each task, by the metric's name; NaN where there is none."""
    found = {metric: scores.get(metric) for metric in main_scores(nlp).values()}
    return {name: float("nan") if score is None else float(score) for name, score in found.items()}


def starved(
    trained: Trained,
    corpus: HasExamples,
    frozen: Mapping[str, float] | None = None,
    *,
    tolerance: float = 0.02,
) -> list[str]:
    """Say in sentences what shows that a training was too short for its scores to be compared.

    Args:
        trained: what `trfnb.experiments.train` returned.
        corpus: the corpus it was trained on.
        frozen: scores by metric of the same pipeline on a frozen encoder, if there is one.
        tolerance: the smallest gain in the last quarter of the evaluations that counts as rising,
            and the smallest lag behind a floor that counts as below it.

    Returns:
        One sentence for each task and sign: its dev score is still rising at the end, it is below
        the frozen encoder, or it is not above the commonest label. Empty if nothing shows.
    """
    found = []
    evaluated = trained.history.dropna(subset=["score"])
    scores = task_scores(trained.nlp, trained.scores)
    split = scored_split(corpus)
    examples = corpus.examples(split, trained.nlp.vocab)
    for task, metric in main_scores(trained.nlp).items():
        score = scores[metric]
        if metric in evaluated and len(evaluated) >= 4:
            late = evaluated[metric].iloc[-1 - len(evaluated) // 4]
            if (gain := evaluated[metric].iloc[-1] - late) > tolerance:
                found.append(
                    f"{task}: {metric} on dev still rose by {gain:.3f} in the last quarter; "
                    "give a larger budget."
                )
        if frozen and (floor := frozen.get(metric, 0.0)) - score > tolerance:
            found.append(
                f"{task}: {metric} {score:.3f} is below the frozen encoder's {floor:.3f}; "
                "give a larger budget or a lower encoder rate."
            )
        factory = trained.nlp.get_pipe_meta(task).factory
        floor = _majority(factory, examples)
        if not score > floor:
            found.append(
                f"{task}: {metric} {score:.3f} is not above {floor:.3f}, which the commonest label "
                "alone would reach; give a larger budget."
            )
    return found


def disk_megabytes(nlp: Language) -> float:
    """Return the megabytes (10^6 bytes) of all files that ``nlp.to_disk`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        nlp.to_disk(folder)
        sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    return sum(sizes) / MEGABYTE


def inference_speed(nlp: Language, docs: Sequence[Doc], *, repeats: int = 3) -> float:
    """Return words per second of ``nlp.pipe`` over tokenised documents: the passes' median.

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
    """Return words per second of the updates: the median over them, without the first few.

    Evaluations are not included. With fewer updates than the warm-up asks for, all count.
    """
    timed = history.iloc[warm_up:] if len(history) > warm_up else history
    return float((timed["words"] / timed["seconds"]).median())


def moved_scores(
    donor: Language, host: Language, task: str, examples: Sequence[Example]
) -> dict[str, float]:
    """Move one task's component from the donor into the host and score the task there.

    A component with an encoder of its own keeps its score; a listener now reads the host's. The
    host's own component of that name is replaced.

    Returns:
        The task's main score ``"at_home"`` and ``"moved"``.
    """
    if task in host.pipe_names:
        host.remove_pipe(task)
    host.add_pipe(task, source=donor)
    found = {}
    for place, nlp in (("at_home", donor), ("moved", host)):
        vocab = nlp.vocab
        own = [
            Example(
                *(Doc(vocab).from_bytes(doc.to_bytes()) for doc in (eg.predicted, eg.reference))
            )
            for eg in examples
        ]
        scores = main_scores(nlp)
        # Without the other tasks: entities, say, stop at the parser's sentence ends.
        with nlp.select_pipes(disable=[name for name in scores if name != task]):
            found[place] = nlp.evaluate(own)[scores[task]]
    return found


def peak_memory(nlp: Language, docs: Sequence[Doc], work: Work = "inference") -> float:
    """Measure what a fresh process needs to load the pipeline and work through documents.

    Args:
        nlp: saved to a temporary folder and loaded from there by a new Python process.
        docs: gold documents; inference reads their words alone, training makes one update on each
            batch of the pipeline's own batcher.
        work: what to do with them.

    Returns:
        The process's peak of resident memory in megabytes (10^6 bytes): interpreter, libraries,
        weights and activations. Memory on a GPU is not included.

    Raises:
        RuntimeError: the process failed; quotes the end of its errors.
    """
    with tempfile.TemporaryDirectory() as folder:
        nlp.to_disk(Path(folder) / "pipeline")
        DocBin(docs=docs, store_user_data=False).to_disk(Path(folder) / "docs.spacy")
        command = [sys.executable, "-m", "trfnb.experiments.measures", folder, work]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Measuring the memory of {work} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])


def _work(folder: Path, work: str) -> float:
    """Do what `peak_memory` measures, and return this process's largest resident size."""
    nlp = spacy.load(folder / "pipeline")
    gold = list(DocBin().from_disk(folder / "docs.spacy").get_docs(nlp.vocab))
    examples = [Example(words_only(doc), doc) for doc in gold]
    if work == "training":
        settings = settings_of(nlp)
        batches = ((0, list(batch)) for batch in settings["batcher"](examples))
        for _ in updates(nlp, batches, settings):
            pass
    else:
        for _ in nlp.pipe(example.predicted for example in examples):
            pass
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux getrusage counts the parent's size too, from before this program was loaded.
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE  # bytes on macOS


def _majority(factory: str, examples: Sequence[Example]) -> float:
    """Return what always the commonest label scores; 0 for tasks of spans and trees."""
    if factory == "tagger":
        counts = Counter(token.tag_ for eg in examples for token in eg.reference if token.tag)
        return max(counts.values()) / counts.total() if counts else 0.0
    if factory == "textcat":
        cats = [eg.reference.cats for eg in examples if eg.reference.cats]
        counts = Counter(max(cat, key=lambda label: cat[label]) for cat in cats)
        share = max(counts.values()) / counts.total() if counts else 0.0
        labels = {label for cat in cats for label in cat}
        return 2 * share / (1 + share) / max(1, len(labels))  # macro F: 0 for all other labels
    return 0.0


def words_only(doc: Doc) -> Doc:
    """Return the document's words and spaces without any annotation."""
    return Doc(doc.vocab, words=[t.text for t in doc], spaces=[bool(t.whitespace_) for t in doc])


if __name__ == "__main__":
    sys.stdout.write(f"\n{_work(Path(sys.argv[1]), sys.argv[2])}\n")
