"""The factor of a listener's gradient: a number, a schedule, or left to a balancing policy."""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, pairwise, repeat, tee
from numbers import Real
from typing import Any

from spacy.util import registry

AUTO = "auto"


class GradFactor:
    """The number that a listener's gradient is multiplied by: constant, or one a training step.

    Args:
        value: A finite number, or a Thinc schedule (an iterable of them; when it ends, its last
            value stays). 0 stops the gradient; a negative one reverses it, as in adversarial
            training (Ganin and Lempitsky, 2015, https://arxiv.org/abs/1409.7495). ``"auto"``
            leaves it to the balancing policy of the shared component.

    Attributes:
        now: The factor of the present step; 1 where a policy decides.
        auto: Whether a policy decides.

    Raises:
        TypeError: the value is neither a number nor an iterable of numbers.
        ValueError: a number is NaN or infinite.
    """

    def __init__(self, value: "float | str | Iterable[float] | GradFactor") -> None:
        if isinstance(value, GradFactor):
            value = value.value
        self.value: float | str | Iterable[float] = value
        self.auto = isinstance(value, str) and value == AUTO
        self._schedule: Iterator[float] | None = None
        if self.auto:
            self.now = 1.0
        elif isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
            self._schedule = iter(value)
            self.now = math.nan
            self.step()
        else:
            self.now = _checked(value)

    def step(self) -> None:
        """Move on to the next training step."""
        if self._schedule is not None:
            following = next(self._schedule, None)
            if following is not None:
                self.now = _checked(following)
            elif math.isnan(self.now):
                raise ValueError("grad_factor expected a schedule with at least one value.")

    def __reduce__(self) -> tuple[Any, ...]:
        # A generator cannot be pickled; another process, which only predicts, needs no schedule.
        return GradFactor, (AUTO if self.auto else self.now,)

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "GradFactor":
        copied = GradFactor(AUTO if self.auto else self.now)
        if self._schedule is not None:
            # A generator cannot be copied, but what it yields can go to both.
            self._schedule, copied._schedule = tee(self._schedule)
        return copied


def as_factor(value: "float | str | Iterable[float] | GradFactor") -> GradFactor:
    """Keep a factor as it is, with what is left of its schedule, or make one."""
    return value if isinstance(value, GradFactor) else GradFactor(value)


def _checked(value: Any) -> float:
    if not _is_number(value):
        raise TypeError(
            "grad_factor expected a finite number or a schedule of them, e.g. 0.5 or "
            f'{{"@schedules": "trfnb.frozen_then_warmup.v1", …}}, or "{AUTO}"; '
            f"got {value!r} ({type(value).__name__})."
        )
    if not math.isfinite(value):
        raise ValueError(f"grad_factor expected a finite number, got {value}.")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@registry.schedules("trfnb.frozen_then_warmup.v1")
def frozen_then_warmup(frozen: int, warmup: int = 0, factor: float = 1.0) -> Iterator[float]:
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
            "frozen_then_warmup expected numbers of steps of 0 or more, got "
            f"frozen={frozen}, warmup={warmup}."
        )
    rising = (factor * step / (warmup + 1) for step in range(1, warmup + 1))
    return chain(repeat(0.0, frozen), rising, repeat(factor))


@registry.schedules("trfnb.piecewise_constant.v1")
def piecewise_constant(starts: list[int], factors: list[float]) -> Iterator[float]:
    """Yield factors that each hold until the next one's start, as a tuned run leaves them.

    Args:
        starts: For each factor, how many steps were made before it; the first is 0.
        factors: The factors.

    Raises:
        ValueError: names everything that is wrong with the two lists.
    """
    errors = []
    if len(starts) != len(factors) or not starts:
        errors.append(
            "one start for each factor, at least one, but "
            f"{len(starts)} starts and {len(factors)} factors"
        )
    elif starts[0] != 0:
        errors.append(f"0 as the first start, not {starts[0]!r}")
    if any(b <= a for a, b in pairwise(starts)):
        errors.append(f"starts that rise, not {starts}")
    if wrong := [one for one in factors if not _is_number(one)]:
        errors.append(f"numbers as factors, not {wrong}")
    if errors:
        raise ValueError("piecewise_constant expected " + "; ".join(errors) + ".")
    steps = [b - a for a, b in pairwise(starts)]
    return chain(*map(repeat, factors, steps), repeat(factors[-1]))
