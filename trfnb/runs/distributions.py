"""Distributions of parameters, for random sweeps and for adaptive search.

A space maps a parameter to a list of choices or to ``{low: 1e-5, high: 1e-3}``, with
``log: true`` for a logarithmic scale and ``step`` for a raster; two integers mean integers.
"""

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Distribution:
    """One parameter's range or choices."""

    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None

    @property
    def integer(self) -> bool:
        """Whether values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @classmethod
    def read(cls, name: str, content: Any) -> "Distribution":
        """Return the distribution that a specification means.

        Raises:
            ValueError: it is neither a list of choices nor a range.
        """
        if isinstance(content, list) and content:
            return cls(choices=tuple(content))
        expected = "expected a list of choices, or low and high (log, step)"
        if not isinstance(content, Mapping) or not {"low", "high"} <= set(content):
            raise ValueError(f"Space of `{name}`: {expected}; got {content!r}.")
        unknown = set(content) - {"low", "high", "log", "step"}
        numbers = {k: _number(content[k]) for k in ("low", "high", "step") if content.get(k)}
        low, high = numbers.get("low", 0), numbers.get("high", 0)
        log = bool(content.get("log", False))
        if unknown or not low < high or (log and low <= 0):
            raise ValueError(f"Space of `{name}`: {expected}, low < high; got {dict(content)}.")
        return cls(low=low, high=high, log=log, step=numbers.get("step"))

    def draw(self, source: random.Random) -> Any:
        """Return one value."""
        if self.choices:
            return source.choice(self.choices)
        if self.log:
            value = math.exp(source.uniform(math.log(self.low), math.log(self.high)))
        elif self.integer and not self.step:
            return source.randint(int(self.low), int(self.high))
        else:
            value = source.uniform(self.low, self.high)
        if self.step:
            value = self.low + round((value - self.low) / self.step) * self.step
        return round(value) if self.integer else min(max(value, self.low), self.high)

    def examples(self) -> list[Any]:
        """Return values that show its type and bounds: every choice, or low and high."""
        return list(self.choices) or [self.low, self.high]


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return float(value)  # YAML 1.1 reads 1e-5 as text


def sample(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield ``count`` runs drawn from ``space``; the same ``seed``, the same runs.

    Raises:
        ValueError: a key is missing or a range is wrong.
    """
    space, count = content.get("space"), content.get("count")
    if not isinstance(space, Mapping) or not isinstance(count, int) or count < 1:
        raise ValueError("`random`: expected `count` (a positive integer) and `space`.")
    source = random.Random(content.get("seed", 0))
    ranges = {name: Distribution.read(name, values) for name, values in space.items()}
    for _ in range(count):
        yield {name: values.draw(source) for name, values in ranges.items()}
