"""Small live charts as SVG: a millisecond each, where a figure takes the training's time."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle
from math import isfinite

from trfnb.plots import COLOURS

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
WIDTH, HEIGHT = 330, 150
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 22, 20
MOST_POINTS = 160


def lines(title: str, series: Series, *, legend: bool = True) -> str:
    """Draw a chart.

    Args:
        title: What is drawn, with its unit.
        series: By name, the updates and the values; a value that is not finite is left out.
        legend: Whether to name the lines.
    """
    kept = {name: _thinned(x, y) for name, (x, y) in series.items()}
    values = [v for _, y in kept.values() for v in y]
    updates = [u for x, _ in kept.values() for u in x]
    parts = [_text(LEFT, 14, title, 12)]
    if values:
        low, high = min(*values, 0.0), max(*values, 0.0)
        high = high if high > low else low + 1.0
        last = max(max(updates), 1)
        for value in (low, high):
            parts.append(_text(LEFT - 4, _y(value, low, high) + 4, f"{value:.3g}", 10, "end"))
        zero = _y(0.0, low, high)
        parts.append(f'<path d="M{LEFT} {zero:.1f}H{WIDTH - RIGHT}" stroke="#aaa"/>')
        parts.append(_text(WIDTH - RIGHT, HEIGHT - 5, f"update {last:.0f}", 10, "end"))
        for place, ((name, (x, y)), colour) in enumerate(zip(kept.items(), cycle(COLOURS))):
            points = " ".join(
                f"{LEFT + u / last * (WIDTH - LEFT - RIGHT):.1f},{_y(v, low, high):.1f}"
                for u, v in zip(x, y, strict=True)
            )
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            )
            if len(x) == 1:
                at = points.partition(",")
                parts.append(f'<circle cx="{at[0]}" cy="{at[2]}" r="2" fill="{colour}"/>')
            if legend:
                parts.append(_text(LEFT + 80 * place, HEIGHT - 5, name, 10, colour=colour))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif">{"".join(parts)}</svg>'
    )


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Leave finite points, and of many the mean of each run."""
    points = [(u, v) for u, v in zip(x, y, strict=True) if isfinite(v)]
    size = -(-len(points) // MOST_POINTS) or 1
    runs = [points[i : i + size] for i in range(0, len(points), size)]
    return [run[-1][0] for run in runs], [sum(v for _, v in run) / len(run) for run in runs]


def _y(value: float, low: float, high: float) -> float:
    return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _text(
    x: float, y: float, text: str, size: int, anchor: str = "start", colour: str = "currentColor"
) -> str:
    return (
        f'<text x="{x}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(text)}</text>"
    )
