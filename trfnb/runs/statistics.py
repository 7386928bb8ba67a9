"""Means with bootstrap intervals, and what each parameter does on average."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas

RESAMPLES = 2000
LEVEL = 0.95
SMALLER_IS_BETTER = (
    "loss",
    "error",
    "perplexity",
    "seconds",
    "time",
    "memory",
    "_mb",
    "megabytes",
    "parameters",
)


@dataclass(frozen=True)
class Interval:
    """A mean of ``count`` values; ``low`` and ``high`` equal it when there is only one."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if self.count < 2:
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(values: Iterable[float], seed: int = 0) -> Interval | None:
    """Return the mean with its 95 % percentile bootstrap interval (Efron 1979).

    With the two or three seeds of a usual sweep it is narrow: read it as the spread seen.
    None when there is no value.
    """
    data = np.asarray([v for v in values if v is not None], dtype=float)
    data = data[np.isfinite(data)]
    if not data.size:
        return None
    mean = float(data.mean())
    if data.size == 1:
        return Interval(mean, mean, mean, 1)
    draws = np.random.default_rng(seed).integers(0, data.size, (RESAMPLES, data.size))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(data[draws].mean(axis=1), [tail, 1 - tail])
    return Interval(mean, float(low), float(high), int(data.size))


def smaller_is_better(metric: str) -> bool:
    """Return whether a metric's name says that less is better."""
    return any(part in metric.lower() for part in SMALLER_IS_BETTER)


def by_setting(
    table: "pandas.DataFrame", settings: Sequence[str], metrics: Sequence[str]
) -> list[tuple[dict[str, Any], dict[str, Interval | None]]]:
    """Return each combination of settings with an interval a metric, over its seeds."""
    if not settings:
        return [({}, {m: bootstrap(table[m]) for m in metrics})] if len(table) else []
    found = []
    for key, group in table.groupby(list(settings), dropna=False, sort=False):
        values = dict(zip(settings, key, strict=True))
        found.append((values, {metric: bootstrap(group[metric]) for metric in metrics}))
    return found


def main_effects(
    table: "pandas.DataFrame", settings: Sequence[str], metric: str
) -> dict[str, list[tuple[Any, Interval]]]:
    """Return, by parameter, the metric's mean at each of its values over all other settings."""
    effects: dict[str, list[tuple[Any, Interval]]] = {}
    for name in settings:
        levels = []
        for level, group in table.groupby(name, dropna=False):
            interval = bootstrap(group[metric])
            if interval is not None:
                levels.append((level, interval))
        if len(levels) > 1:
            effects[name] = levels
    return effects


def spread(levels: Sequence[tuple[Any, Interval]]) -> float:
    """Return the distance between the best and the worst level of an effect."""
    means = [interval.mean for _, interval in levels]
    return max(means) - min(means)


def best(table: "pandas.DataFrame", metric: str, count: int) -> "pandas.DataFrame":
    """Return the rows with the best values of a metric."""
    return table.sort_values(metric, ascending=smaller_is_better(metric)).head(count)


def numeric_metrics(rows: Sequence[Mapping[str, Any]], recorded: Sequence[str]) -> list[str]:
    """Return the recorded names that hold numbers in at least one row."""
    return [
        name
        for name in recorded
        if any(isinstance(r.get(name), int | float) and type(r[name]) is not bool for r in rows)
    ]
