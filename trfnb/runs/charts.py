"""The report's figures, as inline SVG that needs no script and no network."""

import io
import re
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trfnb.runs.statistics import Interval

INK, ACCENT, QUIET = "#222222", "#1f6feb", "#9aa4b2"
MOST_ROWS = 30
MOST_PANELS = 3  # beside each other: more are too small to read in a page
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": "#e6e9ee",
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "trfnb",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans", "sans-serif"],
}
Rows = Sequence[tuple[Mapping[str, Any], Mapping[str, Interval | None]]]


def intervals(rows: Rows, metrics: Sequence[str]) -> str:
    """Return a dot with its interval for each setting, a panel a metric."""
    labels = [" ".join(f"{k}={_short(v)}" for k, v in s.items()) or "all runs" for s, _ in rows]
    with mpl.rc_context(STYLE):
        across = min(len(metrics), MOST_PANELS)
        down = ceil(len(metrics) / across)
        size = (2.2 + 2.6 * across, (0.9 + 0.24 * len(rows)) * down)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
        for panel in panels[len(metrics) :]:
            panel.set_visible(False)
        for panel, metric in zip(panels, metrics, strict=False):
            for place, (_, values) in enumerate(rows):
                interval = values[metric]
                if interval is not None:
                    _dot(panel, interval, place)
            panel.set_xlabel(metric)
            panel.grid(axis="y", visible=False)
            panel.locator_params(axis="x", nbins=4)
        panels[0].set_yticks(range(len(rows)), labels)
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        return _svg(figure, f"{', '.join(metrics)} by setting")


def _dot(panel: Axes, interval: Interval, place: float, *, upright: bool = False) -> None:
    ends, at = [interval.low, interval.high], [place, place]
    line, dot = (
        ((at, ends), (place, interval.mean))
        if upright
        else (
            (ends, at),
            (interval.mean, place),
        )
    )
    panel.plot(*line, color=ACCENT, linewidth=2, alpha=0.45, solid_capstyle="round")
    panel.plot(*dot, marker="o", color=ACCENT, markersize=5)


def effects(found: Mapping[str, Sequence[tuple[Any, Interval]]], metric: str) -> str:
    """Return a panel a parameter: the metric's mean at each of its values."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 2.3 * len(found), 2.4), layout="constrained")
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for panel, (name, levels) in zip(panels, found.items(), strict=True):
            many = len(levels) > 12
            numeric = many and all(isinstance(level, int | float) for level, _ in levels)
            places = [float(level) for level, _ in levels] if numeric else range(len(levels))
            for place, (_, interval) in zip(places, levels, strict=True):
                _dot(panel, interval, place, upright=True)
            if not numeric:
                labels = [_short(level) for level, _ in levels]
                turned = 30 if sum(map(len, labels)) > 24 else 0
                panel.set_xticks(range(len(levels)), labels, rotation=turned)
                panel.set_xlim(-0.5, len(levels) - 0.5)
            panel.set_title(name, fontsize=9, loc="left")
            panel.grid(axis="x", visible=False)
        panels[0].set_ylabel(metric)
        return _svg(figure, f"main effects on {metric}")


def history(values: Sequence[float], metric: str, *, smaller: bool) -> str:
    """Return each trial's value and the best so far."""
    best = [(min if smaller else max)(values[: place + 1]) for place in range(len(values))]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6, 2.4), layout="constrained")
        panel = figure.subplots()
        panel.plot(range(1, len(values) + 1), values, "o", color=QUIET, markersize=4)
        panel.step(range(1, len(values) + 1), best, where="post", color=ACCENT)
        panel.set_xlabel("trial")
        panel.set_ylabel(metric)
        return _svg(figure, f"search history of {metric}")


def _short(value: object) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) < 25 else f"…{text[-22:]}"


def _svg(figure: Figure, title: str) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Title": title, "Creator": None})
    picture = stream.getvalue()
    picture = picture[picture.index("<svg") :]
    return (
        f"<div class='chart'>{re.sub(r'<metadata>.*?</metadata>', '', picture, flags=re.S)}</div>"
    )
