"""Static figures in one style: scores, costs, learning curves, gradients; spans, alignment."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import cycle, product
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from spacy.tokens import Doc, Span
    from thinc.types import Ragged

    from trfnb.flow.gradients import GradientLog
    from trfnb.flow.wordpieces import Wordpieces

# Okabe and Ito's palette: told apart with any colour vision; markers tell the same apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INTERVAL = "mean and 95 % interval over seeds"
SMOOTH = 10  # steps of a running mean


def scores(
    table: pd.DataFrame,
    *,
    by: str = "sharing",
    labels: Mapping[str, str] | None = None,
    title: str = "Scores on the dev split",
) -> Figure:
    """Draw each metric's mean and interval, settings side by side.

    Args:
        table: As `trfnb.statistics.intervals` gives it; no score lies below 0.
        by: The column whose values are told apart by colour and marker.
        labels: What to call the metrics on the axis.
        title: Of the figure.
    """
    named = table.assign(metric=table["metric"].replace(labels or {}))
    figure = _intervals(named, "metric", by, floor=0.0, joined=False)
    figure.axes[0].set_ylabel(f"score\n{INTERVAL}")
    figure.axes[0].set_title(plain(title), loc="left", fontsize=10)
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
        table: As `trfnb.statistics.intervals` gives it, of one metric.
        x: The parameter's column; text and mixed values are spread evenly in their order.
        hue: The column whose values get a line each, a little beside each other.
        xlabel: With the unit; the column's name if left out.
        ylabel: With the unit; the metric's name if left out.
        logx: Spread the parameter on a logarithmic axis, with its own values as ticks.
        floor: Where intervals end, such as 0 for scores; None for differences.

    Raises:
        ValueError: The table holds several metrics.
    """
    metrics = table["metric"].unique().tolist()
    if len(metrics) != 1:
        raise ValueError(f"interval_lines: expected one metric, got {metrics}; select one's rows.")
    figure = _intervals(table, x, hue, floor=floor, joined=True, logx=logx)
    figure.axes[0].set(xlabel=xlabel or x, ylabel=f"{ylabel or metrics[0]}\n{INTERVAL}")
    return figure


def tradeoff(
    table: pd.DataFrame,
    scores: Mapping[str, str],
    costs: Mapping[str, str],
    *,
    by: str = "sharing",
) -> Figure:
    """Draw each score against each cost: a point with intervals per setting, and the Pareto front.

    On the front lies a setting that no other beats in the one without losing in the other.

    Args:
        table: As `trfnb.statistics.intervals` gives it, with all of these metrics.
        scores: What to call each score, by its metric; a column of panels each.
        costs: What to call each cost, by its metric; a row of panels each. Less is better, but
            of a speed ("per_second") more.
        by: The column whose values get a point each.
    """
    width = max(5.6, 2.2 * len(scores) + 1.2)
    figure, panels = blank(
        width, 2.1 * len(costs) + 0.4, len(costs), len(scores), sharex="row", sharey="col"
    )
    rows = {
        name: table[table["metric"] == name].set_index(by)
        for name in table["metric"].unique().tolist()
    }
    for (line, cost), (column, score) in product(enumerate(costs), enumerate(scores)):
        axes, x, y = panels[line, column], rows[cost], rows[score]
        means = pd.DataFrame({"x": x["mean"], "y": y["mean"]}).dropna()
        better = means.sort_values(["x", "y"], ascending=["per_second" not in cost, False])
        front = better[better["y"] > better["y"].cummax().shift(fill_value=-np.inf)]
        axes.plot(front["x"], front["y"], "--", color="0.6", linewidth=1, label="Pareto front")
        for name, colour, marker in _styles(list(means.index)):
            axes.errorbar(
                *means.loc[name],
                xerr=_half(x.loc[[name]], 0.0),
                yerr=_half(y.loc[[name]], 0.0),
                color=colour,
                marker=marker,
                linestyle="none",
                capsize=2,
                label=plain(name),
            )
        axes.margins(0.15)
        axes.xaxis.set_major_formatter(lambda value, _: number(value))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(plain(costs[cost]), fontsize=8)
    for axes, score in zip(panels[0], scores, strict=True):
        axes.set_title(plain(scores[score]), loc="left", fontsize=9)
    _legend(panels[0, -1])
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
            curve = pd.DataFrame({"x": along, "y": history[y]}).dropna()
            axes.plot(
                curve["x"],
                curve["y"],
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.2,
                label=None if place else plain(name),
            )
    units = {"words": "words seen in training", "seconds": "seconds of updates", "step": "updates"}
    axes.set(xlabel=units[x], ylabel=label)
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    _legend(axes)
    return figure


