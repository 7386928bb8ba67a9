"""Where the gradients of all listeners meet, and how strongly each counts."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import tee
from numbers import Real
from typing import Any

import numpy as np
from spacy.tokens import Doc

from .balancing import Balance
from .measurement import Parts, gram

AUTO = "auto"

__all__ = ["AUTO", "GradFactor", "Junction", "Parts", "as_factor"]


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
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            "grad_factor expected a finite number or a schedule of them, e.g. 0.5 or "
            f'{{"@schedules": "trfnb.thaw.v1", …}}, or "{AUTO}"; '
            f"got {value!r} ({type(value).__name__})."
        )
    if not math.isfinite(value):
        raise ValueError(f"grad_factor expected a finite number, got {value}.")
    return float(value)


class Junction:
    """One batch at the shared output: what was handed out, and the gradients that come back.

    It is the token by which a listener recognises its batch: a permuted or different batch holds
    other docs. Gradients wait here until the shared layer settles them in one backward pass.

    Args:
        docs: The docs of the batch, in order.
        outputs: What the shared layer computed for them.
        backprop: The shared layer's callback; None where no gradient is wanted.
        asked: Each listener's factor for this batch; a gradient comes from all but those at 0.
        balance: Chooses the factors of some listeners.
        pairs: Whether to measure what two gradients have in common, beside their norms.

    Attributes:
        contributions: (listener, factor, gradient before the factor), in order of arrival.
        read: Whether a listener has taken its input from here.
        settled: Whether the gradients were sent back.
        products: Once settled, the inner products of those gradients (see `measurement.gram`).
        factors: Once settled, each listener's effective factor.
    """

    def __init__(
        self,
        docs: Sequence[Doc],
        outputs: Any,
        backprop: Callable[[Parts], Any] | None,
        asked: Mapping[int, float] | None = None,
        *,
        balance: Balance | None = None,
        pairs: bool = True,
    ) -> None:
        self.docs = list(docs)
        self.outputs = outputs
        self.asked = dict(asked or {})
        self.read = False
        self.settled = False
        self.contributions: list[tuple[int, float, Parts]] = []
        self.when_complete: Callable[[], None] | None = None
        self.products = np.zeros((0, 0))
        self.factors: dict[int, float] = {}
        self._backprop = backprop
        self._balance = balance
        self._pairs = pairs

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies of a listener, and listeners in other processes, are in no training step.
        return _no_junction, ()

    def over_for(self, docs: Sequence[Doc]) -> bool:
        """Return whether its step is made and these docs are none of its own."""
        return self.settled and {id(doc) for doc in docs}.isdisjoint(id(doc) for doc in self.docs)

    def check(self, docs: Sequence[Doc], listener: str) -> None:
        """Make sure that a listener that reads was given the batch that the shared layer read.

        Raises:
            ValueError: the docs differ, or come in another order.
        """
        if len(docs) == len(self.docs) and all(
            mine is theirs for mine, theirs in zip(self.docs, docs, strict=True)
        ):
            self.read = True
            return
        same = {id(doc) for doc in docs} == {id(doc) for doc in self.docs}
        raise ValueError(
            f"The listener {listener!r} expected the {len(self.docs)} docs that the shared layer "
            f"was updated with, got {'the same docs in another order' if same else 'other docs'} "
            f"({len(docs)}). Update both on one batch, in one order: nlp.update(examples)."
        )

    def add(self, listener: int, factor: float, parts: Parts) -> None:
        """Take a listener's gradient, before its factor."""
        for i, (one, first_factor, first) in enumerate(self.contributions):
            if one == listener:  # a model that calls its listener twice
                self.contributions[i] = (
                    one,
                    first_factor,
                    _sum(first, parts, factor / first_factor),
                )
                break
        else:
            self.contributions.append((listener, factor, parts))
        missing = {one for one, factor in self.asked.items() if factor != 0}
        missing -= {one for one, _, _ in self.contributions}
        if self.when_complete and not missing:
            self.when_complete()

    def settle(self) -> float:
        """Send the weighted sum back through the shared layer, once.

        Returns:
            The squared norm of what the listeners sent, as spaCy reports for a shared layer.
        """
        self.settled = True
        contributions, self.contributions = self.contributions, []
        backprop, self._backprop = self._backprop, None
        if not contributions or backprop is None:
            return 0.0
        pairs = self._pairs or self._balance is not None
        self.products = gram([parts for _, _, parts in contributions], pairs=pairs)
        self.factors = {listener: factor for listener, factor, _ in contributions}
        if self._balance is not None:
            self.factors |= self._balance(list(self.factors), self.products)
        total: Parts = {}
        for listener, _, parts in contributions:
            total = _sum(total, parts, self.factors[listener])
        backprop(total)
        squares = self.products.diagonal() * np.square(list(self.factors.values()))
        return float(squares.sum())


def _no_junction() -> None:
    """Stand for a junction where none can be."""


def _sum(total: Parts, parts: Parts, factor: float) -> Parts:
    summed = dict(total)
    for layer, gradient in parts.items():
        weighted = gradient * factor  # a listener's own array stays as it is
        summed[layer] = summed[layer] + weighted if layer in summed else weighted
    return summed
