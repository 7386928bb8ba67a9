"""What a trained pipeline scores and costs, and whether it was trained long enough."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.training import Example

from trfnb.experiments import weights
from trfnb.experiments.configs import HEADS
from trfnb.experiments.training import HasExamples, Trained, scored_split

UNITS = {
    "parameters": "numbers",
    "disk_mb": "MB on disk",
    "train_words_per_second": "words per second in training",
    "words_per_second": "words per second in use",
    "train_seconds": "seconds of updates",
}


def measure(trained: Trained) -> dict[str, float]:
    """Measure one trained pipeline: its cost, and each task's main score.

    Args:
        trained: what `trfnb.experiments.train` returned.

    Returns:
        One number per name; the speed of training is the median over updates, without the first
        three and without evaluations; the speed in use is the median of what ``nlp.evaluate`` took
        for dev each time, tokenising included; the size is of all files that ``nlp.to_disk``
        writes, in megabytes of 10^6 bytes. The costs' units are in `UNITS`, scores run from 0 to 1.
    """
    nlp = trained.nlp
    timed = trained.history.iloc[3:] if len(trained.history) > 3 else trained.history
    with tempfile.TemporaryDirectory() as folder:
        nlp.to_disk(folder)
        sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    costs = {
        "parameters": float(weights.count(nlp)),
        "disk_mb": sum(sizes) / 1e6,
        "train_words_per_second": float((timed["words"] / timed["seconds"]).median()),
        "words_per_second": float(trained.history["speed"].median()),
        "train_seconds": float(trained.history["seconds"].sum()),
    }
    return costs | task_scores(nlp, trained.scores)


def main_scores(nlp: Language) -> dict[str, str]:
    """Return, by component, the name of the score that stands for its task.

    That is `HEADS`' for the tasks of `build_config`, and for any other component the one that its
    factory weighs most. Components without a score, such as an encoder, are left out.
    """
    main = {}
    for name, pipe in nlp.pipeline:
        meta = nlp.get_pipe_meta(name)
        given = meta.default_score_weights or {}
        weighed = {metric: weight for metric, weight in given.items() if weight}
        if weighed and getattr(pipe, "is_trainable", False):
            head = HEADS.get(meta.factory)
            best = head.score if head else max(weighed, key=lambda metric: weighed[metric])
            key = getattr(pipe, "cfg", {}).get("spans_key", "sc")  # spans are scored by their key
            main[name] = best.replace("spans_sc_", f"spans_{key}_")
    return main


def task_scores(nlp: Language, scores: Mapping[str, Any]) -> dict[str, float]:
    """Pick the main score of each task, by the metric's name; NaN where there is none."""
    main = {metric: scores.get(metric) for metric in main_scores(nlp).values()}
    return {metric: float("nan") if s is None else float(s) for metric, s in main.items()}


def starved(
    trained: Trained,
    corpus: HasExamples,
    *,
    errors: float = 2.0,
) -> list[str]:
    """Say in sentences what shows that a training was too short, or failed, to be compared.

    Args:
        trained: what `trfnb.experiments.train` returned.
        corpus: the corpus it was trained on.
        errors: the smallest gain in the last quarter of the evaluations that counts as rising, in
            standard errors √(score · (1 − score) / sentences of dev). Between neighbouring
            evaluations in the last two fifths of MiniLM's trainings on newsroom, with 200
            sentences of dev, tag accuracy moved by 0.004, entity F by 0.021 and category F by
            0.011 (root mean square of 8): 0.3, 0.9 and 0.3 standard errors.

    Returns:
        One sentence for each task and sign: its dev score is still rising at the end, has fallen
        from its best by twice as much as counts as rising, or is not above the commonest label.
        Empty if nothing shows. Whether it is below a frozen encoder, `trfnb.answer.Answer` says.
    """
    signs = []
    n = len(corpus.examples("dev", trained.nlp.vocab))
    evaluated = trained.history.dropna(subset=["score"])
    late = evaluated.iloc[-1 - len(evaluated) // 4 :]
    scores = task_scores(trained.nlp, trained.scores)
    examples = corpus.examples(scored_split(corpus), trained.nlp.vocab)
    for task, metric in main_scores(trained.nlp).items():
        score = scores[metric]
        first, last = late[metric].iloc[[0, -1]] if metric in late else (0.0, 0.0)
        gain, best = last - first, evaluated[metric].max() if metric in late else 0.0
        if best - last > 2 * errors * (best * (1 - best) / n) ** 0.5:
            signs.append(
                f"{task}: {metric} on dev fell from {best:.3f} to {last:.3f}; give a lower rate."
            )
        if gain > errors * (last * (1 - last) / n) ** 0.5:
            signs.append(
                f"{task}: {metric} on dev still rose by {gain:.3f} in the last quarter; "
                "give a larger budget."
            )
        floor = _majority(trained.nlp.get_pipe_meta(task).factory, examples)
        if score <= floor:  # not where it is missing
            signs.append(
                f"{task}: {metric} {score:.3f} is not above {floor:.3f}, which the commonest label "
                "alone would reach; give a larger budget."
            )
    return signs


def moved_scores(
    donor: Language, host: Language, task: str, corpus: HasExamples
) -> dict[str, float]:
    """Move one task's component from the donor into the host and score the task there, on dev.

    A component with an encoder of its own keeps its score; a listener now reads the host's. The
    host's own component of that name is replaced.

    Returns:
        The task's main score ``"at_home"`` and ``"moved"``; NaN where dev tells none.
    """
    if task in host.pipe_names:
        host.remove_pipe(task)
    host.add_pipe(task, source=donor)
    scored = {}
    for place, nlp in (("at_home", donor), ("moved", host)):
        scores = main_scores(nlp)
        # Without the other tasks: entities, say, stop at the parser's sentence ends.
        with nlp.select_pipes(disable=[name for name in scores if name != task]):
            found = nlp.evaluate(corpus.examples("dev", nlp.vocab))
        scored[place] = task_scores(nlp, found)[scores[task]]
    return scored


# Return what always the commonest label scores; 0 for tasks of spans and trees.
def _majority(factory: str, examples: Sequence[Example]) -> float:
    docs = [example.reference for example in examples]
    cats = [doc.cats for doc in docs if doc.cats and factory == "textcat"]
    labels = [max(cat, key=lambda label: cat[label]) for cat in cats]
    labels += [token.tag_ for doc in docs for token in doc if token.tag and factory == "tagger"]
    share = max(Counter(labels).values(), default=0) / max(1, len(labels))
    # The macro F of categories counts 0 for all other labels.
    return 2 * share / (1 + share) / len(cats[0]) if cats else share
