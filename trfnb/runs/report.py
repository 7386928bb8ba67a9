"""A sweep's ``report.html``: answers first, then the numbers behind them, then every run.

This file computes; ``report.html`` beside it is the page's Jinja template, which escapes what
notebooks said. The page loads nothing from a network.
"""

import io
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from trfnb.files import atomic_write
from trfnb.runs.ledger import NOTEBOOK, RUNS, State, gather
from trfnb.runs.results import table_of

METRICS, SETTINGS, ROWS = 4, 40, 1000
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
    page = environment.from_string(source).render(report=report, settings_shown=SETTINGS, rows=ROWS)
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
        factor = _T[count - 3] if 3 <= count < 3 + len(_T) else 1.96 + 2.5 / max(count - 1, 1)
        half = float(factor * found.std() / count**0.5) if count > 2 else None
        return cls(float(found.mean()), half, count)

    def meets(self, other: "Interval") -> bool:
        """Return whether the two cannot be told apart, for want of seeds or by overlap."""
        if self.half is None or other.half is None:
            return True
        return abs(self.mean - other.mean) <= self.half + other.half

    def __str__(self) -> str:
        half = f" ± {self.half:.2g}" if self.half is not None else ""
        return f"{self.mean:.4g}{half}" if self.count else "–"


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
        shown = [*self.metrics, "seconds", "peak_memory_mb"]
        self.by_setting = [
            (name, {column: Interval.of(group[column]) for column in shown})
            for name, group in self._groups(self.settings)
        ]
        if self.metrics:
            first, sign = self.metrics[0], 1 if self._smaller_is_better(self.metrics[0]) else -1
            self.by_setting.sort(key=lambda s: (not s[1][first].count, sign * s[1][first].mean))

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
            means = [row[metric].mean for _, row in self.by_setting if row[metric].count]
            moved = []
            for name in self.settings:
                levels = [(float(g[metric].mean()), level) for level, g in self._groups([name])]
                levels = sorted(level for level in levels if level[0] == level[0])
                if levels:
                    (least, low), (most, high) = levels[0], levels[-1]
                    moved.append((least - most, f"from {low} to {high} ({most - least:+.3g})"))
            by = ", ".join(text for _, text in sorted(moved)[:3])
            spread = f"{metric}: {min(means):.4g} to {max(means):.4g}"
            lines.append(f"{spread}; on average {by}." if by else f"{spread}.")
        return lines or [
            "No run recorded a number: call trfnb.record(name, value) in the notebook."
        ]

    def best(self) -> list[str]:
        """Return the best setting by the first metric, and what cannot be told from it."""
        if not self.metrics:
            return []
        metric = self.metrics[0]
        (name, row), *others = self.by_setting
        top, rest = row[metric], [(other, values[metric]) for other, values in others]
        lines = [f"{metric}: {name or 'all runs'}, {top} ({top.count} run{'s' * (top.count > 1)})."]
        close = [f"{other}, {value}" for other, value in rest if top.meets(value)]
        if rest and top.half is None:
            lines.append(f"Next: {'; '.join(close[:3])}. Below three seeds there are no intervals.")
        elif close:
            more = f"; and {len(close) - 3} more" if len(close) > 3 else ""
            lines.append(f"Cannot be told from it: {'; '.join(close[:3])}{more}.")
        elif rest:
            lines.append(f"Clearly behind it: {rest[0][0]}, {rest[0][1]}.")
        return lines

    def costs(self) -> list[str]:
        """Return time and memory of the best and the dearest setting, as ratios to the cheapest."""
        lines = []
        for column, what in (("seconds", "time"), ("peak_memory_mb", "memory")):
            rows = [(row[column].mean, name) for name, row in self.by_setting]
            found = [row for row in rows if row[0] > 0]
            if len(found) > 1:
                (least, low), (most, high) = min(found), max(found)
                best = f"best setting {found[0][0] / least:.2g} ×"
                dearest = f"dearest {most / least:.2g} × ({high})"
                lines.append(f"{what}: {best}, {dearest}; the cheapest is {low}.")
        return lines

    def failures(self) -> list[dict[str, str]]:
        """Return runs without results: what tells them apart, state, cause, path, traceback."""
        found = []
        for status in self.statuses:
            path = f"{RUNS}/{status.run}"
            saved = (self.folder / path / NOTEBOOK).exists()
            shown = {n: status.parameters[n] for n in self.varied if n in status.parameters}
            lines = (status.traceback or status.cause[:2000]).splitlines()
            if status.state.bad:
                found.append({
                    "name": label(shown) or status.run,
                    "state": status.state.value,
                    "cause": status.cause,
                    "folder": path,
                    "path": f"{path}/{NOTEBOOK}" if saved else path,
                    "trace": "\n".join(line[:300] for line in lines),
                })  # fmt: skip
        return found

    def figure(self) -> str:
        """Return the metrics as SVG: one row per setting, one panel per metric."""
        import matplotlib as mpl

        from trfnb.plots import COLOURS, blank, legible

        rows, metrics = self.by_setting[:SETTINGS], self.metrics[:3]
        names = [legible(name or "all runs") for name, _ in rows]
        width = 0.07 * max(map(len, names)) + 2.6 * len(metrics)
        figure, (panels,) = blank(width, 0.8 + 0.24 * len(rows), 1, len(metrics), sharey=True)
        for panel, metric in zip(panels, metrics, strict=True):
            found = [row[metric] for _, row in rows]
            halves, places = [one.half or 0.0 for one in found], range(len(found))
            means = [one.mean for one in found]
            panel.errorbar(means, places, xerr=halves, fmt="o", color=COLOURS[0], markersize=5)
            panel.set_xlabel(legible(short(metric)))
            panel.locator_params(axis="x", nbins=4)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        stream = io.StringIO()
        with mpl.rc_context({"svg.fonttype": "none"}):
            figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        picture = stream.getvalue()
        return picture[picture.index("<svg") :]

    def _groups(self, names: list[str]) -> list[tuple[str, pandas.DataFrame]]:
        """Return the runs that are done by the values of parameters, each group with its label."""
        keys = [self.done[name].map(str) for name in names]
        groups = self.done.groupby(keys or (lambda _: 0), sort=False)
        return [(label(group.iloc[0][names].to_dict()), group) for _, group in groups]

    def _smaller_is_better(self, metric: str) -> bool:
        direction = (self.about["search"] or {}).get(metric)
        return direction == "minimize" if direction else bool(_SMALLER.search(metric))


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
