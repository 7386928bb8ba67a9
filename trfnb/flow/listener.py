"""Shared output -> a task's model, and the task's gradient on its way back."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import ref

from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d, Ragged

from .alignment import Pooling, pool, scalar_mix
from .encoder import Layer
from .gradients import GradFactor, Junction


class Upstream:
    """A weak reference to the component listened to.

    A copy of the pipeline refers to its own component; a copy of a task's model alone, as
    rehearsal makes one, does not copy the transformer and refers to the same.
    """

    def __init__(self, component: Any = None) -> None:
        self._ref = None if component is None else ref(component)

    def __call__(self) -> Any:
        """Return the component, or None."""
        return None if self._ref is None else self._ref()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Upstream":
        component = self()
        return Upstream(memo.get(id(component), component))

    def __reduce__(self) -> tuple[Any, ...]:
        return Upstream, (self(),)


class TransformerListener(Model):
    """A layer that takes its answer from a `Transformer` earlier in the pipeline.

    Args:
        upstream: Name of the component to listen to, or ``"*"`` for any.
        grad_factor: What the gradient is multiplied by: a number, or a schedule stepped once a
            training step. Set ``listener.grad_factor`` to change it while training.
        pooling: Reduces a token's rows to its vector.
        layer: The layer to listen to; 0 is the embeddings' output, -1 the last layer; ``"mix"``
            learns a weighted mean of all layers.
        layers: The sublayers, where the pooling is another node's; the pooling alone by default.
    """

    name = "transformer_listener"

    def __init__(
        self,
        upstream: str,
        grad_factor: float | str | Iterable[float],
        pooling: Pooling,
        layer: Layer = -1,
        layers: Sequence[Model] | None = None,
    ) -> None:
        if layer != "mix" and (isinstance(layer, bool) or not isinstance(layer, int)):
            raise ValueError(
                f"A listener's layer expected a whole number or 'mix', got {layer!r} "
                f"({type(layer).__name__}). Only grad_factor and trainable_layers take schedules."
            )
        Model.__init__(
            self,
            name=self.name,
            forward=forward,
            init=init,
            dims={"nO": None},
            params={"mix": None, "gamma": None},
            layers=[pooling] if layers is None else layers,
            attrs={"layer": layer, "factor": GradFactor(grad_factor)},
        )
        self.pooling = pooling
        self.upstream_name = upstream
        self.junction: Junction | None = None
        self.sample: list[Doc] = []
        self.upstream = Upstream()

    @property
    def grad_factor(self) -> float:
        """The factor of the present step; 1 where a policy decides ("auto")."""
        return self.attrs["factor"].now

    @grad_factor.setter
    def grad_factor(self, value: float | str | Iterable[float]) -> None:
        self.attrs["factor"] = GradFactor(value)

    def listen_to(self, width: int, n_layers: int) -> None:
        """Learn the upstream's width and number of layers.

        Raises:
            ValueError: this listener and the model above it were built for another width, or it
                wants a layer that is not there.
        """
        layer = self.attrs["layer"]
        if n_layers and layer != "mix" and not -n_layers - 1 <= layer <= n_layers:
            raise ValueError(
                f"A listener's layer expected a number from {-n_layers - 1} to {n_layers} (0 is "
                f"the embeddings' output, -1 the last layer) or 'mix', got {layer}."
            )
        if self.has_dim("nO") and self.get_dim("nO") != width:
            raise ValueError(
                f"A listener to {self.upstream_name!r} expected vectors of width "
                f"{self.get_dim('nO')}, which its component was made for, got {width}. Use the "
                "transformer that it was trained with, or initialise the component anew."
            )
        self.set_dim("nO", width)
        if self.attrs["layer"] == "mix" and not self.has_param("mix"):
            self.set_param("mix", self.ops.alloc1f(n_layers + 1))
            self.set_param("gamma", self.ops.alloc1f(1) + 1.0)

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
    if is_train and model.junction is not None and not model.junction.over_for(docs):
        return _from_junction(model, docs, model.junction)
    return _from_docs(model, docs, is_train), lambda d_vectors: []


def _from_junction(
    model: TransformerListener, docs: Sequence[Doc], junction: Junction
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
    junction.check(docs, model.upstream_name)
    batch = junction.outputs
    rows, backprop_rows = chosen(model, batch)
    vectors, backprop_pool = pool(model.pooling, rows, batch.align, is_train=True)
    factor = junction.asked.get(model.id, model.grad_factor)

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        if factor != 0 or model.attrs["layer"] == "mix":
            parts = backprop_rows(backprop_pool(model.ops.flatten(d_vectors)))
            if factor != 0:
                junction.add(model.id, factor, parts)
        return []

    return split(vectors, [len(doc) for doc in docs]), backprop


def _from_docs(model: TransformerListener, docs: Sequence[Doc], is_train: bool) -> list[Floats2d]:
    """Read what the shared layer stored on the docs, whatever batches it ran in.

    While training, a shared layer that did not run on them (it is frozen, or the task rehearses)
    is asked for its output.
    """
    if not model.has_dim("nO"):
        raise ValueError(_not_connected(model))
    data = [_stored(doc, model.upstream_name) for doc in docs]
    missing = [i for i, doc in enumerate(docs) if data[i] is None and len(doc)]
    if missing:
        known = {id(doc) for doc in model.sample}
        if all(id(docs[i]) in known for i in missing):
            return [model.ops.alloc2f(len(doc), model.get_dim("nO")) for doc in docs]
        upstream = model.upstream() if is_train else None
        if upstream is None:
            raise ValueError(_nothing_upstream(model, docs[missing[0]]))
        computed = upstream.predict([docs[i] for i in missing]).doc_data
        for i, one in zip(missing, computed, strict=True):
            data[i] = one
    model.sample = []
    filled = [one for doc, one in zip(docs, data, strict=True) if len(doc)]
    if not filled:
        return [model.ops.alloc2f(0, model.get_dim("nO")) for _ in docs]
    xp = model.ops.xp
    rows = [chosen(model, one)[0] for one in filled]
    indices, n_rows = [], 0
    for one, its_rows in zip(filled, rows, strict=True):
        indices.append(model.ops.asarray(one.row_align.dataXd) + n_rows)
        n_rows += len(its_rows)
    align = Ragged(
        xp.concatenate(indices),
        xp.concatenate([model.ops.asarray(one.row_align.lengths) for one in filled]),
    )
    vectors, _ = pool(model.pooling, xp.concatenate(rows), align, is_train=False)
    if not is_train:
        for doc, one in zip(docs, data, strict=True):
            if one is not None and one.readers is not None:
                _count_reader(doc, one)
    return split(vectors, [len(doc) for doc in docs])


def _stored(doc: Doc, upstream: str) -> Any:
    """Return what a component left on a doc, or None."""
    data = doc._.get("trf_data") if doc._.has("trf_data") else None
    # spacy-transformers, where it is installed too, leaves a record of its own there.
    of = getattr(data, "of", None)
    return None if of is None else of(upstream)


def _count_reader(doc: Doc, one: Any) -> None:
    """Drop an output that the last of its readers has read."""
    one.readers -= 1
    if one.readers <= 0 and doc._.trf_data is not None:
        doc._.trf_data = doc._.trf_data.without(one)


def chosen(
    model: TransformerListener, output: Any
) -> tuple[Floats2d, Callable[[Floats2d], dict[int, Floats2d]]]:
    """Return the rows of the listener's layer, or of its mix of layers, and their backprop."""
    layer = model.attrs["layer"]
    if layer != "mix":
        index = output.layer_index(layer)
        return output.layer(layer), lambda d_rows: {index: d_rows}
    return scalar_mix(model, output.rows)


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


def _not_connected(model: TransformerListener) -> str:
    return (
        f"A listener expected a transformer component named {model.upstream_name!r} before it in "
        "the pipeline, but was connected to none. Set its upstream to that component's name, or to "
        "'*' for any, and see that the transformer comes first."
    )
