"""spaCy's Tok2Vec component and its listener, with a grad_factor and one backward pass for all.

`SharedComponent` is what every shared component does: find its listeners, hand out a batch, take
gradients.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from spacy.language import Language
from spacy.pipeline import tok2vec as spacys
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.util import replace_model_node
from spacy.vocab import Vocab
from thinc.api import Model, Optimizer, set_dropout_rate
from thinc.types import Floats2d

from ..flow.grad_factor import GradFactor, Policy
from ..flow.gradients import GradientLog, Junction, LayerGradients, SharedGradients
from ..flow.listener import Backprop, SharedListener, Upstream, forward, remember_sample


class PipelineRef(Upstream):
    """A weak reference to the pipeline that a component is part of; not sent to other processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return PipelineRef, ()


def warn_of_unread_table(nlp: Language, name: str) -> None:
    """Warn where a pipeline has a vector table that no component reads.

    Args:
        nlp: The pipeline.
        name: Its transformer, which takes the table's place for all that listen to it.
    """
    models = [getattr(component, "model", None) for _, component in nlp.components]
    nodes = {node.name for one in models if isinstance(one, Model) for node in one.walk()}
    if nlp.vocab.vectors.shape[0] and "static_vectors" not in nodes:
        warnings.warn(
            f"The pipeline has a vector table, {nlp.vocab.vectors.name!r}, and no component reads "
            f"it: what listens to {name!r} sees the transformer alone. Remove [initialize] "
            "vectors, or keep the table for similarity only (docs/guide.md, Word vectors).",
            stacklevel=3,
        )


class SharedComponent(spacys.Tok2Vec):
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

    balance: Policy | None = None
    pipeline: PipelineRef = PipelineRef()

    def __init__(self, vocab: Vocab, model: Model, name: str = "tok2vec") -> None:
        super().__init__(vocab, model, name)
        self.gradients = SharedGradients()

    def add_listener(self, listener: Any, component_name: str) -> None:
        """Connect a listener layer of a component; another that it listened to lets go of it."""
        super().add_listener(listener, component_name)
        other, nlp = listener.upstream(), self.pipeline()
        listener.upstream = Upstream(self)
        if other is None or other is self or not other.remove_listener(listener, component_name):
            return
        both = other.pipeline() is nlp and (nlp is None or nlp.has_pipe(other.name))
        if listener.upstream_name == "*" and both:
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


class Tok2Vec(SharedComponent):
    """A small shared encoder that needs no transformer.

    It is saved and loaded as spaCy's component is. spaCy's own listeners work with it: each gives
    way to a `Tok2VecListener` with a factor of 1.

    Args:
        vocab: The pipeline's vocabulary.
        model: A model of type ``Model[list[Doc], list[Floats2d]]``.
        name: The component's name.
    """

    def find_listeners(self, component: Any) -> None:
        """Connect listeners, after spaCy's own have given way to trfnb's."""
        model: Any = getattr(component, "model", None)
        for node in list(model.walk()) if isinstance(model, Model) else ():
            if type(node) is spacys.Tok2VecListener and node.upstream_name in ("*", self.name):
                ours = Tok2VecListener(node.upstream_name, node.get_dim("nO"))
                replace_model_node(model, node, ours)
        super().find_listeners(component)

    def predict(self, docs: Iterable[Doc]) -> list[Floats2d]:
        """Return each doc's vectors, by the weights after the latest step."""
        self.gradients.take_overdue_step()
        return cast(list[Floats2d], super().predict(docs))

    def encode_for_update(
        self, docs: Sequence[Doc], is_train: bool
    ) -> tuple[Floats2d, Callable[[LayerGradients], Any] | None]:
        """Return the vectors of all docs, and a callback that takes their summed gradient."""
        vectors, backprop = self.model(list(docs), is_train)
        lengths: Any = [len(doc) for doc in docs]

        def backprop_flat(gradients: LayerGradients) -> None:
            backprop(self.model.ops.unflatten(gradients[0], lengths))

        return self.model.ops.flatten(vectors), backprop_flat if is_train else None

    def compute(self, docs: Sequence[Doc]) -> list[Floats2d]:
        """Return one array a doc, by the weights as they are; nothing is left on the docs."""
        return cast(list[Floats2d], super().predict(docs))


class Tok2VecListener(SharedListener, spacys.Tok2VecListener):
    """spaCy's listener, whose gradient is multiplied by a factor.

    It listens to spaCy's `tok2vec` as well as to `trfnb_tok2vec`; only the second skips its
    backward pass where every factor is 0.

    Args:
        upstream: Name of the component to listen to, or ``"*"`` for any.
        width: Numbers a vector.
        grad_factor: A number, or a schedule stepped once a training step.
    """

    def __init__(
        self, upstream: str, width: int, grad_factor: float | str | Iterable[float] = 1.0
    ) -> None:
        spacys.Tok2VecListener.__init__(self, upstream, width)
        self._func = _forward
        self.init = remember_sample
        self.attrs["factor"] = GradFactor(grad_factor)

    def take_stored(self, doc: Doc, is_train: bool) -> Floats2d | None:
        """Return a doc's tensor; one of another shape is another component's."""
        tensor = cast(Floats2d, doc.tensor)
        return tensor if tensor.shape == (len(doc), self.get_dim("nO")) else None

    def vectors(
        self, outputs: Sequence[Floats2d], is_train: bool
    ) -> tuple[Floats2d, Callable[[Floats2d], LayerGradients]]:
        """Lay the vectors of several docs one after another."""
        return self.ops.flatten(list(outputs)), lambda d_vectors: {0: d_vectors}


# Listen to trfnb's component, or to spaCy's own: on the docs, or by its batch id.
def _forward(
    model: Tok2VecListener, docs: Sequence[Doc], is_train: bool
) -> tuple[list[Floats2d], Backprop]:
    if model.upstream() is not None:
        return forward(model, docs, is_train)
    vectors, spacy_backprop = spacys.forward(model, docs, is_train)
    factor = model.grad_factor

    def backprop(d_vectors: list[Floats2d]) -> Any:
        # spaCy's component waits for a call from its last listener, so 0 must be sent too.
        found = spacy_backprop([d * factor for d in d_vectors])
        model.attrs["factor"].step()
        return found

    return vectors, backprop
