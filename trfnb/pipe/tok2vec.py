"""spaCy's Tok2Vec component, settling its listeners' gradients in one backward pass."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from spacy.pipeline.tok2vec import Tok2Vec as SpacyTok2Vec
from spacy.pipeline.tok2vec import Tok2VecListener as SpacyListener
from spacy.tokens import Doc
from thinc.types import Floats2d

from ..flow.gradients import Junction, Parts
from ..flow.listener import split
from .shared import SharedBody


class Tok2Vec(SharedBody, SpacyTok2Vec):
    """A small shared body that needs no transformer.

    It is saved and loaded as spaCy's component is. spaCy's own listeners work with it, at a
    factor of 1.
    """

    listener_type = SpacyListener

    def predict(self, docs: Iterable[Doc]) -> list[Floats2d]:
        """Return each doc's vectors, by the weights after the latest step."""
        self._take_answered_step()
        return cast(list[Floats2d], super().predict(docs))

    def to_disk(self, path: str | Path, *, exclude: Sequence[str] = ()) -> None:
        """Save the component after the latest step."""
        self.settle()
        super().to_disk(path, exclude=exclude)

    def to_bytes(self, *, exclude: Sequence[str] = ()) -> bytes:
        """Save the component, after the latest step, in bytes."""
        self.settle()
        return cast(bytes, super().to_bytes(exclude=exclude))

    def _begin_update(self, docs: list[Doc]) -> tuple[Any, Any]:
        vectors, backprop = self.model.begin_update(docs)
        lengths = [len(doc) for doc in docs]

        def backprop_flat(parts: Parts) -> None:
            backprop(split(parts[0], lengths))

        return self.model.ops.flatten(vectors), backprop_flat

    def _predict_for_update(self, docs: list[Doc]) -> Floats2d:
        return self.model.ops.flatten(self.model.predict(docs))

    def _connect(self, layer: Any, junction: Junction | None) -> None:
        if hasattr(layer, "connect"):
            layer.connect(junction)
        elif junction is None:
            layer.receive(None, None, None)
        else:
            self._connect_spacy(layer, junction)

    def _connect_spacy(self, layer: SpacyListener, junction: Junction) -> None:
        def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
            junction.add(layer.id, 1.0, {0: self.model.ops.flatten(d_vectors)})
            return []

        lengths = [len(doc) for doc in junction.docs]
        vectors = split(junction.outputs, lengths)
        layer.receive(SpacyListener.get_batch_id(junction.docs), vectors, backprop)
