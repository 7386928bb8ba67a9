"""The way of all listeners' gradients back through the layer that they share, and their log."""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np
from spacy.tokens import Doc
from thinc.api import Optimizer, get_array_module
from thinc.types import Floats2d

from .alignment import content
from .grad_factor import AUTO, GradFactor, chosen_factors

if TYPE_CHECKING:
    import pandas as pd

Parts = dict[int, Floats2d]  # gradients of a shared output: layer number -> (rows, width)
Backprop = Callable[[Parts], Any]


@dataclass
class Junction:
    """One batch at the shared output: what listeners read, and the gradients that they send back.

    It is known by its tokens: a copy of its docs finds it, the same docs in another order do not.

    Attributes:
        contents: The tokens of each of its docs, in order.
        outputs: What the shared layer computed for them.
        backprop: Takes the gradient of the outputs; None where no gradient is wanted.
        contributions: Each listener's gradient before its factor, by the listener's name.
        sent: Whether the gradients went back.
    """

    contents: list[bytes]
    outputs: Any
    backprop: Backprop | None
    contributions: dict[str, Parts] = field(default_factory=dict)
    sent: bool = False


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
        self._shared: Any = None
        self._listeners: dict[str, Any] = {}
        self._factors: dict[str, float] = {}
        self._words = 1
        self._losses: dict[str, float] = {}
        self._losses_before: dict[str, float] = {}
        self._losses_per_word: dict[str, float] = {}
        self._optimizer: Optimizer | None = None
        self._reads: Counter[str] = Counter()
        self._has_gradient = self._in_step = False

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy of a component is in no training step.
        return SharedGradients, ()

    def begin(self, docs: Sequence[Doc], shared: Any, losses: dict[str, float]) -> None:
        """Compute a batch for the listeners, after sending back what waited.

        Args:
            docs: The batch.
            shared: The component (see `trfnb.pipe.tok2vec.SharedComponent`): its model, listeners
                and policy. No gradient is asked of it where every factor is 0.
            losses: The losses of all components so far; under the shared component's name they
                get the squared norm of the gradients that came.

        Raises:
            ValueError: a listener is set to ``"auto"``, and there is no policy.
        """
        self.send_back()
        name, listeners = shared.name, shared.named_listeners()
        auto = ", ".join(one for one, listener in listeners.items() if _factor(listener).auto)
        if auto and shared.balance is None:
            raise ValueError(
                f"grad_factor is {AUTO!r} for {auto}, but the component {name!r} expected a policy "
                f"to choose it, and has none. Set balance, e.g. [components.{name}.balance] with "
                '@balancers = "trfnb.equal_norms.v1", or a number instead.'
            )
        self._shared, self._listeners = shared, listeners
        self._factors = {one: _factor(listener).now for one, listener in listeners.items()}
        self._reads.clear()
        # A component adds its loss after its gradient came: what is known is the batch before's.
        self._losses_per_word = {
            one: (self._losses[one] - self._losses_before.get(one, 0.0)) / self._words
            for one in listeners
            if one in self._losses
        }
        losses.setdefault(name, 0.0)
        self._losses, self._losses_before = losses, dict(losses)
        self._words = max(1, sum(map(len, docs)))
        self.junction = self._encoded(docs, any(self._factors.values()))
        self._in_step = True

    def _encoded(self, docs: Sequence[Doc], is_train: bool) -> Junction:
        outputs, backprop = self._shared.encode_for_update(docs, is_train)
        junction = Junction([content(doc) for doc in docs], outputs, backprop)
        self._unsent.append(junction)
        return junction

    def read(
        self, listener: Any, docs: Sequence[Doc]
    ) -> tuple[Any, Callable[[Parts], None]] | None:
        """Return what a listener reads of the batch under way, and what takes its gradient.

        Parts of its docs, such as sentences, are encoded by themselves, and take part in the step.

        Returns:
            Outputs, and a callback for their gradient before the factor; None where these docs
            belong to no step under way, as in a rehearsal.

        Raises:
            ValueError: the docs are others than those of the batch, or come in another order.
        """
        junction, shared = self.junction, getattr(self._shared, "name", "")
        name = next((one for one, x in self._listeners.items() if x is listener), None)
        if junction is None or name is None:
            return None
        contents, factor = [content(doc) for doc in docs], self._factors[name]
        if contents != junction.contents:
            in_batch = all(any(one in whole for whole in junction.contents) for one in contents)
            if junction.sent or (not in_batch and self.take_overdue_step()):
                return None
            permuted = sorted(contents) == sorted(junction.contents)
            if permuted or not in_batch:
                raise ValueError(
                    f"The listener of {name!r} expected the {len(junction.contents)} docs that the "
                    "shared layer was updated with, or copies or parts of them, got "
                    f"{'the same docs in another order' if permuted else 'other docs'} "
                    f"({len(docs)}). Update both on one batch, in one order: nlp.update(examples)."
                )
            junction = self._encoded(docs, factor != 0)
        elif junction.sent and factor != 0:
            warnings.warn(
                f"The listener of {name!r} reads a batch after its training step: nothing that it "
                f"learns of it now reaches {shared!r}. Where a component calls its model more "
                "than once, train with sgd=False and call finish_update for each component after.",
                stacklevel=2,
            )
            return None
        self._reads[name] += factor != 0  # no gradient follows at 0, but the batch was read
        return junction.outputs, partial(self.add, junction, name)

    def add(self, junction: Junction, listener: str, parts: Parts) -> None:
        """Take a listener's gradient, before its factor; at a factor of 0 it is dropped.

        Raises:
            ValueError: the batch's gradients were sent back already.
        """
        if self._factors[listener] == 0:
            return
        if junction.sent:
            raise ValueError(
                f"{self._shared.name!r} expected the gradient of {listener!r} before its training "
                "step, but it came after it. Where a component calls its model more "
                "than once, train with sgd=False and call finish_update for each component after."
            )
        self._reads[listener] -= 1
        # A model may call its listener twice.
        junction.contributions[listener] = _sum(junction.contributions.get(listener, {}), parts)
        expected = [name for name, factor in self._factors.items() if factor != 0]
        if self._optimizer and all(self._reads.get(name, 1) <= 0 for name in expected):
            self._settle()

    def finish(self, optimizer: Optimizer) -> None:
        """Step the shared layer's weights, as soon as this batch's gradients are there."""
        self._optimizer = optimizer
        if self.junction is None or self.junction.sent or self._reads:
            self.send_back()

    def send_back(self) -> None:
        """Send back the gradients that wait, and take the step that waits for them.

        Without a step, the gradients stay on the weights and add up with those of later batches.
        """
        self._settle()
        self.junction = None

    def take_overdue_step(self) -> bool:
        """Take a step that waits though gradients came: a listener was left out of the update.

        Returns:
            Whether there was one.
        """
        if self._optimizer is None or not any(one.contributions for one in self._unsent):
            return False
        self.send_back()
        return True

    def _settle(self) -> None:
        unsent, self._unsent = self._unsent, []
        for junction in unsent:
            self._backward(junction)
        if self._optimizer is None:
            return
        optimizer, self._optimizer = self._optimizer, None
        if self._has_gradient:
            self._shared.model.finish_update(optimizer)
            self._has_gradient = False
        if self._in_step:
            self._in_step = False
            self.log.close()
            for listener in self._listeners.values():
                _factor(listener).step()

    def _backward(self, junction: Junction) -> None:
        came, junction.contributions = junction.contributions, {}
        backprop, junction.backprop = junction.backprop, None
        junction.sent = True
        names, factors, products = list(came), dict(self._factors), gram(list(came.values()))
        auto = [name for name in names if _factor(self._listeners[name]).auto]
        if auto:
            places = [names.index(name) for name in auto]
            factors |= chosen_factors(
                self._shared.balance, auto, products[np.ix_(places, places)], self._losses_per_word
            )
        if came and backprop is not None:
            total: Parts = {}
            for name, parts in came.items():
                total = _sum(total, parts, factors[name])
            backprop(total)
            self._has_gradient = True
        squares = np.square([factors[name] for name in names])
        self._losses[self._shared.name] += float(products.diagonal() @ squares)
        self.log.add(list(factors), factors, names, products)