def draws(table: pd.DataFrame, *, ylabel: str, chance: float) -> Figure:
    """Draw each column's values as dots with their mean: what a box hides of few values.

    Args:
        table: One column per setting, one row per repetition.
        ylabel: With the unit.
        chance: A level to draw as a dotted line.
    """
    figure, ((axes,),) = blank(1.6 + 1.1 * table.shape[1], 3.2)
    for place, (name, colour, marker) in enumerate(_styles(list(table))):
        beside = place + np.linspace(-0.2, 0.2, len(table))
        axes.plot(beside, table[name], marker, color=colour, markersize=4, alpha=0.6)
        axes.plot([place - 0.3, place + 0.3], [table[name].mean()] * 2, color=colour, linewidth=2)
    axes.axhline(chance, linestyle=":", color="0.4")
    axes.text(-0.45, chance, "chance", va="bottom", color="0.4", fontsize=8)
    axes.set_xticks(range(table.shape[1]), [plain(name) for name in table])
    axes.set_xlim(-0.5, table.shape[1] - 0.5)
    axes.set_ylabel(f"{ylabel}\ndots: repetitions, line: mean")
    return figure


def norms(table: pd.DataFrame, *, column: str = "norm", axes: Any = None) -> Figure:
    """Draw each listener's gradient norm over the steps, and its running mean.

    Args:
        table: As `trfnb.flow.gradients.GradientLog.table` gives it.
        column: ``"norm"``, after the factor, or ``"raw_norm"``.
        axes: Where to draw; a new figure's if left out.
    """
    which = {"norm": "after", "raw_norm": "before"}[column]
    ylabel = f"gradient norm\n{which} the factor"
    return _over_steps(table, "listener", column, ylabel, axes, smooth=SMOOTH)


def factors(table: pd.DataFrame, *, axes: Any = None) -> Figure:
    """Draw each listener's effective factor over the steps of such a table."""
    figure = _over_steps(table, "listener", "factor", "effective factor\n(log scale)", axes)
    (axes or figure.axes[0]).set_yscale("symlog", linthresh=0.01, linscale=0.5)
    return figure


def conflicts(table: pd.DataFrame, *, axes: Any = None) -> Figure:
    """Draw the cosine of each pair of listeners over the steps; below 0 they are in conflict.

    Args:
        table: As `trfnb.flow.gradients.GradientLog.conflicts` gives it.
        axes: Where to draw; a new figure's if left out.
    """
    pairs = table.assign(pair=table["first"] + " – " + table["second"])
    return _over_steps(
        pairs, "pair", "cosine", "cosine of two gradients\n(below 0: conflict)", axes, smooth=SMOOTH
    )


