"""What every shared component does: find its listeners, hand out a batch, take gradients."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from spacy.language import Language
from spacy.pipeline.tok2vec import Tok2Vec as SpacyTok2Vec
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from thinc.api import Model, Optimizer, set_dropout_rate

from ..flow.balancing import Policy
from ..flow.gradient_log import GradientLog
from ..flow.gradients import Backprop, Junction, Reading, SharedGradients
from ..flow.listener import SharedListener, Upstream


class PipelineRef(Upstream):
    """A weak reference to the pipeline that a component is part of; not sent to other processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return PipelineRef, ()


class SharedComponent:
    """A mixin for components that others listen to.

    Attributes:
        balance: The policy that chooses the factor of every listener set to ``"auto"``.
        gradients: The way of the listeners' gradients, and the training step under way.
        pipeline: The pipeline, where it is known.
    """

    name: str
    model: Model
    listener_map: dict[str, list[Any]]
    listener_type: Any
    balance: Policy | None = None
    gradients: SharedGradients
    pipeline: PipelineRef = PipelineRef()

    # spaCy's own protocol for components that are listened to.
    listeners: Any = SpacyTok2Vec.listeners
    listening_components: Any = SpacyTok2Vec.listening_components
    remove_listener: Any = SpacyTok2Vec.remove_listener

    def find_listeners(self, component: Any) -> None:
        """Connect every listener in a component's model that names this one, or any."""
        if not isinstance(getattr(component, "model", None), Model):
            return
        for node in component.model.walk():
            if isinstance(node, self.listener_type) and node.upstream_name in ("*", self.name):
                self.add_listener(node, component.name)

    def add_listener(self, listener: Any, component_name: str) -> None:
        """Connect a listener layer of a component; another that it listened to lets go of it."""
        if isinstance(listener, SharedListener):
            self._take_over(listener, component_name)
            listener.upstream = Upstream(self)
        layers = self.listener_map.setdefault(component_name, [])
        if listener not in layers:
            layers.append(listener)

    def _take_over(self, listener: SharedListener, component_name: str) -> None:
        other, nlp = listener.upstream(), self.pipeline()
        if other is None or other is self or listener not in other.listeners:
            return
        other.remove_listener(listener, component_name)
        if listener.upstream_name == "*" and (nlp is None or nlp.has_pipe(other.name)):
            first, second = sorted((self.name, other.name))
            warnings.warn(
                f"The listener of {component_name!r} to '*' found two components to listen to, "
                f"{first!r} and {second!r}. It listens to the later one in the pipeline; the other "
                f"gets no gradient from {component_name!r}. Set the listener's upstream to one of "
                "the two names.",
                stacklevel=2,
            )

    def named_listeners(self) -> dict[str, Any]:
        """Return every listener layer by the name of its component, numbered from its second on."""
        return {
            name if place == 0 else f"{name}#{place + 1}": layer
            for name, layers in self.listener_map.items()
            for place, layer in enumerate(layers)
        }

    @property
    def gradient_log(self) -> GradientLog:
        """The listeners' gradients in every training step so far."""
        return self.gradients.log

    @property
    def junction(self) -> Junction | None:
        """The batch under way, with the gradients that wait there."""
        return self.gradients.junction

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Encode a batch for the listeners.

        Args:
            examples: The batch.
            drop: Dropout rate of Thinc layers; a HuggingFace model has its own in its config.
            sgd: If given, step as soon as all listeners' gradients have arrived.
            losses: Gets the squared norm of the arriving gradients under the component's name.
        """
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.update")
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        if not self.listeners:
            return losses
        set_dropout_rate(self.model, drop)
        self.gradients.begin(
            [example.predicted for example in examples],
            self.encode_for_update,
            self.named_listeners(),
            name=self.name,
            policy=self.balance,
            losses=losses,
        )
        if sgd is not None:
            self.finish_update(sgd)
        return losses

    def finish_update(self, sgd: Optimizer) -> None:
        """Step the weights, once this batch's gradients are there.

        ``nlp.update(sgd=…)`` calls this before any listener ran; the step then waits for them.
        """
        self.gradients.finish(sgd, self.model)

    def send_back(self) -> None:
        """Send back the gradients that wait, and take the step that waits for them, if one does.

        Without a step, the gradients stay on the weights and add up with those of later batches.
        """
        self.gradients.send_back()

    def take_overdue_step(self) -> None:
        """Take the step that waits for listeners that were left out of an update."""
        if self.gradients.overdue:
            self.send_back()

    def read(self, listener: SharedListener, docs: Sequence[Doc]) -> Reading | None:
        """Return what a listener reads of the batch under way (see `SharedGradients.read`)."""
        return self.gradients.read(listener, docs, self.encode_for_update)

    def check_may_compute(self, docs: Sequence[Doc]) -> None:
        """Make sure that it is no mistake that docs come to a listener without an output.

        Raises:
            ValueError: this component is disabled, or was removed from its pipeline.
        """
        nlp: Language | None = self.pipeline()
        if nlp is None:
            return
        components: list[tuple[str, Any]] = nlp.components
        names = [name for name, component in components if component is self]
        if names and names[0] not in nlp.disabled:
            return
        state = "is disabled" if names else "was removed from the pipeline"
        remedy = f"Enable it (nlp.enable_pipe({self.name!r}))" if names else "Add it again"
        raise ValueError(
            f"A listener expected output of {self.name!r} on every doc, but {docs[0].text[:40]!r} "
            f"has none: {self.name!r} {state}. {remedy}, or give each component a copy of its own "
            "before that: nlp.replace_listeners."
        )

    def encode_for_update(self, docs: Sequence[Doc], is_train: bool) -> tuple[Any, Backprop | None]:
        """Return outputs for the listeners, and a callback that takes their summed gradient."""
        raise NotImplementedError

    def compute(self, docs: Sequence[Doc]) -> list[Any]:
        """Return one output a doc, by the weights as they are; nothing is left on the docs."""
        raise NotImplementedError
