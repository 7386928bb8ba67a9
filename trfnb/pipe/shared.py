"""What every shared component does: find its listeners, hand out a batch, take gradients."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from spacy.pipeline.tok2vec import Tok2Vec as SpacyTok2Vec
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.vocab import Vocab
from thinc.api import Model, Optimizer, set_dropout_rate

from ..flow.grad_factor import Policy
from ..flow.gradients import Backprop, GradientLog, Junction, SharedGradients
from ..flow.listener import SharedListener, Upstream


class PipelineRef(Upstream):
    """A weak reference to the pipeline that a component is part of; not sent to other processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return PipelineRef, ()


class SharedComponent(SpacyTok2Vec):
    """A component that others listen to; it keeps to the protocol of spaCy's own.

    Args:
        vocab: The pipeline's vocabulary.
        model: The shared layer.
        name: The component's name.

    Attributes:
        balance: The policy that chooses the factor of every listener set to ``"auto"``.
        gradients: The way of the listeners' gradients, and the training step under way.
        pipeline: The pipeline, where it is known.
    """

    listener_type: Any
    balance: Policy | None = None
    pipeline: PipelineRef = PipelineRef()

    def __init__(self, vocab: Vocab, model: Model, name: str) -> None:
        super().__init__(vocab, model, name)
        self.gradients = SharedGradients()

    def find_listeners(self, component: Any) -> None:
        """Connect every listener in a component's model that names this one, or any."""
        model = getattr(component, "model", None)
        for node in model.walk() if isinstance(model, Model) else ():
            if isinstance(node, self.listener_type) and node.upstream_name in ("*", self.name):
                self.add_listener(node, component.name)

    def add_listener(self, listener: Any, component_name: str) -> None:
        """Connect a listener layer of a component; another that it listened to lets go of it."""
        super().add_listener(listener, component_name)
        if not isinstance(listener, SharedListener):
            return
        other, nlp = listener.upstream(), self.pipeline()
        listener.upstream = Upstream(self)
        if other is None or other is self or not other.remove_listener(listener, component_name):
            return
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
        if self.listeners:
            set_dropout_rate(self.model, drop)
            self.gradients.begin([example.predicted for example in examples], self, losses)
            if sgd is not None:
                self.finish_update(sgd)
        return losses

    def finish_update(self, sgd: Optimizer) -> None:
        """Step the weights, once this batch's gradients are there.

        ``nlp.update(sgd=…)`` calls this before any listener ran; the step then waits for them.
        """
        self.gradients.finish(sgd)

    def send_back(self) -> None:
        """Send back the gradients that wait (see `SharedGradients.send_back`)."""
        self.gradients.send_back()

    def check_enabled(self) -> None:
        """Make sure that it is no mistake that docs come to a listener without an output.

        Raises:
            ValueError: this component is disabled, or was removed from its pipeline.
        """
        nlp = self.pipeline()
        if nlp is not None and self not in [component for _, component in nlp.pipeline]:
            raise ValueError(
                f"A listener expected output of {self.name!r} on every doc, but {self.name!r} is "
                f"disabled or was removed from the pipeline. Enable it (nlp.enable_pipe("
                f"{self.name!r})), add it again, or give each component a copy of its own before "
                "that: nlp.replace_listeners."
            )

    def to_disk(self, path: str | Path, *, exclude: Sequence[str] = ()) -> None:
        """Save the component after the latest step."""
        self.send_back()
        super().to_disk(path, exclude=exclude)

    def to_bytes(self, *, exclude: Sequence[str] = ()) -> bytes:
        """Save the component, after the latest step, in bytes."""
        self.send_back()
        return cast(bytes, super().to_bytes(exclude=exclude))

    def encode_for_update(self, docs: Sequence[Doc], is_train: bool) -> tuple[Any, Backprop | None]:
        """Return what listeners read of a batch, and a callback that takes its summed gradient."""
        raise NotImplementedError

    def compute(self, docs: Sequence[Doc]) -> list[Any]:
        """Return what listeners read of each doc, by the weights as they are; docs stay as is."""
        raise NotImplementedError
