"""Static figures: scores with intervals, costs, learning curves, gradients; and their one style."""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import cycle
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

if TYPE_CHECKING:
    from trfnb.flow.measurement import GradientLog

# Okabe and Ito's palette: told apart with any colour vision; markers tell the same apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Both come with matplotlib; the second has letters and signs that the first lacks.
FONTS = ("DejaVu Sans Mono", "DejaVu Sans")
INTERVAL = "mean and 95 % interval over seeds"
_STEPS = "training step"


def blank(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Make an empty figure in the style of all figures here.

    Args:
        width: In inches.
        height: In inches.
        rows: Of panels.
        columns: Of panels.
        options: For `matplotlib.figure.Figure.subplots`.

    Returns:
        The figure, which pyplot does not keep, and its panels, (rows, columns).
    """
    figure = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(figure)
    panels: np.ndarray = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in panels.ravel():
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(axis="y", linewidth=0.5, alpha=0.4)
        axes.tick_params(labelsize=8)
    return figure, panels


def legible(text: str) -> str:
    """Write what no font here can draw as its code point, and a dollar sign as itself."""
    drawable = (
        c
        if c == "\n" or (c.isprintable() and any(f.get_char_index(ord(c)) for f in _glyphs()))
        else f"U+{ord(c):04X}"
        for c in text
    )
    return "".join(drawable).replace("$", r"\$")  # it would begin a formula


def scores(
    table: pd.DataFrame,
    *,
    by: str = "sharing",
    labels: Mapping[str, str] | None = None,
    title: str = "Scores on the dev split",
) -> Figure:
    """Draw each metric's mean and interval, settings side by side.

    Args:
        table: As `trfnb.experiments.intervals.intervals` gives it; no score lies below 0.
        by: The column whose values are told apart by colour and marker.
        labels: What to call the metrics on the axis.
        title: Of the figure.
    """
    metrics, settings = _unique(table["metric"]), _unique(table[by])
    figure, ((axes,),) = blank(1.6 + 1.5 * len(metrics), 3.6)
    step = min(0.18, 0.75 / len(settings))
    for place, (setting, colour, marker) in enumerate(_styles(settings)):
        rows = table[table[by] == setting].set_index("metric").reindex(metrics)
        x = np.arange(len(metrics)) + (place - (len(settings) - 1) / 2) * step
        _points(axes, x, rows, colour, marker, str(setting), floor=0.0)
    names = [legible((labels or {}).get(name, name)) for name in metrics]
    axes.set_xticks(range(len(metrics)), names)
    axes.set_xlim(-0.6, len(metrics) - 0.4)
    axes.set_ylabel(f"score\n{INTERVAL}")
    axes.set_title(legible(title), loc="left", fontsize=10)
    _legend(axes, by)
    return figure


def costs(
    table: pd.DataFrame, *, by: str = "sharing", labels: Mapping[str, str] | None = None
) -> Figure:
    """Draw one panel of bars for each cost, from zero, with intervals that end at zero.

    Args:
        table: As `trfnb.experiments.intervals.intervals` gives it.
        by: The column whose values get a bar each.
        labels: The costs' units, as in `trfnb.experiments.measures.UNITS`.
    """
    metrics, settings = _unique(table["metric"]), _unique(table[by])
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    width = columns * max(2.8, 0.7 * len(settings))
    figure, panels = blank(width, 2.9 * lines + 0.3, lines, columns)
    colours = [colour for _, colour, _ in _styles(settings)]
    for axes, metric in zip(panels.ravel(), metrics, strict=False):
        rows = table[table["metric"] == metric].set_index(by).reindex(settings)
        places = range(len(settings))
        bars = axes.bar(places, rows["mean"], 0.6, yerr=_half(rows, 0.0), color=colours, capsize=3)
        axes.bar_label(bars, [number(value) for value in rows["mean"]], padding=2, fontsize=8)
        names = [legible(str(setting)) for setting in settings]
        axes.set_xticks(places, names, rotation=25, ha="right")
        axes.set_ylabel((labels or {}).get(metric, metric))
        axes.yaxis.set_major_formatter(lambda value, _: number(value))
        axes.margins(y=0.15)
    for axes in panels.ravel()[len(metrics) :]:
        axes.axis("off")
    figure.suptitle(f"Costs: {INTERVAL}", x=0.01, ha="left", fontsize=10)
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
        histories: By name, the history of one `trfnb.experiments.training.Trained` or of several
            seeds; one thin line per seed, one colour per name.
        x: ``"words"``, ``"seconds"`` or ``"step"``.
        y: A column that evaluations fill.
        label: Of the y axis.
    """
    figure, ((axes,),) = blank(6.0, 3.6)
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
                label=legible(name) if place == 0 else None,
            )
    units = {"words": "words seen in training", "seconds": "seconds of updates", "step": "updates"}
    axes.set_xlabel(units.get(x, x))
    axes.set_ylabel(label)
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
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
    floor: float | None = None,
) -> Figure:
    """Draw one metric against a parameter, a line with interval bars for each hue.

    Args:
        table: As `trfnb.experiments.intervals.intervals` gives it, of one metric.
        x: The parameter's column; text and mixed values are spread evenly in their order.
        hue: The column whose values get a line each, a little beside each other.
        xlabel: With the unit; the column's name if left out.
        ylabel: With the unit; the metric's name if left out.
        logx: Spread the parameter on a logarithmic axis, with its own values as ticks.
        floor: Where intervals end, such as 0 for scores; None for differences.

    Raises:
        ValueError: The table holds several metrics.
    """
    metrics = _unique(table["metric"])
    if len(metrics) != 1:
        raise ValueError(f"interval_lines: expected one metric, got {metrics}; select one's rows.")
    figure, ((axes,),) = blank(6.0, 3.6)
    numeric = pd.api.types.is_numeric_dtype(table[x])
    ticks = sorted(set(table[x])) if numeric else _unique(table[x])
    hues = _unique(table[hue]) if hue else [None]
    width = float(np.ptp(ticks)) * 0.012 if numeric else min(0.1, 0.6 / len(hues))
    for place, (name, colour, marker) in enumerate(_styles(hues)):
        rows = table if hue is None else table[table[hue] == name]
        rows = rows.sort_values(x) if numeric else rows
        places = np.array(rows[x] if numeric else [ticks.index(value) for value in rows[x]], float)
        shift = place - (len(hues) - 1) / 2
        places = places * 1.03**shift if logx else places + shift * width
        axes.plot(places, rows["mean"], color=colour, linewidth=1.2)
        label = None if name is None else str(name)
        _points(axes, places, rows, colour, marker, label, floor=floor)
    if logx:
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
        axes.minorticks_off()
    elif not numeric:
        axes.set_xticks(range(len(ticks)), [legible(str(tick)) for tick in ticks])
    axes.set_xlabel(xlabel or x)
    axes.set_ylabel(f"{ylabel or metrics[0]}\n{INTERVAL}")
    if hue:
        _legend(axes, hue)
    return figure


