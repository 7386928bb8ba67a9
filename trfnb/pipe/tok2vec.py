"""spaCy's Tok2Vec component and its listener, with a grad_factor and one backward pass for all."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from spacy.pipeline.tok2vec import Tok2Vec as SpacyTok2Vec
from spacy.pipeline.tok2vec import Tok2VecListener as SpacyListener
from spacy.pipeline.tok2vec import forward as spacy_forward
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Model, Optimizer
from thinc.types import Floats2d

from ..flow.grad_factor import GradFactor
from ..flow.gradient_log import Parts
from ..flow.gradients import Backprop, Junction, SharedGradients
from ..flow.listener import Backprop as ListenerBackprop
from ..flow.listener import SharedListener, Upstream, remember_sample, split
from .shared import SharedComponent


class Tok2Vec(SharedComponent, SpacyTok2Vec):
    """A small shared encoder that needs no transformer.

    It is saved and loaded as spaCy's component is. spaCy's own listeners work with it, at a
    factor of 1.

    Args:
        vocab: The pipeline's vocabulary.
        model: A model of type ``Model[list[Doc], list[Floats2d]]``.
        name: The component's name.
    """

    listener_type = SpacyListener

    def __init__(
        self, vocab: Vocab, model: Model[list[Doc], list[Floats2d]], name: str = "tok2vec"
    ) -> None:
        super().__init__(vocab, model, name)
        self.gradients = SharedGradients()

    def predict(self, docs: Iterable[Doc]) -> list[Floats2d]:
        """Return each doc's vectors, by the weights after the latest step."""
        self.take_overdue_step()
        return cast(list[Floats2d], super().predict(docs))

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Encode a batch for the listeners; see `SharedComponent.update`."""
        examples = list(examples)
        losses = super().update(examples, drop=drop, sgd=sgd, losses=losses)
        for name, layer in self.named_listeners().items():
            if not isinstance(layer, SharedListener):
                self._hand_out(name, layer, [example.predicted for example in examples])
        return losses

    def finish_update(self, sgd: Optimizer) -> None:
        """Step the weights, once this batch's gradients are there."""
        super().finish_update(sgd)
        self._disconnect()

    def send_back(self) -> None:
        """Send back the gradients that wait, and take the step that waits for them."""
        super().send_back()
        self._disconnect()

    def encode_for_update(
        self, docs: Sequence[Doc], is_train: bool
    ) -> tuple[Floats2d, Backprop | None]:
        """Return the vectors of all docs, and a callback that takes their summed gradient."""
        vectors, backprop = self.model(list(docs), is_train)
        lengths = [len(doc) for doc in docs]

        def backprop_flat(parts: Parts) -> None:
            backprop(split(parts[0], lengths))

        return self.model.ops.flatten(vectors), backprop_flat if is_train else None

    def compute(self, docs: Sequence[Doc]) -> list[Floats2d]:
        """Return one array a doc, by the weights as they are; nothing is left on the docs."""
        return cast(list[Floats2d], super().predict(docs))

    def to_disk(self, path: str | Path, *, exclude: Sequence[str] = ()) -> None:
        """Save the component after the latest step."""
        self.send_back()
        super().to_disk(path, exclude=exclude)

    def to_bytes(self, *, exclude: Sequence[str] = ()) -> bytes:
        """Save the component, after the latest step, in bytes."""
        self.send_back()
        return cast(bytes, super().to_bytes(exclude=exclude))

    def _hand_out(self, name: str, layer: SpacyListener, docs: Sequence[Doc]) -> None:
        """Give the batch under way to a listener of spaCy's own, in its own way."""
        junction = cast(Junction, self.junction)

        def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
            self.gradients.add(junction, name, {0: self.model.ops.flatten(d_vectors)})
            return []

        vectors = split(junction.outputs, [len(doc) for doc in docs])
        layer.receive(SpacyListener.get_batch_id(docs), vectors, backprop)

    def _disconnect(self) -> None:
        """Let spaCy's own listeners forget a batch that is over."""
        if self.junction is None:
            for layer in self.named_listeners().values():
                layer.receive(None, None, None)


class Tok2VecListener(SharedListener, SpacyListener):
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
        SpacyListener.__init__(self, upstream, width)
        self._func = forward
        self.init = remember_sample
        self.attrs["factor"] = GradFactor(grad_factor)
        self.upstream = Upstream()
        self.sample = []


def forward(
    model: Tok2VecListener, docs: Sequence[Doc], is_train: bool
) -> tuple[list[Floats2d], ListenerBackprop]:
    """Hand on the shared vectors of a batch: of the step under way, or what lies on the docs."""
    if model.upstream() is None:
        return _as_in_spacy(model, docs, is_train)
    reading = model.read(docs) if is_train else None
    if reading is None:
        return _from_docs(model, docs, is_train), lambda d_vectors: []

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        if reading.factor != 0:
            reading.add({0: model.ops.flatten(d_vectors)})
        return []

    return split(reading.outputs, [len(doc) for doc in docs]), backprop


def _from_docs(model: Tok2VecListener, docs: Sequence[Doc], is_train: bool) -> list[Floats2d]:
    width = model.get_dim("nO")
    # A tensor of another shape is another component's.
    missing = [doc for doc in docs if len(doc) and doc.tensor.shape != (len(doc), width)]
    computed = model.compute(missing, is_train) if missing else []
    if computed is None:
        return [model.ops.alloc2f(len(doc), width) for doc in docs]
    vectors = {id(doc): one for doc, one in zip(missing, computed, strict=True)}
    return [
        vectors.get(id(doc), doc.tensor if len(doc) else model.ops.alloc2f(0, width))
        for doc in docs
    ]


def _as_in_spacy(
    model: Tok2VecListener, docs: Sequence[Doc], is_train: bool
) -> tuple[list[Floats2d], ListenerBackprop]:
    """Listen to spaCy's own component: on the docs, or by its batch id."""
    vectors, spacy_backprop = spacy_forward(model, docs, is_train)
    factor = model.grad_factor
    lengths = [len(doc) for doc in docs]
    if [len(one) for one in vectors] != lengths:
        raise ValueError(
            f"The listener to {model.upstream_name!r} expected vectors of {lengths} tokens, got "
            f"{[len(one) for one in vectors]}: the docs came in another order, or their tokens "
            "changed. Update both on one batch, in one order: nlp.update(examples)."
        )

    def backprop(d_vectors: list[Floats2d]) -> Any:
        # spaCy's component waits for a call from its last listener, so 0 must be sent too.
        found = spacy_backprop([d * factor for d in d_vectors])
        model.step()
        return found

    return vectors, backprop