def overview(
    log: "GradientLog",
    history: Iterable[Mapping[str, Any]] = (),
    metrics: Sequence[str] = ("score",),
) -> Figure:
    """Draw factors, norms and conflicts of a training over the same steps.

    Args:
        log: Of at least one step.
        history: The rows of `trfnb.experiments.training.Trained.history`; with them also the dev
            scores and losses are drawn.
        metrics: Which dev scores.
    """
    table, rows = log.table(), pd.DataFrame(list(history))
    figure, panels = blank(9.5 if len(rows) else 6.4, 6.2, 3, 2 if len(rows) else 1)
    factors(table, axes=panels[0, 0])
    norms(table, axes=panels[1, 0])
    conflicts(log.conflicts(), axes=panels[2, 0])
    if len(rows):
        found = rows.melt("step", [name for name in metrics if name in rows]).dropna()
        _over_steps(found, "variable", "value", "dev score", panels[0, 1], marker=".")
        # In the listeners' order, so that a colour means the same in every panel.
        losses = {
            name: rows[f"loss_{name}"] / rows["words"]
            for name in table["listener"].unique().tolist()
        }
        found = pd.DataFrame(losses).assign(step=rows["step"]).melt("step")
        _over_steps(found, "variable", "value", "loss per word", panels[1, 1])
        panels[2, 1].set_axis_off()
    return figure


def spans(doc: "Doc", its_spans: Sequence["Span"]) -> Figure:
    """Draw which tokens each span covers, one line per span.

    Args:
        doc: The doc, of any length.
        its_spans: What a span getter returned for it.
    """
    return readings(doc, {"": (its_spans, None)})


def readings(
    doc: "Doc", read: Mapping[str, tuple[Sequence["Span"], "Wordpieces | None"]]
) -> Figure:
    """Draw what span getters read of one doc and what they truncate, one panel per getter.

    Args:
        doc: The doc, of any length.
        read: For each getter's name the doc's spans and their wordpieces; with None in their
            place, nothing is truncated.
    """
    figure, panels = blank(8.0, 2.2 * len(read) + 0.3, len(read), sharex=True)
    for axes, (name, (its_spans, pieces)) in zip(panels[:, 0], read.items(), strict=True):
        times = np.zeros(len(doc), dtype="int64")
        for i, span in enumerate(its_spans):
            stop = np.inf if pieces is None else span.start_char + pieces.read_until(i)
            end = next((token.i for token in span if token.idx >= stop), span.end)
            axes.broken_barh([(span.start, end - span.start)], (i - 0.4, 0.8), color=COLOURS[0])
            if end < span.end:  # a bar of no length would still have an edge
                axes.broken_barh([(end, span.end - end)], (i - 0.4, 0.8), color=COLOURS[1])
            times[span.start : end] += 1
        note = "" if pieces is None else f", {len(pieces.ids)} wordpieces"
        more, none = int((times > 1).sum()), int((times == 0).sum())
        title = f"{len(its_spans)} spans{note}; {more} tokens read more than once, {none} not read"
        axes.set_title(f"{name}: {title}" if name else title, loc="left", fontsize=9)
        axes.set(xlim=(0, max(len(doc), 1)), ylim=(len(its_spans) - 0.4, -0.6), ylabel="span")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    panels[-1, 0].set_xlabel("token of the doc (orange: truncated)")
    return figure


def alignment(doc: "Doc", wordpieces: Sequence[str], rows: "Ragged") -> HTML:
    """Write each token with the wordpieces that it is made of below it.

    Args:
        doc: A doc, short enough to read.
        wordpieces: The doc's wordpieces as text.
        rows: For each token the numbers of its wordpieces, as in `TransformerData.row_align`.

    Raises:
        ValueError: A row is not the number of a wordpiece.
    """
    from thinc.util import to_numpy

    numbers, lengths = to_numpy(rows.dataXd), to_numpy(rows.lengths)
    if len(numbers) and int(numbers.max()) >= len(wordpieces):
        raise ValueError(
            f"alignment expected rows of {len(wordpieces)} wordpieces, got the row "
            f"{int(numbers.max())}. Pass the wordpieces of all spans of the doc."
        )
    parts = np.split(numbers.ravel(), np.cumsum(lengths)[:-1])
    found = []
    for place, (token, own) in enumerate(zip(doc, parts, strict=False)):
        below = escape(" ".join(wordpieces[row] for row in own)) or "–"
        word = "␣" if token.is_space else escape(token.text)
        style = f"color:{COLOURS[place % 6] if len(own) else '#888'}; margin:0 0.3em"
        found.append(f"<ruby style='{style}'>{word}<rt style='font-size:0.8em'>{below}</rt></ruby>")
    loose = np.delete(np.asarray(wordpieces, dtype=str), numbers.ravel())
    return HTML(
        "<div style='line-height:3; ruby-position:under; overflow-x:auto'>"
        f"{' '.join(found)}</div>"
        f"<small>wordpieces of no token: {escape(' '.join(loose)) or 'none'}</small>"
    )


