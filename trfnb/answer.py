"""What a table of runs answers: a verdict per task, what each way costs, and which one to take.

Notebooks, reports, the command line and the card of a saved pipeline say it in the same words.
Needs neither spaCy nor torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from trfnb import statistics


@dataclass(frozen=True)
class Answer:
    """The answer that runs of several settings give.

    Attributes:
        runs: one row per run, with the columns named below, ``seed``, and ``starved``: what shows
            that the run was too short, as a list of sentences or as JSON text of one.
        scores: what to call each task's score, by its column; more is better.
        costs: what to call each cost, by its column.
        by: the column that tells the settings apart.
        of: the setting looked at.
        against: the one it is compared with; it wins where the best is better by the margin at
            most, as sharing does, which is smaller and faster.
        floor: the setting that every other one must reach, within the margin.
        choose: the column that the winner is chosen by; more is better.
        margin: the largest difference of a score that does not matter.
    """

    runs: pd.DataFrame
    scores: Mapping[str, str]
    costs: Mapping[str, str]
    by: str = "sharing"
    of: str = "independent"
    against: str = "shared"
    floor: str = "frozen"
    choose: str = "dev_score"
    margin: float = 0.01

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row per score, as `trfnb.statistics.verdicts` gives it; none where a side lacks."""
        named = self.runs.rename(columns=dict(self.scores))
        both = {self.of, self.against} <= set(named[self.by])
        return statistics.verdicts(
            named if both else named[:0],
            list(self.scores.values()),
            of=self.of,
            against=self.against,
            by=self.by,
            margin=self.margin,
        )

    @cached_property
    def winner(self) -> str:
        """The setting to take: the best by ``choose``, or ``against`` if that is as good."""
        means = self.runs.groupby(self.by)[self.choose].mean()
        close = self.against in means and means[self.against] >= means.max() - self.margin
        return self.against if close else str(means.idxmax())

    @property
    def best(self) -> pd.Series:
        """The best run of the setting that won."""
        won = self.runs[self.runs[self.by] == self.winner]
        return won.loc[won[self.choose].idxmax()]

    def choice(self) -> str:
        """Return which setting to take, and what decided."""
        means = self.runs.groupby(self.by, sort=False)[self.choose].mean()
        told = ", ".join(f"{way} {mean:.3f}" for way, mean in means.items())
        return (
            f"Take {self.winner}. Mean {self.choose}: {told}; {self.against} wins where it is "
            f"within {self.margin:g} of the best."
        )

    def ratios(self) -> list[str]:
        """Return what each other setting costs as a multiple of ``against``, a sentence each."""
        means = self.runs.groupby(self.by, sort=False)[list(self.costs)].mean()
        if self.against not in means.index:
            return []
        rest = (means / means.loc[self.against]).drop(self.against).rename(columns=self.costs)
        return [
            f"{way}: {', '.join(f'{value:.2f} × the {name}' for name, value in row.items())} "
            f"of {self.against}."
            for way, row in rest.iterrows()
        ]

    def starved(self) -> list[str]:
        """Return what shows that a training was too short for its scores to be compared."""
        found = []
        for run in self.runs.to_dict("records"):
            told = run.get("starved") or []
            told = json.loads(told) if isinstance(told, str) else told
            found += [f"starved: {run[self.by]}, seed {run['seed']}: {line}" for line in told]
        means = self.runs.groupby(self.by, sort=False)[list(self.scores)].mean()
        for way, score in means[means.index != self.floor].stack().items():
            floor = means[way[1]].get(self.floor, float("-inf"))
            if floor - score > self.margin:
                found.append(
                    f"starved: {way[0]}: {self.scores[way[1]]} {score:.3f} is below the "
                    f"{self.floor} encoder's {floor:.3f}; give a larger budget or a lower rate."
                )
        return found

    def sentences(self) -> list[str]:
        """Return the answer: each task's verdict, the costs, and what was starved."""
        return [*self.verdicts["sentence"], *self.ratios(), *self.starved()]

    def table(self) -> pd.DataFrame:
        """Return means with their intervals: one row per score and cost, one column per setting."""
        named = self.runs.rename(columns={**self.scores, **self.costs})
        metrics = [*self.scores.values(), *self.costs.values()]
        return statistics.summary(statistics.intervals(named, self.by, metrics), self.by)

    def write_card(self, folder: Path, setup: str) -> None:
        """Write the card of a saved pipeline, ``README.md``, and ``runs.csv`` beside it.

        Args:
            folder: the pipeline's.
            setup: what was trained on what, and which split the scores are of, in words.
        """
        from jinja2 import Template

        self.runs.to_csv(folder / "runs.csv", index=False)
        card = Template(CARD, trim_blocks=True).render(found=self, name=folder.name, setup=setup)
        (folder / "README.md").write_text(card, encoding="utf8")


CARD = """# {{ name }}

A spaCy pipeline: {{ found.winner }}. {{ setup }}

## Scores and costs

Means over seeds {{ found.runs["seed"] | unique | join(", ") }}, with Student's 95 % interval from
three seeds on.

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
