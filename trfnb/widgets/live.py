"""The live charts of a tuner."""

from itertools import combinations

import numpy as np

from trfnb.experiments.tuner import Tuner
from trfnb.widgets.lines import lines


def charts(tuner: Tuner) -> str:
    """Return four charts: loss a word, dev score, gradient norms, conflicts."""
    rows, steps = list(tuner.history), list(tuner.log.steps)
    updates = [row["step"] for row in rows]
    losses = {
        task: (updates, [row[f"loss_{task}"] / max(row["words"], 1) for row in rows])
        for task in tuner.tasks
    }
    scored = [row for row in rows if "score" in row]
    score = {"dev": ([row["step"] for row in scored], [row["score"] for row in scored])}
    norms: dict[str, tuple[list[float], list[float]]] = {}
    cosines: dict[str, tuple[list[float], list[float]]] = {}
    for number, step in enumerate(steps, start=1):
        raw = np.sqrt(step.gram.diagonal())
        for i, name in enumerate(step.listeners):
            _append(norms, name, number, abs(step.factors[i]) * raw[i])
        for i, j in combinations(range(len(step.listeners)), 2):
            scale = raw[i] * raw[j]
            cosine = step.gram[i, j] / scale if scale > 0 else np.nan
            _append(cosines, f"{step.listeners[i]}·{step.listeners[j]}", number, cosine)
    four = (
        lines("loss a word", losses),
        lines("weighted dev score", score, legend=False),
        lines("gradient norm after the factor", norms),
        lines("cosine of two gradients; below 0: conflict", cosines),
    )
    return f'<div style="display:flex;flex-wrap:wrap;max-width:700px">{"".join(four)}</div>'


def _append(
    series: dict[str, tuple[list[float], list[float]]], name: str, x: float, y: float
) -> None:
    xs, ys = series.setdefault(name, ([], []))
    xs.append(x)
    ys.append(float(y))
