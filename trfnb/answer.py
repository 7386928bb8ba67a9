"""What a table of runs answers: a verdict per task, what each way costs, and which one to take.

Notebooks, reports, the command line and the card of a saved pipeline say it in the same words.
Needs neither spaCy nor torch.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from trfnb import statistics
from trfnb.files import atomic_write


def as_text(setting: object) -> str:
    """Return a setting as text: 0.5 and "0.5" are one, so are 2 and 2.0, None and NaN."""
    if setting is None or setting != setting:  # pandas makes NaN of None
        return "None"
    return str(int(setting) if isinstance(setting, float) and setting.is_integer() else setting)


Setting = Annotated[str, BeforeValidator(as_text)]


class Question(BaseModel):
    """What runs of several settings are compared for; each name is one of a column of the runs.

    Attributes:
        scores: what to call each task's score, by its column; more is better.
        costs: what to call each cost, by its column.
        by: the column that tells the settings apart.
        of: the setting looked at; where it was not run, the only other one beside ``against``.
        against: the one it is compared with; it wins where the best is better by the margin at
            most, as sharing does, which is smaller and faster.
        floor: the setting that every other one must reach, within the margin.
        choose: the column that the winner is chosen by; more is better.
        margin: the largest difference of a score that does not matter; left out of a sweep's file,
            it is the notebook's parameter of that name.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    scores: dict[str, str]
    costs: dict[str, str] = {}
    by: str = "sharing"
    of: Setting = "independent"
    against: Setting = "shared"
    floor: Setting = "frozen"
    choose: str = "dev_score"
    margin: Annotated[float, Field(ge=0)] = 0.01


