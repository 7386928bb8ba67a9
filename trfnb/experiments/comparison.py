"""Train and measure every way of sharing an encoder, and say which to take."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Template
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config
from tqdm.auto import tqdm

from trfnb.experiments import search, statistics
from trfnb.experiments.configs import SHARINGS, TASKS, build_config, with_sharing
from trfnb.experiments.measures import main_scores, measure, starved, task_scores, words_only
from trfnb.experiments.training import HasExamples, Trained, scored_split, train

COSTS = ["disk_mb", "words_per_second", "train_words_per_second", "train_seconds"]


@dataclass(frozen=True)
class Comparison:
    """What came out of `compare`.

    Attributes:
        runs: one row per run: ``sharing``, ``seed``, ``best_step``, the weighted ``dev_score``,
            every measure and score, and what shows that it was ``starved``, in sentences.
        verdicts: one row per task's score; see `trfnb.experiments.statistics.verdicts`.
        histories: by way of sharing, the history of each seed.
        sharing: the way that won: the best mean on dev, or ``"shared"`` if that is within the
            margin, because it is smaller and faster.
        pipelines: by way of sharing, the seed's pipeline that was best on dev.
        split: the split that scores are of, ``"test"`` or ``"dev"``.
        setup: what was trained on what, in words.
    """

    runs: pd.DataFrame
    verdicts: pd.DataFrame
    histories: dict[str, list[pd.DataFrame]]
    sharing: str
    pipelines: dict[str, Language]
    split: str
    setup: str

    @property
    def best(self) -> Language:
        """The pipeline of the way that won."""
        return self.pipelines[self.sharing]

    def sentences(self) -> list[str]:
        """Return the answer: a sentence per task, then one per sign of a training too short."""
        short = [
            f"starved: {run['sharing']}, seed {run['seed']}: {sentence}"
            for run in self.runs.to_dict("records")
            for sentence in run["starved"]
        ]
        return [*self.verdicts["sentence"], *short]

    def table(self) -> pd.DataFrame:
        """Return means with their intervals: one row per score and cost, one column per way."""
        metrics = [*_metrics(self.best), *COSTS]
        return statistics.summary(statistics.intervals(self.runs, "sharing", metrics))

    def save(self, folder: str | Path) -> Path:
        """Write the best pipeline, its scores in ``meta.json``, ``runs.csv`` and a card.

        Returns:
            The folder, to be opened with ``spacy.load``.
        """
        folder = Path(folder)
        won = self.runs[self.runs["sharing"] == self.sharing].nlargest(1, "dev_score")
        scores = won[_metrics(self.best)].dropna(axis=1).to_dict("records")[0]
        self.best.meta.update(
            performance=scores,
            description=f"Winner of a comparison: {self.sharing} encoder(s).",
        )
        self.best.to_disk(folder)
        self.runs.to_csv(folder / "runs.csv", index=False)
        card = Template(CARD, trim_blocks=True).render(found=self, name=folder.name)
        (folder / "README.md").write_text(card, encoding="utf8")
        return folder


CARD = """# {{ name }}

A spaCy pipeline: {{ found.sharing }}. {{ found.setup }}

## Scores and costs

Scores are of the {{ found.split }} split; means over seeds, with Student's 95 % interval from three
seeds on.

{% set table = found.table() %}
| | {{ table.columns | join(" | ") }} |
| --- |{{ " --- |" * table.columns | length }}
{% for row in table.itertuples() %}
| {{ row | join(" | ") }} |
{% endfor %}

## What the comparison says

{% for sentence in found.sentences() %}
- {{ sentence }}
{% else %}
- Nothing was compared: one way of sharing alone.
{% endfor %}

## Use

```python
import spacy
nlp = spacy.load("path/to/{{ name }}")
```

