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

from .alignment import tokens_of
from .grad_factor import AUTO, chosen_factors

if TYPE_CHECKING:
    import pandas as pd

LayerGradients = dict[int, Floats2d]  # of a shared output: layer number -> (rows, width)
_SEVERAL_CALLS = (
    "Where a component calls its model more than once, train with sgd=False and call "
    "finish_update for each component after."
)


@dataclass
class Junction:
    """Docs at the shared output: what listeners read, and the gradients that they send back.

    Attributes:
        contents: The tokens of each of its docs, in order: copies of them are recognised.
        outputs: What the shared layer computed for them.
        backprop: Takes the gradient of the outputs; None where no gradient is wanted.
        contributions: Each listener's gradient before its factor, by the listener's name.
        sent: Whether the gradients went back.
    """

    contents: list[bytes]
    outputs: Any
    backprop: Callable[[LayerGradients], Any] | None
    contributions: dict[str, LayerGradients] = field(default_factory=dict)
    sent: bool = False


@dataclass
class Batch:
    """A batch of docs on its way, from `SharedGradients.begin` until its gradients went back.

    Attributes:
        shared: The component, a `pipe.tok2vec.SharedComponent`.
        listeners: Its listeners, by the names of their components.
        factors: Each listener's factor; a policy's are chosen on the way back.
        words: How many words it has, at least 1.
        losses: Where all components add up their losses.
        losses_before: The losses when it began.
        losses_per_word: The loss per word of each listener's component in the batch before.
        junctions: The batch, and behind it parts of its docs that a listener read by themselves.
        owed: How many gradients each listener owes for what it has read.
        optimizer: Steps the weights once all gradients are there; None where nobody asked yet.
    """

    shared: Any
    listeners: dict[str, Any]
    factors: dict[str, float]
    words: int
    losses: dict[str, float]
    losses_before: dict[str, float]
    losses_per_word: dict[str, float]
    junctions: list[Junction] = field(default_factory=list)
    owed: Counter[str] = field(default_factory=Counter)
    optimizer: Optimizer | None = None

    def encode(self, docs: Sequence[Doc], is_train: bool) -> Junction:
        """Compute docs for the listeners."""
        outputs, backprop = self.shared.encode_for_update(docs, is_train)
        contents = [tokens_of(doc).tobytes() for doc in docs]
        self.junctions.append(Junction(contents, outputs, backprop))
        return self.junctions[-1]

    def lost_per_word(self) -> dict[str, float]:
        """Return the loss per word of each listener's component in this batch."""
        return {
            name: (self.losses[name] - self.losses_before.get(name, 0.0)) / self.words
            for name in self.listeners
            if name in self.losses
        }

    @property
    def complete(self) -> bool:
        """Whether every listener with a factor has read, and all gradients came."""
        return all(self.owed.get(name, 1) <= 0 for name, factor in self.factors.items() if factor)


