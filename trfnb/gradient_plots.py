"""Static figures of what meets at a shared output: norms, factors, conflicts, forgetting."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trfnb.flow.gradient_log import GradientLog
from trfnb.plots import _legend, _styles, _tidy

_STEPS = "training step"


def norms(table: pd.DataFrame, *, column: str = "norm", smooth: int = 10) -> Figure:
    """Draw each listener's gradient norm over the steps.

    Args:
        table: As `trfnb.flow.gradient_log.GradientLog.table` gives it.
        column: ``"norm"``, after the factor, or ``"raw_norm"``.
        smooth: Steps of a running mean, drawn over the pale values.
    """
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    _norms(figure.subplots(), table, column, smooth)
    return figure


def factors(table: pd.DataFrame) -> Figure:
    """Draw each listener's effective factor over the steps."""
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    _factors(figure.subplots(), table)
    return figure


def conflicts(table: pd.DataFrame, *, bins: int = 40) -> Figure:
    """Draw a heat map of the cosine of each pair over the steps; white where none is known.

    Args:
        table: As `trfnb.flow.gradient_log.GradientLog.conflicts` gives it.
        bins: Columns of the map, each the mean of its steps.
    """
    pairs = table[["first", "second"]].drop_duplicates()
    figure = Figure(figsize=(6.4, 1.4 + 0.35 * len(pairs)), layout="constrained")
    _conflicts(figure, figure.subplots(), table, bins)
    return figure


def overview(log: GradientLog) -> Figure:
    """Draw factors, norms and conflicts above each other, over the same steps."""
    table, pairs = log.table(), log.conflicts()
    figure = Figure(figsize=(7.2, 7.0), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    _factors(top, table)
    _norms(middle, table, "norm", 10)
    _conflicts(figure, bottom, pairs, 40)
    for axes in (top, middle):
        axes.set_xlabel("")
    return figure


def matrix(
    table: pd.DataFrame,
    rows: Sequence[str] = ("replay", "factor"),
    columns: str = "metric",
    value: str = "mean",
    *,
    title: str = "",
) -> Figure:
    """Draw numbers in a grid, shaded; the forgetting matrix is one.

    Args:
        table: A row a cell.
        rows: Columns of the table whose values name a row of the grid.
        columns: The column whose values name a column of the grid.
        value: The number; ``low`` and ``high`` beside it, if present, are written below it.
        title: Of the figure.
    """
    names = table[list(rows)].drop_duplicates()
    heads = list(dict.fromkeys(table[columns]))
    figure = Figure(figsize=(2.2 + 1.5 * len(heads), 1.2 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    grid = np.full((len(names), len(heads)), np.nan)
    for i, name in enumerate(names.itertuples(index=False)):
        for j, head in enumerate(heads):
            here = table[(table[list(rows)] == list(name)).all(axis=1) & (table[columns] == head)]
            if here.empty:
                continue
            cell = here.iloc[0]
            grid[i, j] = cell[value]
            half = (cell["high"] - cell["low"]) / 2 if {"high", "low"} <= set(here) else np.nan
            text = f"{cell[value]:.3f}" + ("" if np.isnan(half) else f" ± {half:.3f}")
            axes.text(j, i, text, ha="center", va="center", fontsize=8)
    axes.imshow(np.ma.masked_invalid(grid), cmap="Blues", alpha=0.55, aspect="auto")
    axes.set_xticks(range(len(heads)), heads)
    labels = [", ".join(map(str, name)) for name in names.itertuples(index=False)]
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylabel(", ".join(rows))
    axes.set_title(title, loc="left")
    return figure


def _norms(axes: Axes, table: pd.DataFrame, column: str, smooth: int) -> None:
    _tidy(axes)
    for name, colour, _ in _styles(list(table["listener"].unique())):
        rows = table[table["listener"] == name]
        axes.plot(rows["step"], rows[column], color=colour, alpha=0.25, linewidth=0.8)
        mean = rows[column].rolling(smooth, min_periods=1).mean()
        axes.plot(rows["step"], mean, color=colour, linewidth=1.5, label=name)
    which = "after the factor" if column == "norm" else "before the factor"
    axes.set(xlabel=_STEPS, ylabel=f"gradient norm,\n{which}")
    axes.set_ylim(bottom=0)
    _legend(axes, f"mean of {smooth} steps")


def _factors(axes: Axes, table: pd.DataFrame) -> None:
    _tidy(axes)
    for name, colour, _ in _styles(list(table["listener"].unique())):
        rows = table[table["listener"] == name]
        axes.step(rows["step"], rows["factor"], color=colour, label=name, where="mid")
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(xlabel=_STEPS, ylabel="effective factor")
    _legend(axes, "listener")


def _conflicts(figure: Figure, axes: Axes, table: pd.DataFrame, bins: int) -> None:
    pairs = [f"{a} · {b}" for a, b in table[["first", "second"]].drop_duplicates().to_numpy()]
    last = int(table["step"].max()) if len(table) else 1
    edges = np.unique(np.linspace(0, last, min(bins, last) + 1).astype(int))
    named = table.assign(
        pair=table["first"] + " · " + table["second"],
        bin=np.searchsorted(edges, table["step"], side="left") - 1,
    )
    grid = named.pivot_table(index="pair", columns="bin", values="cosine", dropna=False)
    values = grid.reindex(index=pairs, columns=range(len(edges) - 1)).to_numpy(dtype=float)
    mesh = axes.pcolormesh(
        edges + 0.5, np.arange(len(pairs) + 1), np.ma.masked_invalid(values),
        cmap="RdBu", vmin=-1, vmax=1,
    )  # fmt: skip
    axes.set_yticks(np.arange(len(pairs)) + 0.5, pairs)
    axes.invert_yaxis()
    axes.set_xlabel(_STEPS)
    figure.colorbar(mesh, ax=axes, label="cosine\n(red: conflict)")
