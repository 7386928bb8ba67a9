"""Rounds of turns -> words a second and ratios with their spread."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

Answer = Mapping[str, Any]


def rounds(sides: Mapping[str, Callable[[], Answer]], count: int) -> dict[str, list[Answer]]:
    """Let every side do its work once to warm up, then in turn, `count` times."""
    for work in sides.values():
        work()
    found: dict[str, list[Answer]] = {name: [] for name in sides}
    for _ in range(count):
        for name, work in sides.items():
            found[name].append(work())
    return found


def rates(answers: Sequence[Answer], clock: str) -> list[float]:
    """Return words a second of each round, by a clock: ``"seconds"`` or ``"cpu"``."""
    return [one["words"] / one[clock] for one in answers]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the range."""
    return {
        "median": round(median(values), 3),
        "low": round(min(values), 3),
        "high": round(max(values), 3),
    }


def compared(found: Mapping[str, Sequence[Answer]], ours: str, clock: str) -> dict[str, Any]:
    """Return each side's words a second, and how many times as fast ours is, round by round."""
    speeds = {name: rates(answers, clock) for name, answers in found.items()}
    return {
        "words a second": {name: spread(values) for name, values in speeds.items()},
        "ratio": {
            name: spread([a / b for a, b in zip(speeds[ours], values, strict=True)])
            for name, values in speeds.items()
            if name != ours
        },
    }
