"""Where the gradients of all listeners meet, and how strongly each counts."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import tee
from numbers import Real
from typing import Any

from spacy.tokens import Doc
from thinc.types import Floats2d

Parts = dict[int, Floats2d]
"""Gradients of a shared output: layer number -> (rows, width)."""


class GradFactor:
    """The number that a listener's gradient is multiplied by: constant, or one a training step.

    Args:
        value: A finite number, or a Thinc schedule (an iterable of them; when it ends, its last
            value stays). 0 stops the gradient; a negative one reverses it, as in adversarial
            training (Ganin and Lempitsky, 2015, https://arxiv.org/abs/1409.7495).

    Raises:
        TypeError: the value is neither a number nor an iterable of numbers.
        ValueError: a number is NaN or infinite.
    """

    def __init__(self, value: "float | Iterable[float] | GradFactor") -> None:
        if isinstance(value, GradFactor):
            value = value.value
        self.value: float | Iterable[float] = value
        self._schedule: Iterator[float] | None = None
        if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
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

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "GradFactor":
        copied = GradFactor(self.now)
        if self._schedule is not None:
            # A generator cannot be copied, but what it yields can go to both.
            self._schedule, copied._schedule = tee(self._schedule)
        return copied


def _checked(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            "grad_factor expected a finite number or a schedule of them, e.g. 0.5 or "
            f'{{"@schedules": "warmup_linear.v1", …}}; got {value!r} ({type(value).__name__}).'
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
        expected: The listeners whose gradients will come.
    """

    def __init__(
        self,
        docs: Sequence[Doc],
        outputs: Any,
        backprop: Callable[[Parts], Any] | None,
        expected: Iterable[int] = (),
    ) -> None:
        self.docs = list(docs)
        self.outputs = outputs
        self.expected = frozenset(expected)
        self.contributions: list[tuple[int, float, Parts]] = []
        self.when_complete: Callable[[], None] | None = None
        self._backprop = backprop

    def check(self, docs: Sequence[Doc], listener: str) -> None:
        """Make sure that a listener was given the batch that the shared layer read.

        Raises:
            ValueError: the docs differ, or come in another order.
        """
        if len(docs) == len(self.docs) and all(
            mine is theirs for mine, theirs in zip(self.docs, docs, strict=True)
        ):
            return
        same = {id(doc) for doc in docs} == {id(doc) for doc in self.docs}
        raise ValueError(
            f"The listener {listener!r} expected the {len(self.docs)} docs that the shared layer "
            f"was updated with, got {'the same docs in another order' if same else 'other docs'} "
            f"({len(docs)}). Update both on one batch, in one order: nlp.update(examples)."
        )

    def add(self, listener: int, factor: float, parts: Parts) -> None:
        """Take a listener's gradient, before its factor."""
        self.contributions.append((listener, factor, parts))
        if self.when_complete and self.expected <= {one for one, _, _ in self.contributions}:
            self.when_complete()

    def settle(self) -> float:
        """Send the weighted sum back through the shared layer, once.

        Returns:
            The squared norm of what the listeners sent, as spaCy reports for a shared layer.
        """
        contributions, self.contributions = self.contributions, []
        backprop, self._backprop = self._backprop, None
        if not contributions or backprop is None:
            return 0.0
        total: Parts = {}
        squares = 0.0
        for _, factor, parts in contributions:
            for layer, gradient in parts.items():
                weighted = gradient * factor
                squares += float((weighted**2).sum(axis=(0, 1)))
                total[layer] = total[layer] + weighted if layer in total else weighted
        backprop(total)
        return squares
