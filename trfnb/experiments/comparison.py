"""Train and measure every way of sharing an encoder, and say which to take."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config
from tqdm.auto import tqdm

from trfnb import statistics
from trfnb.answer import Answer, Question
from trfnb.experiments import search
from trfnb.experiments.configs import SHARINGS, TASKS, build_config, with_sharing
from trfnb.experiments.measures import UNITS, main_scores, measure, starved
from trfnb.experiments.training import HasExamples, Trained, scored_split, train

COSTS = ("disk_mb", "words_per_second", "train_words_per_second", "train_seconds")


@dataclass(frozen=True)
class Comparison(Answer):
    """What came out of `compare`: an `trfnb.answer.Answer` from its runs, and the pipelines.

    Attributes:
        histories: by way of sharing, the history of each seed.
        pipelines: by way of sharing, the seed's pipeline that was best on dev.
        split: the split that scores are of, ``"test"`` or ``"dev"``.
        setup: what was trained on what, in words.
    """

    histories: dict[str, list[pd.DataFrame]]
    pipelines: dict[str, Language]
    split: str
    setup: str

    @property
    def best(self) -> Language:
        """The pipeline of the way that won."""
        return self.pipelines[self.winner]

    def save(self, folder: str | Path) -> Path:
        """Write the best pipeline, its scores in ``meta.json``, ``runs.csv`` and a card.

        Returns:
            The folder, to be opened with ``spacy.load``.
        """
        folder = Path(folder)
        scores = self.best_run[list(self.asked.scores)].dropna().to_dict()
        self.best.meta.update(
            performance=scores,
            description=f"Winner of a comparison: {self.winner} encoder(s).",
        )
        self.best.to_disk(folder)
        self.write_card(folder, self.setup)
        return folder


@dataclass(frozen=True)
class DocBinCorpus:
    """A folder with ``train.spacy``, ``dev.spacy`` and perhaps ``test.spacy``, annotation and all.

    Attributes:
        folder: where the files are.
    """

    folder: Path

    @cached_property
    def test(self) -> bool:
        """Whether there is a test split with anything in it."""
        file = self.folder / "test.spacy"
        return file.exists() and len(DocBin().from_disk(file)) > 0

    def examples(self, split: str, vocab: Vocab) -> list[Example]:
        """Return a split as Examples: bare words beside the annotated reference."""
        docs = DocBin().from_disk(self.folder / f"{split}.spacy").get_docs(vocab)
        return [Example(_words_only(doc), doc) for doc in docs]


def compare(
    corpus: HasExamples,
    *,
    config: Config | str | Path | None = None,
    tasks: Sequence[str] = TASKS,
    encoder: str = "tok2vec",
    sharings: Iterable[str] = SHARINGS,
    seeds: int | Iterable[int] = 3,
    budget: str | None = None,
    tune: int = 0,
    margin: float = 0.01,
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Comparison:
    """Train and measure every way of sharing with every seed, and judge each task.

    Args:
        corpus: trained on, chosen by on dev, and scored on test, or on dev if it has no test.
        config: your own config or its path, with one encoder that components listen to; it
            takes the place of tasks, encoder and options.
        tasks: see `trfnb.experiments.build_config`.
        encoder: see there.
        sharings: the ways to compare; groups of tasks as text, such as "tagger+parser | ner".
        seeds: how many, or which; one run each.
        budget: of each run, such as ``"5 min"``; see `trfnb.experiments.train`. Left out, the
            config's own limits hold.
        tune: learn rates to try for each way, on dev, before its runs; 0 keeps the config's. It
            needs a budget; see `trfnb.experiments.search.tune`.
        margin: the largest difference of a score that does not matter to you.
        options: further arguments of `build_config`, the same for all runs; a grad_factor does
            nothing to a frozen encoder.
        progress: show a bar of runs, and one of updates in each.

    Once every way has a run, Ctrl-C ends the comparison with the runs made so far.

    Raises:
        ValueError: there is no way of sharing or no seed, one is unknown, or the config has not
            one encoder that components listen to.
    """
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    ways = list(sharings)
    if not ways or not numbers or not margin >= 0:
        raise ValueError(
            "compare: expected at least one way of sharing, one seed and a margin of 0 or more, "
            f"got {ways}, {numbers} and {margin}."
        )
    if config is not None and not isinstance(config, Config):
        config = Config().from_disk(config, interpolate=False)
    given = build_config(tasks, encoder, **(options or {})) if config is None else config
    configs = {way: with_sharing(given, way) for way in ways}
    if tune:
        effort: Any = {"trials": tune, "budget": budget, "seed": numbers[0], "progress": progress}
        configs = {way: search.tune(configs[way], corpus, **effort)[0] for way in ways}
    rows: list[dict[str, Any]] = []
    histories: dict[str, list[pd.DataFrame]] = {way: [] for way in ways}
    best: dict[str, Trained] = {}
    runs = list(product(numbers, ways))
    for seed, way in tqdm(runs, unit=" runs", disable=not progress):
        try:
            trained = train(configs[way], corpus, budget=budget, seed=seed, progress=progress)
            row = {
                "sharing": way,
                "seed": seed,
                "best_step": trained.best_step,
                "dev_score": trained.score,
                **measure(trained),
                "starved": starved(trained, corpus),
            }
        except KeyboardInterrupt:
            if len(best) < len(ways):
                raise
            break
        best[way] = max(best.get(way, trained), trained, key=lambda made: made.score)
        histories[way].append(trained.history)
        rows.append(row)
    scores = {metric: metric for metric in main_scores(best[ways[0]].nlp).values()}
    name = getattr(corpus, "name", None) or getattr(corpus, "folder", "a corpus")
    limits = f"budget {budget} per run" if budget else "limits of the config"
    split = scored_split(corpus)
    stopped = f" Stopped after {len(rows)} of {len(runs)} runs." if len(rows) < len(runs) else ""
    comparison = Comparison(
        pd.DataFrame(rows),
        Question(
            scores=scores,
            costs={cost: UNITS[cost] for cost in COSTS},
            against="shared" if "shared" in ways else ways[0],
            margin=margin,
        ),
        histories=histories,
        pipelines={way: trained.nlp for way, trained in best.items()},
        split=split,
        setup=f"Trained on {name}, {limits}. Scores are of the {split} split.{stopped}",
    )
    if len(comparison.verdicts) and len(comparison.seeds) < statistics.FEWEST:
        both = best[comparison.looked_at], best[comparison.asked.against]
        resampled = paired_bootstrap(*both, corpus)
        comparison.verdicts["sentence"] += [
            f" Of the best run of each, resampled sentences give {low:+.3f} to {high:+.3f}."
            for low, high in map(resampled.__getitem__, comparison.verdicts["metric"])
        ]
    return comparison


def paired_bootstrap(
    first: Trained, other: Trained, corpus: HasExamples, *, resamples: int = 200
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of the difference first − other, over resampled sentences, by score.

    The sentences are those of the test split, or of dev where there is no test split.
    """
    sides: list[tuple[Any, list[Example]]] = []
    for nlp in (first.nlp, other.nlp):
        examples = list(corpus.examples(scored_split(corpus), nlp.vocab))
        for example, doc in zip(examples, nlp.pipe([eg.predicted for eg in examples]), strict=True):
            example.predicted = doc
        sides.append((nlp, examples))

    def gap(drawn: Sequence[int], task: str, metric: str) -> float:
        first, second = (
            nlp.get_pipe(task).score([examples[i] for i in drawn])[metric] or 0.0
            for nlp, examples in sides
        )
        return float(first - second)

    n = len(sides[0][1])
    return {
        metric: statistics.bootstrap(partial(gap, task=task, metric=metric), n, resamples=resamples)
        for task, metric in main_scores(first.nlp).items()
    }


# Return the document's words and spaces without any annotation.
def _words_only(doc: Doc) -> Doc:
    return Doc(doc.vocab, words=[t.text for t in doc], spaces=[bool(t.whitespace_) for t in doc])