def _factor(listener: Any) -> GradFactor:
    return listener.attrs.get("factor") or GradFactor(1.0)  # spaCy's own listeners have none


def _sum(total: Parts, parts: Parts, factor: float = 1.0) -> Parts:
    summed = dict(total)
    for layer, gradient in parts.items():
        weighted = gradient * factor  # a listener's own array stays as it is
        summed[layer] = summed[layer] + weighted if layer in summed else weighted
    return summed


def gram(gradients: Sequence[Parts]) -> np.ndarray:
    """Return all inner products of the listeners' gradients, (k, k), on the host.

    Norms are the roots of the diagonal, a cosine is an entry over two norms. Two listeners to
    different layers have no output in common: their entry is NaN.

    Args:
        gradients: What each listener sent, before its factor.
    """
    found = np.full((len(gradients), len(gradients)), np.nan)
    for (i, first), (j, second) in combinations_with_replacement(enumerate(gradients), 2):
        layers = first.keys() & second.keys()
        if layers:
            xp = get_array_module(first[min(layers)])
            product = sum(float(xp.vdot(first[layer], second[layer])) for layer in layers)
            found[i, j] = found[j, i] = product
    return found


@dataclass(frozen=True)
class Step:
    """The gradients of one training step at the shared output.

    Attributes:
        listeners: Their components' names.
        factors: What each gradient was multiplied by.
        gram: Inner products of the raw gradients, (k, k); NaN where there is none.
        varied: Whether a factor changed between the parts of an accumulated step.
    """

    listeners: tuple[str, ...]
    factors: tuple[float, ...]
    gram: np.ndarray
    varied: bool = False


