"""A listener to a Tok2Vec component, with a grad_factor."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from spacy.pipeline.tok2vec import Tok2VecListener as SpacyListener
from spacy.pipeline.tok2vec import forward as spacy_forward
from spacy.tokens import Doc
from thinc.types import Floats2d

from ..flow.gradients import GradFactor, Junction
from ..flow.listener import split


class Tok2VecListener(SpacyListener):
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
        super().__init__(upstream, width)
        self._func = forward
        self.attrs["factor"] = GradFactor(grad_factor)
        self.junction: Junction | None = None

    @property
    def grad_factor(self) -> float:
        """The factor of the present step; 1 where a policy decides ("auto")."""
        return self.attrs["factor"].now

    @grad_factor.setter
    def grad_factor(self, value: float | str | Iterable[float]) -> None:
        self.attrs["factor"] = GradFactor(value)

    def connect(self, junction: Junction | None) -> None:
        """Take the batch that the shared layer was just updated with."""
        self.junction = junction

    def step(self) -> None:
        """Move the factor's schedule on by a training step."""
        self.attrs["factor"].step()


def forward(
    model: Tok2VecListener, docs: Sequence[Doc], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
    """Hand on the shared vectors of a batch."""
    if not is_train or model.junction is None or model.junction.over_for(docs):
        return _as_in_spacy(model, docs, is_train, model.grad_factor)
    junction = model.junction
    junction.check(docs, model.upstream_name)
    factor = junction.asked.get(model.id, model.grad_factor)

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        if factor != 0:
            junction.add(model.id, factor, {0: model.ops.flatten(d_vectors)})
        return []

    return split(junction.outputs, [len(doc) for doc in docs]), backprop


def _as_in_spacy(
    model: Tok2VecListener, docs: Sequence[Doc], is_train: bool, factor: float
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
    """Listen to spaCy's own component: on the docs, or by its batch id."""
    vectors, spacy_backprop = spacy_forward(model, docs, is_train)

    def backprop(d_vectors: list[Floats2d]) -> Any:
        # spaCy's component waits for a call from its last listener, so 0 must be sent too.
        found = spacy_backprop([d * factor for d in d_vectors])
        model.step()
        return found

    return vectors, backprop
