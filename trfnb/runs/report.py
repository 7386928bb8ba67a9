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

from trfnb.answer import as_text
from trfnb.files import atomic_write
from trfnb.runs.ledger import LETTERS, State, gather, short
from trfnb.runs.results import answer_of, table_of
from trfnb.statistics import intervals, summary

# How many of each the page shows; it says what it leaves out.
METRICS, SETTINGS = 4, 40
# Characters that no page can hold.
_CONTROL = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\U0010ffff]")
# Whole words of a metric's name: "sentiment_f" is no time.
_WORDS = "loss|losses|error|errors|perplexity|seconds|time|memory|mb|megabytes|parameters"
_SMALLER = re.compile(rf"(?:^|[._ ])(?:{_WORDS})(?:$|[._ ])")


def write_report(folder: Path | str) -> Path:
    """Write ``report.html`` of a sweep, one file, and return its path.

    Raises:
        FileNotFoundError: the folder holds no sweep.
    """
    from jinja2 import Template

    report = Report(folder)
    source = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    template = Template(source, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = template.render(report=report, shown=SETTINGS, short=short)
    path = report.folder / "report.html"
    with atomic_write(path) as stream:
        stream.write(_CONTROL.sub("\ufffd", page))
    return path


class Report:
    """A sweep's folder, read once for all parts of its report.

    Attributes:
        answer: what the sweep was asked to answer, if anything.
        metrics: the recorded numbers to show, the sweep's own first.
        settings: the varied parameters but ``seed`` that have more than one value.
        labels: what to call each combination of settings, the best by the first metric first.
        means: of the metrics, ``seconds`` and ``peak_memory_mb``, with intervals: one row per
            combination, ``key``, and metric.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.about, self.statuses, self.outdated = gather(folder)
        self.answer = answer_of(self.about, self.statuses)
        self.table = table_of(self.statuses)
        done = [status.numbers for status in self.statuses if status.state is State.DONE]
        names = dict.fromkeys(name for numbers in done for name in numbers)
        columns = [f"recorded.{n}" if f"recorded.{n}" in self.table else n for n in names]
        self.metrics = [n for n in self.about["metrics"] if n in columns] or columns[:METRICS]
        self.varied = [name for name in self.about["varied"] if name in self.table]
        self.settings = [
            name
            for name in self.varied
            if name != "seed" and self.table[name].map(str).nunique() > 1
        ]
        self.labels: dict[str, str] = {}
        if self.metrics:
            runs = self.table[self.table["status"] == State.DONE]
            rows: list[Any] = runs[self.settings].to_dict("records")
            shown = [*self.metrics, "seconds", "peak_memory_mb"]
            self.means = intervals(runs.assign(key=list(map(str, rows))), "key", shown)
            labels = {str(row): label(row) or "all runs" for row in rows}
            best_first = [*self.of_metric(self.metrics[0])["key"], *labels]
            self.labels = {key: labels[key] for key in best_first}

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

    def of_metric(self, metric: str) -> pd.DataFrame:
        """Return the means of one metric, the best first."""
        direction = (self.about["search"] or {}).get(metric)
        smaller = direction == "minimize" if direction else bool(_SMALLER.search(metric))
        rows = self.means[self.means["metric"] == metric]
        return rows.sort_values("mean", ascending=smaller, kind="stable")

    def best(self) -> list[str]:
        """Return the best setting by each metric, and what cannot be told from it."""
        lines = []
        for metric in self.metrics:
            rows = self.of_metric(metric)
            half = (rows["high"] - rows["low"]) / 2
            apart = (rows["mean"] - rows["mean"].iloc[0]).abs() > half + half.iloc[0]
            named = [
                f"{self.labels[key]}, {mean:.4g}" + (f" ± {width:.2g}" if width == width else "")
                for key, mean, width in zip(rows["key"], rows["mean"], half, strict=True)
            ]
            close = [name for name, differs in zip(named, apart, strict=True) if not differs][1:]
            more = [f"and {len(close) - 3} more"] * (len(close) > 3)
            behind = f" Clearly behind it: {named[1]}." if named[1:] else ""
            told = f" Cannot be told from it: {'; '.join(close[:3] + more)}." if close else behind
            lines.append(f"{metric}: {named[0]}.{told}")
        return lines or [
            "No run recorded a number: call trfnb.record(name, value) in the notebook."
        ]

    def by_setting(self) -> pd.DataFrame:
        """Return means with intervals as text: one row per setting, the best first."""
        return summary(self.means, by="key").T.loc[list(self.labels)]

    def figures(self) -> list[str]:
        """Return the figures as SVG: of the answer, if there is one, else of the metrics."""
        from trfnb import plots

        if self.answer is None:
            return [svg(self._figure())] if self.labels else []
        asked, curves = self.answer.asked, dict[str, list[pd.DataFrame]]()
        for status in self.statuses:
            if "curve" in status.metrics:
                curve = pd.DataFrame(status.metrics["curve"])
                curve["words"] = curve["words"].diff().fillna(curve["words"])
                curves.setdefault(as_text(status.parameters.get(asked.by)), []).append(curve)
        drawn = [plots.learning_curves(curves)] if curves else []
        if asked.costs:
            table = intervals(self.answer.paired, asked.by, [*asked.scores, *asked.costs])
            drawn.insert(0, plots.tradeoff(table, asked.scores, asked.costs, by=asked.by))
            drawn[0].savefig(self.folder / "answer.png", dpi=144)
        return [svg(figure) for figure in drawn]

    # Draw the metrics: one row per setting, one panel per metric.
    def _figure(self) -> Any:
        from trfnb.plots import COLOURS, blank, plain

        keys, metrics = list(self.labels)[:SETTINGS], self.metrics[:3]
        names = [plain(self.labels[key]) for key in keys]
        width = 0.07 * max(map(len, names)) + 2.6 * len(metrics)
        figure, (panels,) = blank(width, 0.8 + 0.24 * len(keys), 1, len(metrics), sharey=True)
        for panel, metric in zip(panels, metrics, strict=True):
            rows = self.of_metric(metric).set_index("key").reindex(keys)
            half = ((rows["high"] - rows["low"]) / 2).fillna(0)
            panel.errorbar(rows["mean"], range(len(keys)), xerr=half, fmt="o", color=COLOURS[0])
            panel.set_xlabel(plain(short(metric)))
            panel.locator_params(axis="x", nbins=4)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        return figure


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
