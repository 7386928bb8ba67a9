"""Static figures: scores with intervals, costs, learning curves."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

# Okabe and Ito's palette: told apart with any colour vision; markers tell the same apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INTERVAL = "mean and 95 % interval over seeds"


def scores(
    table: pd.DataFrame,
    *,
    by: str = "sharing",
    labels: Mapping[str, str] | None = None,
    title: str = "Scores on the dev split",
) -> Figure:
    """Draw each metric's mean and interval, settings side by side.

    Args:
        table: as `trfnb.experiments.intervals.intervals` gives it.
        by: the column whose values are told apart by colour and marker.
        labels: what to call the metrics on the axis.
        title: of the figure.
    """
    metrics, settings = _unique(table["metric"]), _unique(table[by])
    figure, axes = _figure(1.6 + 1.5 * len(metrics), 3.6)
    step = min(0.18, 0.75 / len(settings))
    for place, (setting, colour, marker) in enumerate(_styles(settings)):
        rows = table[table[by] == setting].set_index("metric").reindex(metrics)
        x = np.arange(len(metrics)) + (place - (len(settings) - 1) / 2) * step
        _points(axes, x, rows, colour, marker, str(setting))
    axes.set_xticks(range(len(metrics)), [(labels or {}).get(name, name) for name in metrics])
    axes.set_xlim(-0.6, len(metrics) - 0.4)
    axes.set_ylabel(f"score\n{INTERVAL}")
    axes.set_title(title, loc="left")
    _legend(axes, by)
    return figure


def costs(
    table: pd.DataFrame, *, by: str = "sharing", labels: Mapping[str, str] | None = None
) -> Figure:
    """Draw one panel of bars for each cost, from zero, with intervals.

    Args:
        table: as `trfnb.experiments.intervals.intervals` gives it.
        by: the column whose values get a bar each.
        labels: the costs' units, as in `trfnb.experiments.measures.UNITS`.
    """
    metrics, settings = _unique(table["metric"]), _unique(table[by])
    figure = _empty(2.4 * len(metrics), 3.2)
    for axes, metric in zip(
        figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True
    ):
        rows = table[table["metric"] == metric].set_index(by).reindex(settings)
        colours = [colour for _, colour, _ in _styles(settings)]
        bars = axes.bar(
            [str(s) for s in settings], rows["mean"], yerr=_half(rows), color=colours, capsize=3
        )
        axes.bar_label(bars, [_short(value) for value in rows["mean"]], padding=2)
        axes.set_ylabel((labels or {}).get(metric, metric))
        axes.tick_params(axis="x", rotation=25)
        axes.margins(y=0.12)
        _tidy(axes)
    figure.suptitle(f"Costs: {INTERVAL}", x=0.01, ha="left")
    return figure


def learning_curves(
    histories: Mapping[str, pd.DataFrame | Sequence[pd.DataFrame]],
    *,
    x: str = "words",
    y: str = "score",
    label: str = "weighted dev score",
) -> Figure:
    """Draw the score at every evaluation against the words, seconds or updates so far.

    Args:
        histories: by name, the history of one `trfnb.experiments.training.Trained` or of several
            seeds; one thin line a seed, one colour a name.
        x: ``"words"``, ``"seconds"`` or ``"step"``.
        y: a column that evaluations fill.
        label: of the y axis.
    """
    figure, axes = _figure(6.0, 3.6)
    for name, colour, marker in _styles(list(histories)):
        seeds = histories[name]
        for place, history in enumerate([seeds] if isinstance(seeds, pd.DataFrame) else seeds):
            along = history[x] if x == "step" else history[x].cumsum()
            known = history[y].notna()
            axes.plot(
                along[known],
                history[y][known],
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.2,
                label=name if place == 0 else None,
            )
    units = {"words": "words seen in training", "seconds": "seconds of updates", "step": "updates"}
    axes.set_xlabel(units.get(x, x))
    axes.set_ylabel(label)
    _legend(axes)
    return figure


def interval_lines(
    table: pd.DataFrame,
    x: str,
    *,
    hue: str | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    logx: bool = False,
) -> Figure:
    """Draw one metric against a parameter, a line with interval bars for each hue.

    Args:
        table: as `trfnb.experiments.intervals.intervals` gives it, of one metric.
        x: the parameter's column; text and mixed values are spread evenly in their order.
        hue: the column whose values get a line each.
        xlabel: with the unit; the column's name if left out.
        ylabel: with the unit; the metric's name if left out.
        logx: spread the parameter on a logarithmic axis.

    Raises:
        ValueError: the table holds several metrics.
    """
    metrics = _unique(table["metric"])
    if len(metrics) != 1:
        raise ValueError(f"interval_lines: expected one metric, got {metrics}; select one's rows.")
    figure, axes = _figure(6.0, 3.6)
    numeric = pd.api.types.is_numeric_dtype(table[x])
    ticks = _unique(table[x])
    for name, colour, marker in _styles(_unique(table[hue]) if hue else [None]):
        rows = table if hue is None else table[table[hue] == name]
        rows = rows.sort_values(x) if numeric else rows
        places = rows[x] if numeric else [ticks.index(value) for value in rows[x]]
        axes.plot(places, rows["mean"], color=colour, linewidth=1.2)
        _points(axes, places, rows, colour, marker, None if name is None else str(name))
    if not numeric:
        axes.set_xticks(range(len(ticks)), [str(value) for value in ticks])
    if logx:
        axes.set_xscale("log")
    axes.set_xlabel(xlabel or x)
    axes.set_ylabel(f"{ylabel or metrics[0]}\n{INTERVAL}")
    if hue:
        _legend(axes, hue)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _empty(width, height)
    axes = figure.subplots()
    _tidy(axes)
    return figure, axes


def _empty(width: float, height: float) -> Figure:
    """Make a figure that notebooks show where it is named, and pyplot does not keep."""
    figure = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(figure)
    return figure


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.5, alpha=0.4)
    axes.set_axisbelow(True)


def _points(
    axes: Axes, x: ArrayLike, rows: pd.DataFrame, colour: str, marker: str, label: str | None
) -> None:
    axes.errorbar(
        x,
        rows["mean"],
        yerr=_half(rows),
        color=colour,
        marker=marker,
        linestyle="none",
        capsize=3,
        label=label,
    )


def _half(rows: pd.DataFrame) -> np.ndarray:
    """Half-widths below and above; nothing is drawn for the unknown spread of a single run."""
    halves = np.array([rows["mean"] - rows["low"], rows["high"] - rows["mean"]], dtype=float)
    return np.nan_to_num(halves)


def _legend(axes: Axes, title: str | None = None) -> None:
    axes.legend(title=title, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _styles(names: Sequence) -> list[tuple]:
    return list(zip(names, cycle(COLOURS), cycle(MARKERS), strict=False))


def _unique(column: pd.Series) -> list:
    return list(dict.fromkeys(column))


def _short(value: float) -> str:
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
