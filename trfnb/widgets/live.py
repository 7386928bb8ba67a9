"""What keeps a view up to date: a loop that refreshes it, and small charts as SVG.

A chart takes a millisecond here; a matplotlib figure would take the training's time.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import combinations
from math import asinh, isfinite
from typing import Any

import numpy as np

from trfnb.experiments.heads import HEADS
from trfnb.flow.measurement import Step
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
    scored = [row for row in history if "score" in row]
    metrics = {task: HEADS[task].score if task in HEADS else "" for task in tasks}
    scores = {
        name: ([row["step"] for row in scored], [row.get(metric, np.nan) for row in scored])
        for name, metric in {**metrics, "all, weighted": "score"}.items()
    }
    rows = history[:: -(-len(history) // MOST_POINTS) or 1]
    losses = {
        task: (
            [row["step"] for row in rows],
            [row.get(f"loss_{task}", np.nan) / max(row["words"], 1) for row in rows],
        )
        for task in tasks
    }
    drawn = range(0, len(steps), -(-len(steps) // MOST_POINTS) or 1)
    updates = [number + 1 for number in drawn]
    listeners = steps[-1].listeners if steps else ()
    factors, norms, cosines = {}, {}, {}
    raw = {number: np.sqrt(steps[number].gram.diagonal()) for number in drawn}
    for i, name in enumerate(listeners):
        factors[name] = (updates, [steps[n].factors[i] for n in drawn])
        norms[name] = (updates, [abs(steps[n].factors[i]) * raw[n][i] for n in drawn])
    for i, j in combinations(range(len(listeners)), 2):
        scales = [raw[n][i] * raw[n][j] for n in drawn]
        found = [
            steps[n].gram[i, j] / scale if scale > 0 else np.nan
            for n, scale in zip(drawn, scales, strict=True)
        ]
        cosines[f"{listeners[i]}–{listeners[j]}"] = (updates, found)
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


def _text(x: float, y: float, text: str, size: int, anchor: str = "start") -> str:
    return (
        f'<text x="{x}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="currentColor">{escape(text)}</text>'
    )
