"""A sweep's ``report.html``: answers first, then the numbers behind them, then every run.

This file computes; ``report.html`` beside it is the page's Jinja template, which escapes what
notebooks said. The page loads nothing from a network.
"""

import io
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from trfnb.files import atomic_write
from trfnb.runs.ledger import LOG, NOTEBOOK, RUNS, State, gather
from trfnb.runs.results import table_of

METRICS, SETTINGS, ROWS, FAILURES = 4, 40, 1000, 50
"""How many of each the page shows; it says what it leaves out."""
LETTERS = 40
_SMALLER = re.compile("loss|error|perplexity|seconds|time|memory|_mb|megabytes|parameters", re.I)
# 97.5 % points of Student's t, from 2 degrees of freedom
_T = [4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145]


def write_report(folder: Path | str) -> Path:
    """Write ``report.html`` of a sweep, one file, and return its path.

    Raises:
        FileNotFoundError: the folder holds no sweep.
    """
    from jinja2 import Environment

    report = Report(folder)
    source = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"short": short, "clean": clean}
    page = environment.from_string(source).render(
        report=report,
        heading=heading(report),
        differences=differences(report),
        best=best(report),
        costs=costs(report),
        failures=failures(report),
        settings=report.by_setting,
        settings_figure=settings_figure(report),
        effects_figure=effects_figure(report),
        history_figure=history_figure(report),
        runs=report.table.head(ROWS).to_dict("records"),
    )
    with atomic_write(report.folder / "report.html") as stream:
        stream.write(page)
    return report.folder / "report.html"


@dataclass(frozen=True)
class Interval:
    """A mean of ``count`` values; ``half`` its 95 % interval (Student's t), from three on."""

    mean: float
    half: float | None
    count: int

    @classmethod
    def of(cls, values: "pandas.Series[float]") -> "Interval":
        """Return the interval of the values that are there."""
        found = values.dropna().astype(float)
        count = len(found)
        if count < 3:
            return cls(float(found.mean()), None, count)
        factor = _T[count - 3] if count - 3 < len(_T) else 1.96 + 2.5 / (count - 1)
        return cls(float(found.mean()), float(factor * found.std() / count**0.5), count)

    def meets(self, other: "Interval") -> bool:
        """Return whether the two cannot be told apart, for want of seeds or by overlap."""
        if self.half is None or other.half is None:
            return True
        return abs(self.mean - other.mean) <= self.half + other.half

    def __str__(self) -> str:
        if not self.count:
            return "–"
        return f"{self.mean:.4g}" + (f" ± {self.half:.2g}" if self.half is not None else "")


class Report:
    """A sweep's folder, read once for all parts of its report.

    Attributes:
        settings: the varied parameters but ``seed`` that have more than one value.
        metrics: the recorded numbers to show, the sweep's own first.
        by_setting: each combination of settings as a label with an interval per metric, for
            ``seconds`` and for ``peak_memory_mb``; the best by the first metric first.
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
        self.done = self.table[self.table["status"] == State.DONE] if done else self.table[:0]
        self.by_setting = [
            (label({name: group.iloc[0][name] for name in self.settings}), _intervals(group, self))
            for _, group in self.groups(self.settings)
        ]
        if self.metrics:
            first, sign = self.metrics[0], 1 if self.smaller(self.metrics[0]) else -1
            self.by_setting.sort(key=lambda s: (not s[1][first].count, sign * s[1][first].mean))

    def groups(self, names: Sequence[str]) -> Any:
        """Return the runs that are done, grouped by the values of parameters."""
        keys = [self.done[name].map(str) for name in names]
        return self.done.groupby(keys or (lambda _: 0), sort=False)

    def smaller(self, metric: str) -> bool:
        """Return whether less of a metric is better, by the search's word or by its name."""
        search = self.about.get("search") or {}
        if metric == search.get("metric"):
            return bool(search["direction"] == "minimize")
        return bool(_SMALLER.search(metric))

    def effects(self, metric: str) -> list[list[tuple[str, Interval]]]:
        """Return, per setting, a metric's means at its values in order; the strongest first."""
        found = []
        for name in self.settings:
            means = [(label({name: v[0]}), Interval.of(g[metric])) for v, g in self.groups([name])]
            levels = sorted((m for m in means if m[1].count), key=lambda level: level[1].mean)
            found += [levels] if len(levels) > 1 else []
        return sorted(found, key=lambda levels: levels[0][1].mean - levels[-1][1].mean)


