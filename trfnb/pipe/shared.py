"""What every shared body does: find its listeners, hand out one batch, take their gradients."""

from collections.abc import Iterable
from typing import Any

from spacy.training import Example, validate_examples
from thinc.api import Model, Optimizer, set_dropout_rate

from ..flow.balancing import Balance, Policy
from ..flow.gradients import AUTO, Junction
from ..flow.measurement import GradientLog


class SharedBody:
    """A mixin for components that others listen to.

    Gradients wait at a junction. They go back through the body in one pass when the body is about
    to step, or before its next batch, so that the order of the components does not matter.

    Attributes:
        balance: The policy that chooses the factor of every listener set to ``"auto"``.
        junction: Where the gradients of the batch under way meet.
    """

    name: str
    model: Model
    listener_map: dict[str, list[Any]]
    listener_type: Any
    junction: Junction | None = None
    balance: Policy | None = None
    _log: GradientLog | None = None
    _losses: dict[str, float] | None = None
    _losses_before: dict[str, float]
    _words: int = 0
    _names: dict[int, str]
    _deferred: Optimizer | None = None
    _has_gradient: bool = False
    _in_step: bool = False

    # -- listeners: the protocol of spaCy's ListenedToComponent ------------------------------

    @property
    def listeners(self) -> list[Any]:
        """All listener layers, in pipeline order."""
        return [layer for layers in self.listener_map.values() for layer in layers]

    @property
    def listening_components(self) -> list[str]:
        """Names of the components that listen."""
        return list(self.listener_map)

    def add_listener(self, listener: Any, component_name: str) -> None:
        """Connect a listener layer of a component."""
        layers = self.listener_map.setdefault(component_name, [])
        if listener not in layers:
            layers.append(listener)

    def remove_listener(self, listener: Any, component_name: str) -> bool:
        """Disconnect a listener layer; return whether it was connected."""
        layers = self.listener_map.get(component_name, [])
        if listener not in layers:
            return False
        layers.remove(listener)
        if not layers:
            del self.listener_map[component_name]
        return True

    def find_listeners(self, component: Any) -> None:
        """Connect every listener in a component's model that names this one, or any."""
        if not isinstance(getattr(component, "model", None), Model):
            return
        for node in component.model.walk():
            if isinstance(node, self.listener_type) and node.upstream_name in ("*", self.name):
                self.add_listener(node, component.name)

    def listener_names(self) -> dict[int, str]:
        """Name every listener layer, by its id, after its component."""
        return {
            layer.id: name if place == 0 else f"{name}#{place + 1}"
            for name, layers in self.listener_map.items()
            for place, layer in enumerate(layers)
        }

    @property
    def gradient_log(self) -> GradientLog:
        """What met at the shared output in every training step so far."""
        if self._log is None:
            self._log = GradientLog()
        return self._log

    # -- one training step ------------------------------------------------------------------

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Encode a batch and hand it to the listeners.

        Args:
            examples: The batch.
            drop: Dropout rate of Thinc layers; a HuggingFace model has its own in its config.
            sgd: If given, step as soon as all listeners' gradients have arrived.
            losses: Gets the squared norm of the arriving gradients under the component's name.
        """
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.update")
        self.settle()
        known = self._known_losses()
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        if not self.listeners:
            return losses
        set_dropout_rate(self.model, drop)
        docs = [example.predicted for example in examples]
        asked = {layer.id: getattr(layer, "grad_factor", 1.0) for layer in self.listeners}
        if any(asked.values()):
            outputs, backprop = self._begin_update(docs)
        else:
            outputs, backprop = self._predict_for_update(docs), None
        self.junction = Junction(
            docs,
            outputs,
            backprop,
            asked,
            balance=self._balance(known),
            pairs=self.gradient_log.pairs,
        )
        self._names = self.listener_names()
        self._losses, self._losses_before = losses, dict(losses)
        self._words = sum(map(len, docs))
        self._in_step = True
        for layer in self.listeners:
            self._connect(layer, self.junction)
        if sgd is not None:
            self.finish_update(sgd)
        return losses

    def finish_update(self, sgd: Optimizer) -> None:
        """Step the body's weights, once this batch's gradients are there.

        ``nlp.update(sgd=…)`` calls this before any listener ran; the step then waits for them.
        """
        junction = self.junction
        if junction is not None and not junction.read and not junction.contributions:
            self._deferred = sgd
            junction.when_complete = self._step_deferred
        else:
            self._step(sgd)
            self._disconnect()

    def settle(self) -> None:
        """Send back the gradients that wait, and take a step that waited for them."""
        self._step_deferred()
        self._send_back()
        self._disconnect()

    def _take_answered_step(self) -> None:
        """Take the step that waits for listeners that were left out of an update."""
        if self._deferred is not None and self.junction is not None and self.junction.contributions:
            self.settle()

    def _step_deferred(self) -> None:
        """Take the step that waited; a listener at factor 0 may still come to read."""
        if self._deferred is not None:
            self._step(self._deferred)

    def _step(self, sgd: Optimizer) -> None:
        self._deferred = None
        self._send_back()
        if self._has_gradient:
            self.model.finish_update(sgd)
            self._has_gradient = False
        if self._in_step:
            self._in_step = False
            self.gradient_log.close()
            for layer in self.listeners:
                if hasattr(layer, "step"):
                    layer.step()

    def _send_back(self) -> None:
        """Run the backward pass if gradients wait, and log what met."""
        junction, self.junction = self.junction, None
        if junction is None:
            return
        self._has_gradient |= bool(junction.contributions)
        squares = junction.settle()
        if self._losses is not None:
            self._losses[self.name] += squares
        names = self.listener_names()
        factors = {
            names[one]: factor for one, factor in (junction.asked | junction.factors).items()
        }
        came = [names[one] for one in junction.factors]
        self.gradient_log.add(list(factors), factors, came, junction.products)

    def _disconnect(self) -> None:
        for layer in self.listeners:
            self._connect(layer, None)

    def _balance(self, losses: dict[str, float]) -> Balance | None:
        """Return the policy with the listeners that are set to "auto", if there are any.

        Raises:
            ValueError: a listener is set to "auto", and there is no policy.
        """
        names = self.listener_names()
        auto = {
            layer.id: names[layer.id]
            for layer in self.listeners
            if "factor" in layer.attrs and layer.attrs["factor"].auto
        }
        if not auto:
            return None
        if self.balance is None:
            raise ValueError(
                f"grad_factor is {AUTO!r} for {', '.join(auto.values())}, but the component "
                f"{self.name!r} expected a policy to choose it, and has none. Set balance, e.g. "
                f'[components.{self.name}.balance] with @balancers = "trfnb.equal_norms.v1", '
                "or a number instead."
            )
        return Balance(self.balance, auto, losses)

    def _known_losses(self) -> dict[str, float]:
        """Return each component's loss a word in the batch before: that of this one is not known.

        A component adds its loss only after its gradient has arrived here.
        """
        if self._losses is None:
            return {}
        words = max(1, self._words)
        found = {
            name: (loss - self._losses_before.get(name, 0.0)) / words
            for name, loss in self._losses.items()
            if name in self.listener_map
        }
        self._losses = None
        return found

    # -- what a body fills in ---------------------------------------------------------------

    def _begin_update(self, docs: list[Any]) -> tuple[Any, Any]:
        """Return outputs for the listeners and a callback that takes their summed gradient."""
        return self.model.begin_update(docs)

    def _predict_for_update(self, docs: list[Any]) -> Any:
        """Return outputs for the listeners where no gradient is wanted."""
        return self.model.predict(docs)

    def _connect(self, layer: Any, junction: Junction | None) -> None:
        layer.connect(junction)