class SharedGradients:
    """The way of all listeners' gradients back through the layer that they share.

    There is one for each shared component. It is in one of four states:

    - *idle*: no batch is on its way, `junction` is None.
    - *open*, after `begin`: listeners `read` the batch, and the gradients that they `add` wait.
    - *waiting*, after `finish` came before any listener read the batch: ``nlp.update(sgd=…)``
      calls the shared component's step first. The batch's optimizer waits for the gradients.
    - *stepped*, after the last gradient of a waiting batch: its junction was sent. A listener that
      reads it again comes too late.

    A sum of all gradients, each multiplied by its factor, goes back in one pass, and then the
    weights step: by `finish` where the batch is open, by the last gradient where it is waiting.
    `send_back` does the same at once where it is waiting; where it is open, gradients stay on the
    weights without a step. `begin` starts with it, so that several batches accumulate.

    Attributes:
        batch: The latest batch, an empty one at first; it has no junctions where the state is idle.
        log: What met at the shared output in every step.
    """

    def __init__(self) -> None:
        self.log, self._has_gradient = GradientLog(), False  # a gradient that no step has used yet
        self.batch = Batch(None, {}, {}, 1, {}, {}, {})

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedGradients, ()  # a copy of a component is in no training step

    @property
    def junction(self) -> Junction | None:
        """The batch on its way; None where the state is idle."""
        return self.batch.junctions[0] if self.batch.junctions else None

    def begin(self, docs: Sequence[Doc], shared: Any, losses: dict[str, float]) -> None:
        """Compute a batch for the listeners, after sending back what waited.

        Args:
            docs: The batch.
            shared: The component. No gradient is asked of it where every factor is 0.
            losses: The losses of all components so far; under the shared component's name, which
                is there, they get the squared norm of the gradients that came.

        Raises:
            ValueError: a listener is set to ``"auto"``, and there is no policy.
        """
        self.send_back()
        name, listeners = shared.name, shared.named_listeners()
        factors = {one: listener.attrs["factor"] for one, listener in listeners.items()}
        auto = ", ".join(one for one, factor in factors.items() if factor.auto)
        if auto and shared.balance is None:
            raise ValueError(
                f"grad_factor is {AUTO!r} for {auto}, but the component {name!r} expected a policy "
                f"to choose it, and has none. Set balance, e.g. [components.{name}.balance] with "
                '@balancers = "trfnb.equal_norms.v1", or a number instead.'
            )
        # A component adds its loss after its gradient came: what is known is the batch before's.
        losses_per_word = self.batch.lost_per_word()
        now = {one: factor.now for one, factor in factors.items()}
        words = max(1, sum(map(len, docs)))
        self.batch = Batch(shared, listeners, now, words, losses, dict(losses), losses_per_word)
        self.batch.encode(docs, any(now.values()))

    def read(
        self, listener: Any, docs: Sequence[Doc]
    ) -> tuple[Any, Callable[[LayerGradients], None]] | None:
        """Return what a listener reads of the batch on its way, and what takes its gradient.

        Parts of its docs, such as sentences, are encoded by themselves, and take part in the step.

        Returns:
            Outputs, and a callback for their gradient before the factor; None where these docs
            belong to no batch on its way, as in a rehearsal.

        Raises:
            ValueError: the docs are others than those of the batch, or come in another order.
        """
        batch, junction = self.batch, self.junction
        name = next((name for name, layer in batch.listeners.items() if layer is listener), None)
        if junction is None or name is None:
            return None
        contents, factor = [tokens_of(doc).tobytes() for doc in docs], batch.factors[name]
        same = contents == junction.contents
        in_batch = same or all(any(one in doc for doc in junction.contents) for one in contents)
        if junction.sent and not (same and factor == 0):
            # What is in the batch, but is none of its docs, is a part of one.
            is_part = in_batch and set(contents).isdisjoint(junction.contents)
            if factor != 0 and (same or is_part):
                warnings.warn(
                    f"The listener of {name!r} reads a batch after its training step: nothing that "
                    f"it learns of it now reaches {batch.shared.name!r}. {_SEVERAL_CALLS}",
                    stacklevel=2,
                )
            return None
        if not same:
            if not in_batch and self.take_overdue_step():
                return None
            permuted = sorted(contents) == sorted(junction.contents)
            if permuted or not in_batch:
                raise ValueError(
                    f"The listener of {name!r} expected the {len(junction.contents)} docs that the "
                    "shared layer was updated with, or copies or parts of them, got "
                    f"{'the same docs in another order' if permuted else 'other docs'} "
                    f"({len(docs)}). Update both on one batch, in one order: nlp.update(examples)."
                )
            junction = batch.encode(docs, factor != 0)
        batch.owed[name] += factor != 0  # no gradient follows at 0, but the batch was read
        return junction.outputs, partial(self.add, junction, name)

    def add(self, junction: Junction, listener: str, gradients: LayerGradients) -> None:
        """Take a listener's gradient, before its factor; at a factor of 0 it is dropped.

        Raises:
            ValueError: the gradients of these docs were sent back already.
        """
        batch = self.batch
        if batch.factors[listener] == 0:
            return
        if junction.sent:
            raise ValueError(
                f"{batch.shared.name!r} expected the gradient of {listener!r} before its training "
                f"step, but it came after it. {_SEVERAL_CALLS}"
            )
        batch.owed[listener] -= 1
        # A model may call its listener twice.
        junction.contributions[listener] = _sum(junction.contributions.get(listener, {}), gradients)
        if batch.optimizer and batch.complete:
            self._send(batch)

    def finish(self, optimizer: Optimizer) -> None:
        """Step the shared layer's weights, as soon as this batch's gradients are there."""
        self.batch.optimizer = optimizer
        if self.junction is None or self.junction.sent or self.batch.owed:
            self.send_back()

    def send_back(self) -> None:
        """Send back the gradients that wait, and take the step that waits for them.

        Without a step, the gradients stay on the weights and add up with those of later batches.
        """
        self._send(self.batch)
        self.batch.junctions.clear()

    def take_overdue_step(self) -> bool:
        """Take a step that waits though gradients came, and return whether there was one.

        A listener was then left out of the update, or all factors are 0 and no gradient will come.
        """
        batch = self.batch
        overdue = batch.optimizer is not None and (
            batch.complete or any(junction.contributions for junction in batch.junctions)
        )
        if overdue:
            self.send_back()
        return overdue

    # Send back what waits, and take the step that waits for it.
    def _send(self, batch: Batch) -> None:
        for junction in batch.junctions:
            if not junction.sent:
                self._backward(batch, junction)
        optimizer, batch.optimizer = batch.optimizer, None
        if optimizer is not None:
            if self._has_gradient:
                batch.shared.model.finish_update(optimizer)
                self._has_gradient = False
            if self.log.close():
                for listener in batch.listeners.values():
                    listener.attrs["factor"].step()

    def _backward(self, batch: Batch, junction: Junction) -> None:
        came, junction.contributions = junction.contributions, {}
        backprop, junction.backprop = junction.backprop, None
        junction.sent, factors = True, dict(batch.factors)
        products = gram([came.get(name, {}) for name in factors])
        auto = [name for name in came if batch.listeners[name].attrs["factor"].auto]
        if auto:
            places = [list(factors).index(name) for name in auto]
            theirs = products[np.ix_(places, places)]
            factors |= chosen_factors(batch.shared.balance, auto, theirs, batch.losses_per_word)
        if came and backprop is not None:
            total: LayerGradients = {}
            for name, gradients in came.items():
                total = _sum(total, gradients, factors[name])
            backprop(total)
            self._has_gradient = True
        squares = products.diagonal() * np.square(list(factors.values()))
        batch.losses[batch.shared.name] += float(np.nansum(squares))
        self.log.add(factors, products)