def matrix(
    table: pd.DataFrame,
    rows: Sequence[str] = ("replay", "factor"),
    columns: str = "metric",
    value: str = "mean",
    *,
    title: str = "",
) -> Figure:
    """Draw numbers in a grid; the forgetting matrix is one.

    Columns may hold different metrics: each is shaded from its own lowest to its own highest.

    Args:
        table: One row per cell.
        rows: Columns of the table whose values name a row of the grid.
        columns: The column whose values name a column of the grid.
        value: The number; the half-width of ``low`` to ``high`` is written beside it, if present.
        title: Of the figure.
    """
    names = table[list(rows)].drop_duplicates()
    heads = _unique(table[columns])
    figure, ((axes,),) = blank(2.6 + 1.5 * len(heads), 1.2 + 0.42 * len(names))
    grid = np.full((len(names), len(heads)), np.nan)
    for i, name in enumerate(names.itertuples(index=False)):
        for j, head in enumerate(heads):
            here = table[(table[list(rows)] == list(name)).all(axis=1) & (table[columns] == head)]
            if here.empty:
                continue
            cell = here.iloc[0]
            grid[i, j] = cell[value]
            half = (cell["high"] - cell["low"]) / 2 if {"high", "low"} <= set(here) else np.nan
            text = number(cell[value]) + ("" if np.isnan(half) else f" ± {number(half)}")
            axes.text(j, i, text, ha="center", va="center", fontsize=8)
    low, high = np.nanmin(grid, axis=0), np.nanmax(grid, axis=0)
    shades = (grid - low) / np.where(high > low, high - low, 1.0)
    axes.imshow(np.ma.masked_invalid(shades), cmap="Blues", alpha=0.5, vmax=1.2, aspect="auto")
    axes.set_xticks(range(len(heads)), [legible(str(head)) for head in heads])
    labels = [
        ", ".join(f"{row} {cell:g}" if isinstance(cell, float) else f"{row} {cell}"
                  for row, cell in zip(rows, name, strict=True))
        for name in names.itertuples(index=False)
    ]  # fmt: skip
    axes.set_yticks(range(len(names)), labels)
    axes.set_xlabel("darker: higher within its column")
    axes.set_title(legible(title), loc="left", fontsize=10)
    axes.grid(visible=False)
    return figure


