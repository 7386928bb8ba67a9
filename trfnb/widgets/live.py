"""What keeps a view up to date: a loop that refreshes it, and small charts as SVG.

A chart takes a millisecond here; a matplotlib figure would take the training's time.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from html import escape
from math import asinh, isfinite, nan
from typing import Any

import pandas as pd

from trfnb.experiments.heads import HEADS
from trfnb.flow.measurement import GradientLog, Step
from trfnb.plots import COLOURS

REFRESH_SECONDS = 0.2
WIDTH, HEIGHT = 300, 150
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 22, 20
MOST_POINTS = 160

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def refresh_while(busy: Callable[[], bool], refresh: Callable[[], None]) -> Any:
    """Call ``refresh`` on the kernel's loop while ``busy()``, and once after it.

    The kernel answers between two refreshes, and no second thread writes to the widgets.

    Returns:
        The task; None where no loop runs, and whoever holds the view refreshes it.
    """

    async def loop() -> None:
        while busy():
            refresh()
            await asyncio.sleep(REFRESH_SECONDS)
        refresh()

    try:
        return asyncio.get_running_loop().create_task(loop())
    except RuntimeError:
        return None


def training_charts(
    history: Sequence[Mapping[str, Any]], steps: Sequence[Step], tasks: Sequence[str]
) -> str:
    """Draw dev scores, factors, loss, gradient norms and conflicts over the same updates.

    Args:
        history: One row per update, as in `trfnb.experiments.training.Trained.history`.
        steps: Factors and gradients of the same updates.
        tasks: The names of the listening components.
    """
    last = max(len(history), len(steps), 1)
    every = -(-last // MOST_POINTS)
    scored = [row for row in history if "score" in row]
    metrics = {task: HEADS[task].score for task in tasks if task in HEADS}
    scores = {
        name: ([row["step"] for row in scored], [row.get(metric, nan) for row in scored])
        for name, metric in {**metrics, "all, weighted": "score"}.items()
    }
    rows = history[::every]
    losses = {
        task: (
            [row["step"] for row in rows],
            [row.get(f"loss_{task}", nan) / max(row["words"], 1) for row in rows],
        )
        for task in tasks
    }
    log = GradientLog()
    log.steps = list(steps[::every])
    factors, norms = (
        _series(log.table(), ["listener"], what, every) for what in ("factor", "norm")
    )
    cosines = _series(log.conflicts(), ["first", "second"], "cosine", every)
    charts = (
        chart("dev score", scores, last, dots=True),
        chart("effective factor (log scale)", factors, last, scale=lambda v: asinh(50 * v)),
        chart("loss per word", losses, last),
        chart("gradient norm after the factor", norms, last),
        chart("cosine of two gradients; below 0: conflict", cosines, last),
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:4px 12px">{"".join(charts)}</div>'


def chart(
    title: str,
    series: Series,
    last: int,
    *,
    dots: bool = False,
    scale: Callable[[float], float] = float,
) -> str:
    """Draw lines over the updates, with zero always in sight and a legend below.

    Args:
        title: What is drawn, with its unit.
        series: By name, the updates and the values; a value that is not finite is left out.
        last: The update at the right end.
        dots: Whether to mark each point.
        scale: From a value to its height.
    """
    points = {
        name: [(u, v) for u, v in zip(x, y, strict=True) if isfinite(v)]
        for name, (x, y) in series.items()
    }
    values = [v for line in points.values() for _, v in line] + [0.0]
    low, high = min(values), max(values)
    high = high if high > low else low + 1.0

    def y(value: float) -> float:
        share = (scale(high) - scale(value)) / (scale(high) - scale(low))
        return TOP + share * (HEIGHT - TOP - BOTTOM)

    def x(update: float) -> float:
        return LEFT + update / last * (WIDTH - LEFT - RIGHT)

    parts = [_text(0, 14, title, 12), f'<path d="M{LEFT} {y(0):.1f}H{WIDTH}" stroke="#aaa"/>']
    for value in {low, high, 0.0}:
        parts.append(_text(LEFT - 4, y(value) + 4, f"{value:.3g}", 10, "end"))
    parts.append(_text(WIDTH, HEIGHT - 5, f"update {last}", 10, "end"))
    legend = []
    for place, (name, line) in enumerate(points.items()):
        colour = COLOURS[place % len(COLOURS)]
        path = " ".join(f"{x(u):.1f},{y(v):.1f}" for u, v in line)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )
        for u, v in line if dots or len(line) == 1 else ():
            parts.append(f'<circle cx="{x(u):.1f}" cy="{y(v):.1f}" r="2" fill="{colour}"/>')
        legend.append(f'<span style="color:{colour}">■</span> {escape(name)}')
    return (
        f'<div style="width:{WIDTH}px;line-height:1.3;font-size:11px">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif">{"".join(parts)}</svg>'
        f"<div>{' &nbsp; '.join(legend)}</div></div>"
    )


def _series(table: pd.DataFrame, by: list[str], value: str, every: int) -> Series:
    """Return each line's updates and values, from a table that skips updates."""
    return {
        " – ".join(map(str, names)): (
            ((rows["step"] - 1) * every + 1).tolist(),
            rows[value].tolist(),
        )
        for names, rows in table.groupby(by, sort=False)
    }


def _text(x: float, y: float, text: str, size: int, anchor: str = "start") -> str:
    return (
        f'<text x="{x}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="currentColor">{escape(text)}</text>'
    )
