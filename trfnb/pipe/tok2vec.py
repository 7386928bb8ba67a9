"""spaCy's Tok2Vec component and its listener, with a grad_factor and one backward pass for all."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

from spacy.pipeline.tok2vec import Tok2VecListener as SpacyListener
from spacy.pipeline.tok2vec import forward as spacy_forward
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Model, Optimizer
from thinc.types import Floats2d

from ..flow.grad_factor import GradFactor
from ..flow.gradients import Backprop, Junction, Parts
from ..flow.listener import Backprop as ListenerBackprop
from ..flow.listener import SharedListener, Upstream, forward, remember_sample, split
from .shared import SharedComponent


class Tok2Vec(SharedComponent):
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

    def predict(self, docs: Iterable[Doc]) -> list[Floats2d]:
        """Return each doc's vectors, by the weights after the latest step."""
        self.gradients.take_overdue_step()
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
        docs = [example.predicted for example in examples]
        for name, layer in self.named_listeners().items():
            if not isinstance(layer, SharedListener):
                junction = cast(Junction, self.junction)
                vectors = split(junction.outputs, [len(doc) for doc in docs])
                backprop = partial(self._add, junction, name)
                layer.receive(SpacyListener.get_batch_id(docs), vectors, backprop)
        return losses

    def _add(self, junction: Junction, name: str, d_vectors: list[Floats2d]) -> list[Doc]:
        """Take the gradient of a listener of spaCy's own."""
        self.gradients.add(junction, name, {0: self.model.ops.flatten(d_vectors)})
        return []

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
        self._func = _forward
        self.init = remember_sample
        self.attrs["factor"] = GradFactor(grad_factor)
        self.upstream = Upstream()

    def stored(self, doc: Doc, is_train: bool) -> Floats2d | None:
        """Return a doc's tensor; one of another shape is another component's."""
        tensor = cast(Floats2d, doc.tensor)
        return tensor if tensor.shape == (len(doc), self.get_dim("nO")) else None

    def vectors(
        self, outputs: Sequence[Floats2d], is_train: bool
    ) -> tuple[Floats2d, Callable[[Floats2d], Parts]]:
        """Lay the vectors of several docs one after another."""
        return self.ops.flatten(list(outputs)), lambda d_vectors: {0: d_vectors}


def _forward(
    model: Tok2VecListener, docs: Sequence[Doc], is_train: bool
) -> tuple[list[Floats2d], ListenerBackprop]:
    """Listen to trfnb's component, or to spaCy's own: on the docs, or by its batch id."""
    if model.upstream() is not None:
        return forward(model, docs, is_train)
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
        model.attrs["factor"].step()
        return found

    return vectors, backprop