def _sum(total: LayerGradients, other: LayerGradients, factor: float = 1.0) -> LayerGradients:
    summed = dict(total)
    for layer, gradient in other.items():
        weighted = gradient * factor  # a listener's own array stays as it is
        summed[layer] = summed[layer] + weighted if layer in summed else weighted
    return summed


def gram(gradients: Sequence[LayerGradients]) -> np.ndarray:
    """Return all inner products of the listeners' gradients before factors, (k, k), on the host.

    Norms are the roots of the diagonal, a cosine is an entry over two norms. Two listeners to
    different layers have no output in common, and one that sent nothing has none with any: their
    entries are NaN.
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


@dataclass
class GradientLog:
    """The effective factors and the gradients of every training step of a shared component.

    Attributes:
        steps: One `Step` per training step.
        parts: The batches of the step under way.
    """

    steps: list[Step] = field(default_factory=list)
    parts: list[Step] = field(default_factory=list)

    def add(self, factors: Mapping[str, float], products: np.ndarray) -> None:
        """Take one batch: a whole step, or a part of one.

        Args:
            factors: Each listener's effective factor.
            products: The `gram` of their gradients.
        """
        self.parts.append(Step(tuple(factors), tuple(factors.values()), products))

    def close(self) -> bool:
        """End the step; return whether there was one.

        Its parts hold different words, so that their inner products add up.
        """
        parts, self.parts = self.parts, []
        parts = [part for part in parts if part.listeners == parts[-1].listeners]
        if not parts:
            return False
        factors = np.array([part.factors for part in parts])
        grams = np.stack([part.gram for part in parts])
        total = np.where(np.isnan(grams).all(axis=0), np.nan, np.nansum(grams, axis=0))
        varied = bool((factors != factors[0]).any())
        mean = factors.mean(axis=0) if varied else factors[0]
        self.steps.append(Step(parts[-1].listeners, tuple(mean.tolist()), total, varied))
        return True

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