class GradientLog:
    """The effective factors and the gradients of every training step of a shared component.

    Attributes:
        steps: One `Step` per training step.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._parts: list[Step] = []

    def add(
        self, listeners: Sequence[str], factors: Mapping[str, float], came: Sequence[str],
        products: np.ndarray,
    ) -> None:  # fmt: skip
        """Take one batch: a whole step, or a part of one.

        Args:
            listeners: All of them.
            factors: Each one's effective factor.
            came: Whose gradient arrived.
            products: The `gram` of those.
        """
        whole = np.full((len(listeners), len(listeners)), np.nan)
        places = [listeners.index(name) for name in came]
        whole[np.ix_(places, places)] = products
        self._parts.append(Step(tuple(listeners), tuple(factors[x] for x in listeners), whole))

    def close(self) -> None:
        """End the step. Its parts hold different words, so that their inner products add up."""
        parts, self._parts = self._parts, []
        parts = [part for part in parts if part.listeners == parts[-1].listeners]
        if not parts:
            return
        factors = np.array([part.factors for part in parts])
        grams = np.stack([part.gram for part in parts])
        total = np.where(np.isnan(grams).all(axis=0), np.nan, np.nansum(grams, axis=0))
        varied = bool((factors != factors[0]).any())
        mean = factors.mean(axis=0) if varied else factors[0]
        self.steps.append(Step(parts[-1].listeners, tuple(mean.tolist()), total, varied))

    def table(self) -> "pd.DataFrame":
        """Return one row per step and listener.

        Columns: ``step`` (from 1), ``listener``, the effective ``factor``, the ``raw_norm`` of
        its gradient, the ``norm`` after the factor, its ``share`` of the summed gradient (the
        part of the sum's length that it brings along the sum's direction; all shares add up to
        1, and a negative one points against the rest), and ``state``: a gradient is measured
        unless its factor was 0 (then it is not computed) or its component was not updated.
        Listeners to other layers count as orthogonal in the shares.
        """
        import pandas as pd

        rows = []
        for number, step in enumerate(self.steps, start=1):
            raw = np.sqrt(step.gram.diagonal())
            products = np.nan_to_num(step.gram) * np.outer(step.factors, step.factors)
            total = products.sum() or np.nan
            for i, (name, factor) in enumerate(zip(step.listeners, step.factors, strict=True)):
                norm, share = abs(factor) * raw[i] if factor else 0.0, products[i].sum() / total
                missing = "no gradient came" if factor else "not computed: factor 0"
                state = missing if np.isnan(raw[i]) else "measured"
                rows.append((number, name, factor, raw[i], norm, share, state))
        return pd.DataFrame(
            rows, columns=["step", "listener", "factor", "raw_norm", "norm", "share", "state"]
        )

    def conflicts(self) -> "pd.DataFrame":
        """Return one row per step and pair: ``step``, ``first``, ``second``, ``cosine``.

        The cosine is that of the raw gradients; below 0 the two listeners want opposite changes.
        It is NaN where one was not computed, is zero, or belongs to another layer.
        """
        import pandas as pd

        rows = []
        for number, step in enumerate(self.steps, start=1):
            squares = step.gram.diagonal()
            with np.errstate(invalid="ignore"):
                cosines = step.gram / np.sqrt(np.outer(squares, squares))
            for (i, first), (j, second) in combinations(enumerate(step.listeners), 2):
                rows.append((number, first, second, cosines[i, j]))
        return pd.DataFrame(rows, columns=["step", "first", "second", "cosine"])