Make an installable package of it with `python -m spacy package path/to/{{ name }} packages`.
`config.cfg` trains it again; `runs.csv` has one row per run.
"""


@dataclass(frozen=True)
class DocBinCorpus:
    """A folder with ``train.spacy``, ``dev.spacy`` and perhaps ``test.spacy``, annotation and all.

    Attributes:
        folder: where the files are.
    """

    folder: Path

    @property
    def test(self) -> bool:
        """Whether there is a test split."""
        return (self.folder / "test.spacy").exists()

    def examples(self, split: str, vocab: Vocab) -> list[Example]:
        """Return a split as Examples: bare words beside the annotated reference."""
        docs = DocBin().from_disk(self.folder / f"{split}.spacy").get_docs(vocab)
        return [Example(words_only(doc), doc) for doc in docs]


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

    Raises:
        ValueError: there is no way of sharing or no seed, one is unknown, or the config has not
            one encoder that components listen to.
    """
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    # The frozen encoder first: it is the floor that the others are held against.
    ways = sorted(sharings, key=lambda way: way != "frozen")
    if not ways or not numbers:
        raise ValueError(
            f"compare: expected at least one way of sharing and one seed, got {ways} and {numbers}."
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
    floor: dict[str, float] = {}
    runs = list(product(numbers, ways))
    for seed, way in tqdm(runs, unit=" runs", disable=not progress):
        trained = train(configs[way], corpus, budget=budget, seed=seed, progress=progress)
        if way == "frozen":
            floor = task_scores(trained.nlp, trained.scores)
        if way not in best or trained.score > best[way].score:
            best[way] = trained
        histories[way].append(trained.history)
        row = {"sharing": way, "seed": seed, "best_step": trained.best_step}
        row |= {"dev_score": trained.score, **measure(trained, corpus)}
        rows.append({**row, "starved": starved(trained, corpus, floor)})
    table = pd.DataFrame(rows)
    means = table.groupby("sharing")["dev_score"].mean()
    close = "shared" in means and means["shared"] >= means.max() - margin
    winner = "shared" if close else str(means.idxmax())
    metrics = _metrics(best[winner].nlp)
    both = {"shared", "independent"} <= set(ways)
    judged = statistics.verdicts(table if both else table[:0], metrics, margin=margin)
    if both and len(numbers) < statistics.FEWEST:
        told = paired_bootstrap(best["independent"], best["shared"], corpus)
        judged["sentence"] += [
            f" Of the best run of each, resampled sentences give {low:+.3f} to {high:+.3f}."
            for low, high in map(told.__getitem__, judged["metric"])
        ]
    name = getattr(corpus, "name", None) or getattr(corpus, "folder", "a corpus")
    limits = f"budget {budget} per run" if budget else "limits of the config"
    return Comparison(
        runs=table,
        verdicts=judged,
        histories=histories,
        sharing=winner,
        pipelines={way: trained.nlp for way, trained in best.items()},
        split=scored_split(corpus),
        setup=f"Trained on {name}, {limits}, seeds {numbers}, ways {ways}.",
    )


def paired_bootstrap(
    one: Trained, other: Trained, corpus: HasExamples, *, resamples: int = 200
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of the difference one − other, over resampled sentences, by score.

    The sentences are those of the test split, or of dev where there is no test split.
    """
    sides = []
    for nlp in (one.nlp, other.nlp):
        examples = list(corpus.examples(scored_split(corpus), nlp.vocab))
        for example, doc in zip(examples, nlp.pipe([eg.predicted for eg in examples]), strict=True):
            example.predicted = doc
        sides.append((nlp, examples))

    def gap(drawn: np.ndarray, task: str, metric: str) -> float:
        scores: list[float] = []
        for nlp, examples in sides:
            pipe: Any = nlp.get_pipe(task)
            scores.append(pipe.score([examples[i] for i in drawn])[metric] or 0.0)
        return scores[0] - scores[1]

    n = len(sides[0][1])
    return {
        metric: statistics.bootstrap(partial(gap, task=task, metric=metric), n, resamples=resamples)
        for task, metric in main_scores(one.nlp).items()
    }


def _metrics(nlp: Language) -> list[str]:
    return list(dict.fromkeys(main_scores(nlp).values()))