def heading(report: Report) -> list[str]:
    """Return what was run: notebook, time, versions, what is left out."""
    called = time.strftime("%Y-%m-%d %H:%M", time.localtime(report.about["called"]))
    facts = [f"notebook {Path(report.about['notebook']).name}", f"called {called}"]
    for name in ("trfnb", "commit", "spacy", "torch", "device"):
        values = report.table[name].dropna().unique() if name in report.table else ()
        facts += [f"{name} {', '.join(map(str, values[:3]))}"] if len(values) else []
    if report.outdated:
        facts.append(f"{len(report.outdated)} runs of an earlier notebook or corpus left out")
    counts = Counter(status.state.value for status in report.statuses).most_common()
    return [", ".join(f"{number} {state}" for state, number in counts), *facts]


def differences(report: Report) -> list[str]:
    """Return how far each metric's means lie apart, and which parameters move it most."""
    lines = []
    for metric in report.metrics:
        means = [row[metric].mean for _, row in report.by_setting if row[metric].count]
        moved = [
            f"{levels[0][0]} to {levels[-1][0]} ({levels[-1][1].mean - levels[0][1].mean:+.3g})"
            for levels in report.effects(metric)[:3]
        ]
        by = f"; on average from {', from '.join(moved)}" if moved else ""
        lines.append(f"{metric}: {min(means):.4g} to {max(means):.4g}{by}.")
    return lines or ["No run recorded a number: call trfnb.record(name, value) in the notebook."]


def best(report: Report) -> list[str]:
    """Return the best setting by the first metric, and what cannot be told from it."""
    if not report.metrics:
        return []
    metric, ((name, row), *rest) = report.metrics[0], report.by_setting
    top = row[metric]
    lines = [f"{metric}: {name or 'all runs'}, {top} ({top.count} run{'s' * (top.count > 1)})."]
    if rest and top.half is None:
        following = "; ".join(f"{other}, {values[metric]}" for other, values in rest[:3])
        note = "Below three seeds there are no intervals to tell them apart by."
        return [*lines, f"Next: {following}. {note}"]
    close = [f"{other}, {values[metric]}" for other, values in rest if top.meets(values[metric])]
    if close:
        more = f"; and {len(close) - 3} more" if len(close) > 3 else ""
        lines.append(f"Cannot be told from it: {'; '.join(close[:3])}{more}.")
    elif rest:
        lines.append(f"Clearly behind it: {rest[0][0]}, {rest[0][1][metric]}.")
    return lines


def costs(report: Report) -> list[str]:
    """Return time and memory of the best and the dearest setting, as ratios to the cheapest."""
    lines = []
    for column, what in (("seconds", "time"), ("peak_memory_mb", "memory")):
        found = [
            (row[column].mean, name) for name, row in report.by_setting if row[column].mean > 0
        ]
        if len(found) > 1:
            (least, low), (most, high) = min(found), max(found)
            ratio = (
                f"best setting {found[0][0] / least:.2g} ×, dearest {most / least:.2g} × ({high})"
            )
            lines.append(f"{what}: {ratio}; the cheapest is {low}.")
    return lines


def failures(report: Report) -> list[dict[str, str]]:
    """Return runs without results: what tells them apart, state, cause, path, traceback."""
    found = []
    for status in report.statuses:
        folder = f"{RUNS}/{status.run}"
        saved = (report.folder / folder / NOTEBOOK).exists()
        shown = {n: status.parameters[n] for n in report.varied if n in status.parameters}
        lines = (status.error.get("traceback") or status.cause[:2000]).splitlines()
        if status.state.bad:
            found.append({
                "name": label(shown) or status.run,
                "state": status.state.value,
                "cause": status.cause,
                "path": f"{folder}/{NOTEBOOK}" if saved else folder,
                "log": f"{folder}/{LOG}",
                "trace": "\n".join(line[:300] for line in lines),
            })  # fmt: skip
    return found