def draws(table: pd.DataFrame, *, ylabel: str, chance: float | None = None) -> Figure:
    """Draw each column's values as dots with their mean: what a box hides of few values.

    Args:
        table: One column per setting, one row per repetition.
        ylabel: With the unit.
        chance: A level to draw as a dotted line.
    """
    figure, ((axes,),) = blank(1.6 + 1.1 * table.shape[1], 3.2)
    for place, (name, colour, marker) in enumerate(_styles(list(table))):
        values = table[name].dropna()
        beside = place + np.linspace(-0.2, 0.2, len(values))
        axes.plot(beside, values, marker, color=colour, markersize=4, alpha=0.6)
        axes.plot([place - 0.3, place + 0.3], [values.mean()] * 2, color=colour, linewidth=2)
    if chance is not None:
        axes.axhline(chance, linestyle=":", color="0.4")
        axes.text(-0.45, chance, "chance", va="bottom", color="0.4", fontsize=8)
    axes.set_xticks(range(table.shape[1]), [legible(str(name)) for name in table])
    axes.set_ylabel(f"{ylabel}\ndots: repetitions, line: mean")
    return figure


def norms(
    table: pd.DataFrame, *, column: str = "norm", smooth: int = 10, axes: Any = None
) -> Figure:
    """Draw each listener's gradient norm over the steps.

    Args:
        table: As `trfnb.flow.measurement.GradientLog.table` gives it.
        column: ``"norm"``, after the factor, or ``"raw_norm"``.
        smooth: Steps of a running mean, drawn over the pale values.
        axes: Where to draw; a new figure's if left out.
    """
    axes = blank(6.4, 3.2)[1][0, 0] if axes is None else axes
    for name, colour, _ in _styles(_unique(table["listener"])):
        rows = table[table["listener"] == name]
        axes.plot(rows["step"], rows[column], color=colour, alpha=0.25, linewidth=0.8)
        mean = rows[column].rolling(smooth, min_periods=1).mean()
        axes.plot(rows["step"], mean, color=colour, linewidth=1.5, label=name)
    which = "after the factor" if column == "norm" else "before the factor"
    axes.set(xlabel=_STEPS, ylabel=f"gradient norm,\n{which}")
    axes.set_ylim(bottom=0)
    _legend(axes, f"mean of {smooth} steps")
    return axes.figure


