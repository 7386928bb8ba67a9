"""Factors that change from step to step."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any


def thaw(frozen: int, warmup: int = 0, factor: float = 1.0) -> Iterator[float]:
    """Yield 0 for a while, then rise in a line to a factor and stay there.

    Lower layers that wait until the heads are no longer random: Howard and Ruder, "Universal
    Language Model Fine-tuning for Text Classification", 2018, https://arxiv.org/abs/1801.06146.

    Args:
        frozen: Steps at 0.
        warmup: Steps from there to the full factor.
        factor: The factor from then on.

    Raises:
        ValueError: a number of steps is negative.
    """
    if frozen < 0 or warmup < 0:
        raise ValueError(
            f"A thaw expected numbers of steps of 0 or more, got frozen={frozen}, warmup={warmup}."
        )
    return _thaw(frozen, warmup, factor)


def _thaw(frozen: int, warmup: int, factor: float) -> Iterator[float]:
    for _ in range(frozen):
        yield 0.0
    for step in range(1, warmup + 1):
        yield factor * step / (warmup + 1)
    while True:
        yield factor


def moves(starts: Sequence[int], factors: Sequence[float]) -> Iterator[float]:
    """Yield factors that hold from one move to the next, as a tuned run leaves them.

    Args:
        starts: For each factor, how many steps were made before it; the first is 0.
        factors: The factors.

    Raises:
        ValueError: names every fault of the two lists.
    """
    faults = []
    if len(starts) != len(factors) or not starts:
        faults.append(
            f"one start a factor, at least one, but {len(starts)} starts and {len(factors)} factors"
        )
    elif starts[0] != 0:
        faults.append(f"0 as the first start, not {starts[0]!r}")
    if any(b <= a for a, b in pairwise(starts)):
        faults.append(f"starts that rise, not {list(starts)}")
    if wrong := [one for one in factors if not _is_number(one)]:
        faults.append(f"numbers as factors, not {wrong}")
    if faults:
        raise ValueError("Moves expected " + "; ".join(faults) + ".")
    return _moves(list(starts), [float(factor) for factor in factors])


def _moves(starts: list[int], factors: list[float]) -> Iterator[float]:
    ends = [*starts[1:], starts[-1] + 1]
    for start, end, factor in zip(starts, ends, factors, strict=True):
        for _ in range(start, end):
            yield factor
    while True:
        yield factors[-1]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