def settings_figure(report: Report) -> str:
    """Return the metrics as SVG, one row per setting, one panel per metric."""
    shown = report.by_setting[:SETTINGS]
    panels = {metric: [row[metric] for _, row in shown] for metric in report.metrics[:3]}
    return _dots([name or "all runs" for name, _ in shown], panels)


def effects_figure(report: Report) -> str:
    """Return the first metric's mean at each value of each parameter as SVG."""
    if len(report.settings) < 2 or not report.metrics:
        return ""
    levels = [one for levels in report.effects(report.metrics[0]) for one in levels][:SETTINGS]
    means = [Interval(interval.mean, None, interval.count) for _, interval in levels]
    return _dots([name for name, _ in levels], {report.metrics[0]: means})


def history_figure(report: Report) -> str:
    """Return an adaptive search's values, and the best so far, as SVG."""
    metric = str((report.about.get("search") or {}).get("metric"))
    if metric not in report.metrics:
        return ""
    values = report.done.sort_values("started")[metric].astype(float).dropna()
    best_so_far = values.cummin() if report.smaller(metric) else values.cummax()
    figure, (panel,) = _figure(6.0, 2.4, 1)
    panel.plot(range(1, len(values) + 1), values, "o", color="#9aa4b2", markersize=4)
    panel.step(range(1, len(values) + 1), best_so_far, where="post", color="#1f6feb")
    panel.set(xlabel="run that ended", ylabel=metric)
    return _svg(figure)


def label(values: dict[str, Any]) -> str:
    """Return parameters as ``name=value``, shortened to fit beside a figure."""
    each = max(8, LETTERS // max(1, len(values)))
    return " ".join(f"{short(name, each)}={short(value, each)}" for name, value in values.items())


def short(value: object, letters: int = LETTERS) -> str:
    """Return a value as text of one line, its middle left out where it is long."""
    if value is None or value != value:
        return ""
    text = " ".join(clean(f"{value:.4g}" if isinstance(value, float) else str(value)).split())
    return text if len(text) <= letters else f"{text[: letters // 2]}…{text[1 - letters // 2 :]}"


def clean(text: str) -> str:
    """Return text without the control characters that no page can hold."""
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\U0010ffff]", "\ufffd", text)


def _intervals(group: pandas.DataFrame, report: Report) -> dict[str, Interval]:
    names = [*report.metrics, "seconds", "peak_memory_mb"]
    return {name: Interval.of(group[name]) for name in names}


def _dots(labels: Sequence[str], panels: dict[str, list[Interval]]) -> str:
    """Return a dot with its interval for each label, one panel per metric, as SVG."""
    if not labels or not panels:
        return ""
    width = 0.07 * max(map(len, labels)) + 2.6 * len(panels)
    figure, axes = _figure(width, 0.8 + 0.24 * len(labels), len(panels))
    for panel, (metric, intervals) in zip(axes, panels.items(), strict=True):
        panel.errorbar(
            [interval.mean for interval in intervals],
            range(len(labels)),
            xerr=[interval.half or 0.0 for interval in intervals],
            fmt="o", color="#1f6feb", markersize=5, elinewidth=2,
        )  # fmt: skip
        panel.set_xlabel(short(metric))
        panel.locator_params(axis="x", nbins=4)
        panel.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    return _svg(figure)


def _figure(width: float, height: float, panels: int) -> tuple[Any, Any]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
        "grid.color": "#e6e9ee", "axes.axisbelow": True, "svg.fonttype": "none",
        "text.parse_math": False,
    }  # fmt: skip
    mpl.rcParams.update(style)
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, panels, sharey=panels > 1, squeeze=False)[0]


def _svg(figure: Any) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    picture = stream.getvalue()
    return picture[picture.index("<svg") :]
