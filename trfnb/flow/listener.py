"""Shared output -> a task's model, and the task's gradient on its way back."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d, Ragged

from .gradients import GradFactor, Junction
from .pooling import Pooling, pool


class TransformerListener(Model):
    """A layer that takes its answer from a `Transformer` earlier in the pipeline.

    Args:
        upstream: Name of the component to listen to, or ``"*"`` for any.
        grad_factor: What the gradient is multiplied by: a number, or a schedule stepped once a
            training step. Set ``listener.grad_factor`` to change it while training.
        pooling: Reduces a token's rows to its vector.
        layer: The layer to listen to; 0 is the embeddings' output, -1 the last layer.
    """

    name = "transformer_listener"

    def __init__(
        self,
        upstream: str,
        grad_factor: float | Iterable[float],
        pooling: Pooling,
        layer: int = -1,
    ) -> None:
        Model.__init__(
            self,
            name=self.name,
            forward=forward,
            init=init,
            dims={"nO": None},
            layers=[pooling],
            attrs={"layer": layer, "factor": GradFactor(grad_factor)},
        )
        self.upstream_name = upstream
        self.junction: Junction | None = None
        self.sample: list[Doc] = []

    @property
    def grad_factor(self) -> float:
        """The factor of the present step."""
        return self.attrs["factor"].now

    @grad_factor.setter
    def grad_factor(self, value: float | Iterable[float]) -> None:
        self.attrs["factor"] = GradFactor(value)

    def connect(self, junction: Junction | None) -> None:
        """Take the batch that the shared layer was just updated with."""
        self.junction = junction

    def step(self) -> None:
        """Move the factor's schedule on by a training step."""
        self.attrs["factor"].step()


def init(model: TransformerListener, X: Any = None, Y: Any = None) -> None:
    """Remember the sample: shapes are inferred before the shared layer has run on it."""
    model.sample = list(X) if X is not None else []


def forward(
    model: TransformerListener, docs: Sequence[Doc], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
    """Hand on the shared vectors of a batch."""
    if is_train and model.junction is not None:
        return _from_junction(model, docs, model.junction)
    return _from_docs(model, docs), lambda d_vectors: []


def _from_junction(
    model: TransformerListener, docs: Sequence[Doc], junction: Junction
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
    junction.check(docs, model.upstream_name)
    batch, layer = junction.outputs, model.attrs["layer"]
    vectors, backprop_pool = pool(model.layers[0], batch.layer(layer), batch.align, is_train=True)
    factor = model.grad_factor

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        if factor != 0:
            d_rows = backprop_pool(model.ops.flatten(d_vectors))
            junction.add(model.id, factor, {batch.layer_index(layer): d_rows})
        return []

    return split(vectors, [len(doc) for doc in docs]), backprop


def _from_docs(model: TransformerListener, docs: Sequence[Doc]) -> list[Floats2d]:
    """Read what the shared layer stored on the docs, whatever batches it ran in."""
    data: list[Any] = [doc._.get("trf_data") if doc._.has("trf_data") else None for doc in docs]
    missing = [doc for doc, one in zip(docs, data, strict=True) if one is None and len(doc)]
    if missing:
        known = {id(doc) for doc in model.sample}
        if not all(id(doc) in known for doc in missing):
            raise ValueError(_nothing_upstream(model, missing[0]))
        return [model.ops.alloc2f(len(doc), model.get_dim("nO")) for doc in docs]
    model.sample = []
    filled = [one for doc, one in zip(docs, data, strict=True) if len(doc)]
    if not filled:
        return [model.ops.alloc2f(0, model.get_dim("nO")) for _ in docs]
    xp = model.ops.xp
    rows = [one.layer(model.attrs["layer"]) for one in filled]
    indices, n_rows = [], 0
    for one, its_rows in zip(filled, rows, strict=True):
        indices.append(model.ops.asarray(one.row_align.dataXd) + n_rows)
        n_rows += len(its_rows)
    align = Ragged(
        xp.concatenate(indices),
        xp.concatenate([model.ops.asarray(one.row_align.lengths) for one in filled]),
    )
    vectors, _ = pool(model.layers[0], xp.concatenate(rows), align, is_train=False)
    return split(vectors, [len(doc) for doc in docs])


def split(vectors: Floats2d, lengths: Iterable[int]) -> list[Floats2d]:
    """Cut a batch's vectors into views, one a doc."""
    views, start = [], 0
    for length in lengths:
        views.append(vectors[start : start + length])
        start += length
    return views


def _nothing_upstream(model: TransformerListener, doc: Doc) -> str:
    return (
        f"A listener expected output of the transformer {model.upstream_name!r} on every doc, but "
        f"{doc.text[:40]!r} has none. Is that component in the pipeline, enabled, and before its "
        "listeners? If it is frozen during training, name it in [training] annotating_components."
    )