def number(value: float) -> str:
    """Write a number with three digits that count, and M and k for millions and thousands."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}" if abs(value) >= 1 or value == 0 else f"{value:.3f}"


def blank(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Make an empty figure in the style of all figures here.

    Returns:
        The figure, in inches, which pyplot does not keep, and its panels, (rows, columns).
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


def _intervals(
    table: pd.DataFrame,
    x: str,
    hue: str | None,
    *,
    floor: float | None,
    joined: bool,
    logx: bool = False,
) -> Figure:
    numeric = pd.api.types.is_numeric_dtype(table[x])
    ticks = sorted(set(table[x])) if numeric else table[x].unique().tolist()
    hues = table[hue].unique().tolist() if hue else [None]
    figure, ((axes,),) = blank(max(6.0, 1.6 + 1.5 * len(ticks) * (not joined)), 3.6)
    gap = float(np.ptp(ticks)) * 0.012 if numeric else min(0.1, 0.6 / max(1, len(hues)))
    table = table.assign(at=table[x] if numeric else table[x].map(ticks.index)).sort_values("at")
    for place, (name, colour, marker) in enumerate(_styles(hues)):
        rows = table if hue is None else table[table[hue] == name]
        shift = place - (len(hues) - 1) / 2
        axes.errorbar(
            rows["at"] * 1.03**shift if logx else rows["at"] + shift * gap,
            rows["mean"],
            yerr=_half(rows, floor),
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.2,
            linestyle="-" if joined else "none",
            capsize=3,
            label=plain(name),
        )
    if logx:
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
        axes.minorticks_off()
    elif not numeric:
        axes.set_xticks(range(len(ticks)), [plain(tick) for tick in ticks])
    if hue:
        _legend(axes, hue)
    return figure


# Draw a line for each name over the steps; smoothed, its own values are pale below it.
def _over_steps(
    table: pd.DataFrame,
    by: str,
    column: str,
    ylabel: str,
    axes: Any,
    *,
    smooth: int = 1,
    marker: str = "",
) -> Figure:
    axes = axes or blank(6.4, 3.2)[1][0, 0]
    for name, colour, _ in _styles(table[by].unique().tolist()):
        rows = table[table[by] == name]
        values, steps = rows[column], rows["step"]
        mean = values.rolling(smooth, min_periods=1).mean().where(values.notna())
        axes.plot(steps, mean, color=colour, linewidth=1.5, marker=marker, label=plain(name))
        if smooth > 1:
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
    axes.axhline(0, color="0.3", linewidth=0.6)
    axes.set(xlabel="training step", ylabel=ylabel)
    if len(table):
        _legend(axes, f"mean of {smooth} steps" if smooth > 1 else None)
    return axes.figure


# Half-widths below and above; nothing is drawn for the unknown spread of a single run.
def _half(rows: pd.DataFrame, floor: float | None) -> np.ndarray:
    low = rows["low"] if floor is None else rows["low"].clip(lower=floor)
    return np.nan_to_num(np.array([rows["mean"] - low, rows["high"] - rows["mean"]], dtype=float))


def _legend(axes: Axes, title: str | None = None) -> None:
    axes.legend(title=title, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)


def _styles(names: Sequence[Any]) -> list[tuple[Any, str, str]]:
    return list(zip(names, cycle(COLOURS), cycle(MARKERS), strict=False))


def plain(text: Any) -> str:
    """Write a value so that matplotlib reads no formula into it."""
    return str(text).replace("$", r"\$")  # it would begin a formula
