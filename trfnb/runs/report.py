"""A sweep's ``report.html``: answers first, then the numbers behind them, then every run.

This file computes; ``report.html`` beside it is the page's Jinja template, which escapes what
notebooks said. The page loads nothing from a network.
"""

import io
import re
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from trfnb.files import atomic_write
from trfnb.runs.ledger import State, gather
from trfnb.runs.results import answer_of, table_of
from trfnb.statistics import intervals

# How many of each the page shows; it says what it leaves out.
METRICS, SETTINGS = 4, 40
# How many a value on the page has at most.
LETTERS = 40
# Characters that no page can hold.
_CONTROL = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\U0010ffff]")
_SMALLER = re.compile("loss|error|perplexity|seconds|time|memory|_mb|megabytes|parameters", re.I)


def write_report(folder: Path | str) -> Path:
    """Write ``report.html`` of a sweep, one file, and return its path.

    Raises:
        FileNotFoundError: the folder holds no sweep.
    """
    from jinja2 import Environment

    report = Report(folder)
    source = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["short"] = short
    page = environment.from_string(source).render(report=report, shown=SETTINGS)
    path = report.folder / "report.html"
    with atomic_write(path) as stream:
        stream.write(_CONTROL.sub("\ufffd", page))
    return path


class Report:
    """A sweep's folder, read once for all parts of its report.

    Attributes:
        settings: the varied parameters but ``seed`` that have more than one value.
        metrics: the recorded numbers to show, the sweep's own first.
        means, halves: of the metrics, ``seconds`` and ``peak_memory_mb``, one row per combination
            of settings, the best by the first metric first.
        labels: what to call a row of these.
        answer: what the sweep was asked to answer, if anything.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.about, self.statuses, self.outdated = gather(folder)
        self.table = table_of(self.statuses)
        done = [status for status in self.statuses if status.state is State.DONE]
        names = dict.fromkeys(name for status in done for name in status.numbers)
        columns = [f"recorded.{n}" if f"recorded.{n}" in self.table else n for n in names]
        self.metrics = [n for n in self.about["metrics"] if n in columns] or columns[:METRICS]
        self.varied = [name for name in self.about["varied"] if name in self.table]
        texts = self.table[self.varied].map(str)
        self.settings = [n for n in self.varied if n != "seed" and texts[n].nunique() > 1]
        self.labels: dict[str, str] = {}
        self.answer = answer_of(self.about, self.statuses)
        if self.metrics:
            self.done = self.table[self.table["status"] == State.DONE]
            shown = [*self.metrics, "seconds", "peak_memory_mb"]
            means, halves = self._intervals(shown, self.settings)
            metric = self.metrics[0]
            direction = (self.about["search"] or {}).get(metric)
            smaller = direction == "minimize" if direction else bool(_SMALLER.search(metric))
            self.means = means.sort_values(metric, ascending=smaller, kind="stable")
            self.halves = halves.loc[self.means.index]

    def heading(self) -> list[str]:
        """Return what was run: notebook, time, versions, what is left out."""
        counts = Counter(status.state.value for status in self.statuses).most_common()
        called = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.about["called"]))
        facts = [", ".join(f"{number} {state}" for state, number in counts)]
        facts += [f"notebook {Path(self.about['notebook']).name}", f"called {called}"]
        for name in ("trfnb", "commit", "spacy", "torch", "device"):
            values = self.table[name].dropna().unique() if name in self.table else ()
            facts += [f"{name} {', '.join(map(str, values[:3]))}"] if len(values) else []
        old = f"{len(self.outdated)} runs of an earlier notebook or corpus left out"
        return facts + [old] * bool(self.outdated)

    def differences(self) -> list[str]:
        """Return how far each metric's means lie apart, and which parameters move it most."""
        lines = []
        for metric in self.metrics:
            moved = []
            for name in self.settings:
                level = self._intervals([metric], [name])[0][metric].dropna()
                change = level.max() - level.min()
                low, high = self.labels[str(level.idxmin())], self.labels[str(level.idxmax())]
                moved.append((-change, f"from {low} to {high} ({change:+.3g})"))
            by = ", ".join(text for _, text in sorted(moved)[:3])
            spread = f"{metric}: {self.means[metric].min():.4g} to {self.means[metric].max():.4g}"
            lines.append(f"{spread}; on average {by}." if by else f"{spread}.")
        return lines or [
            "No run recorded a number: call trfnb.record(name, value) in the notebook."
        ]

    def best(self) -> list[str]:
        """Return the best setting by the first metric, and what cannot be told from it."""
        if not self.metrics:
            return []
        metric = self.metrics[0]
        mean, half = self.means[metric], self.halves[metric]
        named = [f"{self.labels[key]}, {self.number(key, metric)}" for key in map(str, mean.index)]
        apart = (mean - mean.iloc[0]).abs() > half + half.iloc[0]
        close = [name for name, differs in zip(named, apart, strict=True) if not differs][1:]
        lines = [f"{metric}: {named[0]}."]
        if close:
            more = f"; and {len(close) - 3} more" if len(close) > 3 else ""
            lines.append(f"Cannot be told from it: {'; '.join(close[:3])}{more}.")
        elif named[1:]:
            lines.append(f"Clearly behind it: {named[1]}.")
        return lines + ["Below three seeds a setting has no interval."] * bool(half.isna().any())

    def number(self, key: str, column: str) -> str:
        """Return a setting's mean and interval as text."""
        mean, half = self.means[column][key], self.halves[column][key]
        return f"{mean:.4g}" + (f" ± {half:.2g}" if pd.notna(half) else "")

    def figures(self) -> list[str]:
        """Return the answer's figures as SVG: scores against costs, and learning curves."""
        from trfnb import plots

        if self.answer is None:
            return []
        asked, drawn = self.answer, []
        if asked.costs and asked.scores:
            table = intervals(asked.runs, asked.by, [*asked.scores, *asked.costs])
            drawn.append(plots.tradeoff(table, asked.scores, asked.costs, by=asked.by))
        curves: dict[str, list[pd.DataFrame]] = {}
        for status in self.statuses:
            if status.state is State.DONE and "curve" in status.metrics:
                curve = pd.DataFrame(status.metrics["curve"])
                curve["words"] = curve["words"].diff().fillna(curve["words"])
                curves.setdefault(str(status.parameters.get(asked.by)), []).append(curve)
        return [svg(one) for one in [*drawn, *([plots.learning_curves(curves)] if curves else [])]]

    def figure(self) -> str:
        """Return the metrics as SVG: one row per setting, one panel per metric."""
        from trfnb.plots import COLOURS, blank, plain

        keys, metrics = self.means.index[:SETTINGS], self.metrics[:3]
        names = [plain(self.labels[key]) for key in keys]
        width = 0.07 * max(map(len, names)) + 2.6 * len(metrics)
        figure, (panels,) = blank(width, 0.8 + 0.24 * len(keys), 1, len(metrics), sharey=True)
        for panel, metric in zip(panels, metrics, strict=True):
            halves = self.halves[metric].fillna(0)[:SETTINGS]
            along = self.means[metric][:SETTINGS]
            panel.errorbar(along, range(len(keys)), xerr=halves, fmt="o", color=COLOURS[0])
            panel.set_xlabel(plain(short(metric)))
            panel.locator_params(axis="x", nbins=4)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        return svg(figure)

    def _intervals(self, metrics: list[str], names: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return means and half intervals of metrics, one row per combination of parameters."""
        rows: list[Any] = self.done[names].to_dict("records")
        self.labels |= {str(row): label(row) or "all runs" for row in rows}
        table = self.done[metrics].astype(float).assign(key=[str(row) for row in rows])
        table = intervals(table, "key", metrics).assign(half=lambda t: (t["high"] - t["low"]) / 2)
        keys = dict.fromkeys(str(row) for row in rows)
        means, halves = (
            table.pivot(index="key", columns="metric", values=kind).reindex(list(keys))[metrics]
            for kind in ("mean", "half")
        )
        return means, halves


def svg(figure: Any) -> str:
    """Return a figure as SVG, to be put into a page."""
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that matplotlib's font lacks, the page has
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return "<svg" + stream.getvalue().partition("<svg")[2]


def label(values: dict[str, Any]) -> str:
    """Return parameters as ``name=value``, shortened to fit beside a figure."""
    each = max(8, LETTERS // max(1, len(values)))
    return " ".join(f"{short(name, each)}={short(value, each)}" for name, value in values.items())


def short(value: object, letters: int = LETTERS) -> str:
    """Return a value as text of one line, its middle left out where it is long."""
    if value is None or value != value:
        return ""
    text = " ".join((f"{value:.4g}" if isinstance(value, float) else str(value)).split())
    return text if len(text) <= letters else f"{text[: letters // 2]}…{text[1 - letters // 2 :]}"