def factors(table: pd.DataFrame, *, axes: Any = None) -> Figure:
    """Draw each listener's effective factor over the steps of such a table."""
    axes = blank(6.4, 2.6)[1][0, 0] if axes is None else axes
    for name, colour, _ in _styles(_unique(table["listener"])):
        rows = table[table["listener"] == name]
        axes.step(rows["step"], rows["factor"], color=colour, label=name, where="mid")
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(xlabel=_STEPS, ylabel="effective factor")
    _legend(axes, "listener")
    return axes.figure


def conflicts(table: pd.DataFrame, *, bins: int = 40, axes: Any = None) -> Figure:
    """Draw a heat map of the cosine of each pair over the steps; grey where none is known.

    Args:
        table: As `trfnb.flow.measurement.GradientLog.conflicts` gives it.
        bins: Columns of the map, each the mean of its steps.
        axes: Where to draw; a new figure's if left out.
    """
    named = table.assign(pair=table["first"] + " – " + table["second"])
    pairs = _unique(named["pair"])
    axes = blank(6.4, 1.4 + 0.35 * len(pairs))[1][0, 0] if axes is None else axes
    last = int(table["step"].max()) if len(table) else 1
    edges = np.unique(np.linspace(0, last, min(bins, last) + 1).astype(int))
    named["bin"] = np.searchsorted(edges, table["step"], side="left") - 1
    grid = named.pivot_table(index="pair", columns="bin", values="cosine", dropna=False)
    values = grid.reindex(index=pairs, columns=range(len(edges) - 1)).to_numpy(dtype=float)
    # Cosines of gradients are small: on a scale to 1 the map would be white.
    limit = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    mesh = axes.pcolormesh(
        edges + 0.5,
        np.arange(len(pairs) + 1),
        np.ma.masked_invalid(values),
        cmap="RdBu",
        vmin=-limit,
        vmax=limit,
    )
    axes.set_facecolor("0.85")
    axes.grid(visible=False)
    axes.set_yticks(np.arange(len(pairs)) + 0.5, pairs)
    axes.invert_yaxis()
    axes.set_xlabel(_STEPS)
    axes.figure.colorbar(mesh, ax=axes, label="cosine\n(red: conflict;\ngrey: not known)")
    return axes.figure


def overview(log: "GradientLog") -> Figure:
    """Draw factors, norms and conflicts of at least one step above each other."""
    figure, panels = blank(7.2, 7.0, 3, sharex=True)
    factors(log.table(), axes=panels[0, 0])
    norms(log.table(), axes=panels[1, 0])
    conflicts(log.conflicts(), axes=panels[2, 0])
    for axes in panels[:2, 0]:
        axes.set_xlabel("")
    return figure


def number(value: float) -> str:
    """Write a number with three digits that count, and M and k for millions and thousands."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}" if abs(value) >= 1 or value == 0 else f"{value:.3f}"


def _points(
    axes: Axes,
    x: np.ndarray,
    rows: pd.DataFrame,
    colour: str,
    marker: str,
    label: str | None,
    *,
    floor: float | None,
) -> None:
    axes.errorbar(
        x,
        rows["mean"],
        yerr=_half(rows, floor),
        color=colour,
        marker=marker,
        markersize=5,
        linestyle="none",
        capsize=3,
        label=label if label is None else legible(label),
    )


def _half(rows: pd.DataFrame, floor: float | None) -> np.ndarray:
    """Half-widths below and above; nothing is drawn for the unknown spread of a single run."""
    low = rows["low"] if floor is None else rows["low"].clip(lower=floor)
    halves = np.array([rows["mean"] - low, rows["high"] - rows["mean"]], dtype=float)
    return np.nan_to_num(halves)


def _legend(axes: Axes, title: str | None = None) -> None:
    axes.legend(title=title, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)


def _styles(names: Sequence[Any]) -> list[tuple[Any, str, str]]:
    return list(zip(names, cycle(COLOURS), cycle(MARKERS), strict=False))


def _unique(column: pd.Series) -> list[Any]:
    return list(dict.fromkeys(column))


@cache
def _glyphs() -> tuple[FT2Font, ...]:
    return tuple(FT2Font(font_manager.findfont(name)) for name in FONTS)