@dataclass(frozen=True)
class Answer:
    """The answer that runs give to a question.

    Attributes:
        runs: one row per run, with the columns that the question names, ``seed``, and ``starved``:
            what shows that the run was too short, as a list of sentences or as JSON text of one.
            The settings are kept as text, whatever they are.
        asked: the question.
    """

    runs: pd.DataFrame
    asked: Question

    def __post_init__(self) -> None:
        settings = self.runs[self.asked.by].map(as_text)
        object.__setattr__(self, "runs", self.runs.assign(**{self.asked.by: settings}))

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds that every setting was run with, to a number; means are over these alone."""
        having = self.runs.dropna(subset=self.asked.choose).groupby("seed")[self.asked.by].nunique()
        return [int(seed) for seed in having.index[having == self.runs[self.asked.by].nunique()]]

    @property
    def paired(self) -> pd.DataFrame:
        """The runs of these seeds; all runs where the settings have no seed in common."""
        return self.runs[self.runs["seed"].isin(self.seeds)] if self.seeds else self.runs

    @cached_property
    def looked_at(self) -> str:
        """The setting that is judged: ``of``, or the only one beside ``against`` that was run."""
        rest = set(self.runs[self.asked.by]) - {self.asked.against}
        return self.asked.of if self.asked.of in rest or len(rest) != 1 else str(*rest)

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row per score, as `trfnb.statistics.verdicts` gives it; none where a side lacks."""
        return self._judged(self.looked_at)

    @cached_property
    def winner(self) -> str:
        """The setting to take: the best by ``choose``, or ``against`` if that is as good."""
        means, against = self._means([self.asked.choose])[self.asked.choose], self.asked.against
        close = against in means and means[against] >= means.max() - self.asked.margin
        return against if close else str(means.idxmax())

    @property
    def best_run(self) -> pd.Series:
        """The best run of the setting that won."""
        won = self.runs[self.runs[self.asked.by] == self.winner]
        return won.nlargest(1, self.asked.choose).iloc[0]

    def choice(self) -> str:
        """Return which setting to take, and what decided."""
        asked, means = self.asked, self._means([self.asked.choose])[self.asked.choose]
        if len(means) == 1:
            return f"{self.winner} alone was run: nothing is compared."
        listed = ", ".join(f"{way} {mean:.3f}" for way, mean in means.items())
        rule = f"; {asked.against} wins where it is within {asked.margin:g} of the best"
        told = (
            f"Take {self.winner}. Mean {asked.choose}: {listed}{rule * (asked.against in means)}."
        )
        lack = set(self.runs["seed"]) - set(self.seeds)
        which = f"of the seeds that all have, {self.seeds}" if self.seeds else "of different seeds"
        return told + f" These are means {which}: some lack {sorted(lack)}." * bool(lack)

    def others(self) -> list[str]:
        """Return how each further setting's scores differ from ``against``, a sentence each."""
        lines, against = [], self.asked.against
        for way in self.runs[self.asked.by].unique():
            judged = self._judged(way) if way not in (self.looked_at, against) else pd.DataFrame()
            gaps = [
                f"{row['metric']} {row['mean']:+.3f}"
                + f" ({row['low']:+.3f} to {row['high']:+.3f}, {row['answer']})" * known
                for row in judged.to_dict("records")
                for known in [row["n"] >= statistics.FEWEST]
            ]
            lines += [f"{way} − {against}: {'; '.join(gaps)}."] * bool(gaps)
        return lines

    def ratios(self) -> list[str]:
        """Return what each other setting costs as a multiple of ``against``, a sentence each."""
        means, against = self._means(list(self.asked.costs)), self.asked.against
        if against not in means.index or means.empty:
            return []
        rest = (means / means.loc[against]).drop(against).rename(columns=self.asked.costs)
        return [
            f"{way}: {', '.join(f'{value:.2f} × the {name}' for name, value in row.items())} "
            f"of {against}."
            for way, row in ((way, row.dropna()) for way, row in rest.iterrows())
            if len(row)
        ]

    def starved(self) -> list[str]:
        """Return what shows that a training was too short for its scores to be compared."""
        asked, signs = self.asked, []
        told = self.runs.reindex(columns=[asked.by, "seed", "starved"]).dropna(subset="starved")
        for way, seed, lines in told.itertuples(index=False):
            lines = json.loads(lines) if isinstance(lines, str) else lines
            signs += [f"starved: {way}, seed {seed}: {line}" for line in lines]
        means = self._means(list(asked.scores))
        for metric, name in asked.scores.items():
            floor = means[metric].get(asked.floor, float("nan"))
            signs += [
                f"starved: {way}: {name} {score:.3f} is below {floor:.3f} of {asked.floor}; "
                "give a larger budget or a lower rate."
                for way, score in means[metric].items()
                if floor - score > asked.margin
            ]
        return signs

    def sentences(self) -> list[str]:
        """Return the answer: each task's verdict, further settings, costs, what was starved."""
        missing = [
            f"{name}: not judged: no run scored it. Has what was scored such annotation?"
            for column, name in self.asked.scores.items()
            if self.runs[column].isna().all()
        ]
        judged = [*self.verdicts["sentence"], *self.others(), *missing]
        return [*judged, *self.ratios(), *self.starved()]

    def table(self) -> pd.DataFrame:
        """Return means with their intervals: one row per score and cost, one column per setting."""
        names, by = {**self.asked.scores, **self.asked.costs}, self.asked.by
        runs = self.paired.rename(columns=names)
        return statistics.summary(statistics.intervals(runs, by, list(names.values())), by)

    def write_card(self, folder: Path, setup: str) -> None:
        """Write the card of a saved pipeline, ``README.md``, and ``runs.csv`` beside it.

        ``spacy package`` takes the card for the package's. It goes into ``meta.json`` too, as
        notes, which stay where the pipeline is loaded and saved again.

        Args:
            folder: the pipeline's.
            setup: what was trained on what, and which split the scores are of, in words.
        """
        from jinja2 import Template

        self.runs.to_csv(folder / "runs.csv", index=False)
        meta = json.loads((folder / "meta.json").read_text(encoding="utf8"))
        card = Template(CARD, trim_blocks=True).render(
            answer=self,
            setup=setup,
            name=folder.resolve().name,
            package=f"{meta['lang']}_{meta['name']}",
        )
        (folder / "README.md").write_text(card, encoding="utf8")
        meta["notes"] = card.partition("\n\n")[2]  # spaCy's page has no title
        with atomic_write(folder / "meta.json") as file:
            json.dump(meta, file, indent=2)

    # Judge a setting's scores beside ``against``; no rows where one of the two was not run.
    def _judged(self, of: str) -> pd.DataFrame:
        asked, names = self.asked, list(self.asked.scores.values())
        both = of != asked.against and {of, asked.against} <= set(self.runs[asked.by])
        runs = (self.runs if both else self.runs[:0]).rename(columns=asked.scores)
        return statistics.verdicts(
            runs, names, of=of, against=asked.against, by=asked.by, margin=asked.margin
        )

    def _means(self, columns: list[str]) -> pd.DataFrame:
        return self.paired[[self.asked.by, *columns]].groupby(self.asked.by, sort=False).mean()


CARD = """# {{ name }}

A spaCy pipeline: {{ answer.winner }}. {{ setup }}

## Scores and costs

Means over seeds {{ answer.paired["seed"] | unique | join(", ") }}, with Student's 95 % interval
from three seeds on.

{% set table = answer.table() %}
| | {{ table.columns | list | map("replace", "|", "\\\\|") | join(" | ") }} |
| --- |{{ " --- |" * table.columns | length }}
{% for row in table.itertuples() %}
| {{ row | join(" | ") }} |
{% endfor %}

## What the comparison says

{% for sentence in [answer.choice()] + answer.sentences() %}
- {{ sentence }}
{% endfor %}

## Use

```python
import spacy
nlp = spacy.load("path/to/{{ name }}")
```

Make an installable package of it with `python -m spacy package path/to/{{ name }} packages`; where
that is installed, `spacy.load("{{ package }}")` opens it, unless `--name` gave another name.
`config.cfg` trains it again; `runs.csv` has one row per run.
"""
