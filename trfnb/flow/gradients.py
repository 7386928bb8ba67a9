"""The way of all listeners' gradients back through the layer that they share."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from spacy.tokens import Doc
from thinc.api import Model, Optimizer

from .balancing import Policy, chosen_factors
from .grad_factor import AUTO
from .gradient_log import GradientLog, Parts, gram
from .tokens import content

Backprop = Callable[[Parts], Any]
Encode = Callable[[Sequence[Doc], bool], tuple[Any, Backprop | None]]
"""Docs and whether a gradient is wanted -> outputs, and a callback that takes their gradient."""


class Junction:
    """One batch at the shared output: what listeners read, and the gradients that they send back.

    It is known by its tokens: a copy of its docs finds it, the same docs in another order do not.

    Args:
        docs: The docs of the batch, in order.
        outputs: What the shared layer computed for them.
        backprop: Takes the gradient of the outputs; None where no gradient is wanted.

    Attributes:
        contributions: Each listener's gradient before its factor, by the listener's name.
        sent: Whether the gradients went back.
    """

    def __init__(self, docs: Sequence[Doc], outputs: Any, backprop: Backprop | None) -> None:
        self.contents = [content(doc) for doc in docs]
        self.outputs = outputs
        self.backprop = backprop
        self.contributions: dict[str, Parts] = {}
        self.sent = False

    def holds(self, contents: Iterable[bytes]) -> bool:
        """Return whether each of some docs is one of this batch, or a part of one."""
        return all(any(one in whole for whole in self.contents) for one in contents)

    def check(self, contents: Sequence[bytes], listener: str) -> None:
        """Make sure that docs which are not this batch are at least cut from its docs.

        Raises:
            ValueError: they are other docs, or the same in another order.
        """
        order = sorted(contents) == sorted(self.contents)
        if self.holds(contents) and not order:
            return
        raise ValueError(
            f"The listener of {listener!r} expected the {len(self.contents)} docs that the shared "
            "layer was updated with, or copies or parts of them, got "
            f"{'the same docs in another order' if order else 'other docs'} ({len(contents)}). "
            "Update both on one batch, in one order: nlp.update(examples)."
        )


@dataclass(frozen=True)
class Reading:
    """What one listener reads of a batch, and where its gradient goes.

    Attributes:
        outputs: The shared layer's.
        factor: What the gradient will be multiplied by.
        add: Takes the gradient, before its factor.
    """

    outputs: Any
    factor: float
    add: Callable[[Parts], None]


class SharedGradients:
    """The way of all listeners' gradients back through the layer that they share.

    There is one for each shared component. It has three states:

    - *idle*: no training step is under way.
    - *open*, after `begin`: listeners `read` the batch, and the gradients that they add wait.
    - *waiting*, after `finish` came before any listener read the batch: ``nlp.update(sgd=…)``
      calls the shared component's step first. The optimizer waits for the gradients.

    A sum of all gradients, each multiplied by its factor, goes back in one pass, and then the
    weights step: by `finish` where the batch is open, by the last gradient where it is waiting.
    `send_back` does the same at once where it is waiting; where it is open, gradients stay on the
    weights without a step. `begin` starts with it, so that several batches accumulate.

    Attributes:
        junction: The batch under way; None where the state is idle.
        log: What met at the shared output in every step.
    """

    def __init__(self) -> None:
        self.log = GradientLog()
        self.junction: Junction | None = None
        self._unsent: list[Junction] = []
        self._listeners: dict[str, Any] = {}
        self._factors: dict[str, float] = {}
        self._policy: Policy | None = None
        self._known_losses: dict[str, float] = {}
        self._losses: dict[str, float] = {}
        self._losses_before: dict[str, float] = {}
        self._name = ""
        self._words = 0
        self._optimizer: tuple[Optimizer, Model] | None = None
        self._reads: Counter[str] = Counter()
        self._came: set[str] = set()
        self._has_gradient = self._in_step = False

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy of a component is in no training step.
        return SharedGradients, ()

    @property
    def overdue(self) -> bool:
        """Whether a step waits though gradients came: some listener was left out of the update."""
        return self._optimizer is not None and bool(self._came)

    def begin(
        self,
        docs: Sequence[Doc],
        encode: Encode,
        listeners: Mapping[str, Any],
        *,
        name: str = "",
        policy: Policy | None = None,
        losses: dict[str, float] | None = None,
    ) -> None:
        """Compute a batch for the listeners, after sending back what waited.

        Args:
            docs: The batch.
            encode: The shared layer; no gradient is asked of it where every factor is 0.
            listeners: By name; those without a `grad_factor` have a factor of 1.
            name: The shared component's, under which `losses` gets the squared norm of what came.
            policy: Chooses the factors of listeners set to ``"auto"``.
            losses: The losses of all components so far.

        Raises:
            ValueError: a listener is set to ``"auto"``, and there is no policy.
        """
        self.send_back()
        self._known_losses = self._losses_per_word()
        self._listeners, self._policy, self._name = dict(listeners), policy, name
        if policy is None and (auto := ", ".join(self._auto(listeners))):
            raise ValueError(
                f"grad_factor is {AUTO!r} for {auto}, but the component {name!r} expected a policy "
                f"to choose it, and has none. Set balance, e.g. [components.{name}.balance] with "
                '@balancers = "trfnb.equal_norms.v1", or a number instead.'
            )
        self._factors = {one: getattr(x, "grad_factor", 1.0) for one, x in listeners.items()}
        self.junction = Junction(docs, *encode(docs, any(self._factors.values())))
        self._unsent = [self.junction]
        self._losses = {} if losses is None else losses
        self._losses.setdefault(name, 0.0)
        self._losses_before = dict(self._losses)
        self._words = sum(map(len, docs))
        self._reads.clear()
        self._came.clear()
        self._in_step = True

    def read(self, listener: Any, docs: Sequence[Doc], encode: Encode) -> Reading | None:
        """Return what a listener reads of the batch under way.

        Parts of its docs, such as sentences, are encoded by themselves, and take part in the step.

        Returns:
            None where these docs belong to no step under way, as in a rehearsal.

        Raises:
            ValueError: the docs are others than those of the batch, or come in another order.
        """
        junction = self.junction
        name = next((one for one, x in self._listeners.items() if x is listener), None)
        if junction is None or name is None:
            return None
        contents, factor = [content(doc) for doc in docs], self._factors[name]
        same = contents == junction.contents
        if junction.sent and (factor != 0 or not same):
            return None
        if not same:
            if self.overdue and not junction.holds(contents):
                self.send_back()
                return None
            junction.check(contents, name)
            if factor == 0:
                return None
            junction = Junction(docs, *encode(docs, True))
            self._unsent.append(junction)
        self._reads[name] += factor != 0  # no gradient follows at 0, but the batch was read
        return Reading(junction.outputs, factor, partial(self.add, junction, name))

    def add(self, junction: Junction, listener: str, parts: Parts) -> None:
        """Take a listener's gradient, before its factor.

        Raises:
            ValueError: the batch's gradients were sent back already.
        """
        if junction.sent:
            raise ValueError(
                f"The shared component {self._name!r} expected the gradient of {listener!r} before "
                "its training step, but it came after it. Where a component calls its model more "
                "than once, train with sgd=False and call finish_update for each component after."
            )
        self._reads[listener] -= 1
        self._came.add(listener)
        # A model may call its listener twice.
        so_far = junction.contributions.get(listener)
        junction.contributions[listener] = _sum(so_far, parts) if so_far else parts
        expected = {name for name, factor in self._factors.items() if factor != 0}
        if self._optimizer and expected <= self._came and max(self._reads.values()) <= 0:
            self._step(*self._optimizer)

    def finish(self, optimizer: Optimizer, model: Model) -> None:
        """Step the shared layer's weights, as soon as this batch's gradients are there."""
        unread = not self._came and not self._reads
        if self.junction is not None and not self.junction.sent and unread:
            self._optimizer = optimizer, model
        else:
            self._step(optimizer, model)
            self.junction = None

    def send_back(self) -> None:
        """Send back the gradients that wait, and take the step that waits for them."""
        if self._optimizer is not None:
            self._step(*self._optimizer)
        self._backward()
        self.junction = None

    def _step(self, optimizer: Optimizer, model: Model) -> None:
        self._optimizer = None
        self._backward()
        if self._has_gradient:
            model.finish_update(optimizer)
            self._has_gradient = False
        if self._in_step:
            self._in_step = False
            self.log.close()
            for layer in self._listeners.values():
                if hasattr(layer, "step"):
                    layer.step()

    def _backward(self) -> None:
        """Run the backward pass of each batch whose gradients wait, and log what met."""
        unsent, self._unsent = self._unsent, []
        for junction in unsent:
            came, junction.contributions = junction.contributions, {}
            backprop, junction.backprop = junction.backprop, None
            junction.sent = True
            factors, auto = dict(self._factors), self._auto(came)
            products = gram(list(came.values()), pairs=self.log.pairs or bool(auto))
            if auto and self._policy is not None:
                places = [list(came).index(name) for name in auto]
                between = products[np.ix_(places, places)]
                factors |= chosen_factors(self._policy, auto, between, self._known_losses)
            if came and backprop is not None:
                total: Parts = {}
                for name, parts in came.items():
                    total = _sum(total, parts, factors[name])
                backprop(total)
                self._has_gradient = True
            squares = products.diagonal() * np.square([factors[name] for name in came])
            self._losses[self._name] += float(squares.sum())
            self.log.add(list(factors), factors, list(came), products)

    def _auto(self, names: Iterable[str]) -> list[str]:
        """Return those of some listeners whose factor a policy chooses."""
        factors = {name: self._listeners[name].attrs.get("factor") for name in names}
        return [name for name, factor in factors.items() if factor is not None and factor.auto]

    def _losses_per_word(self) -> dict[str, float]:
        """Return each component's loss per word in the batch before; this one's is not known yet.

        A component adds its loss only after its gradient has arrived here.
        """
        return {
            name: (self._losses[name] - self._losses_before.get(name, 0.0)) / max(1, self._words)
            for name in self._listeners
            if name in self._losses
        }


def _sum(total: Parts, parts: Parts, factor: float = 1.0) -> Parts:
    summed = dict(total)
    for layer, gradient in parts.items():
        weighted = gradient * factor  # a listener's own array stays as it is
        summed[layer] = summed[layer] + weighted if layer in summed else weighted
    return summed
