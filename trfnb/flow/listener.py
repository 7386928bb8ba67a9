"""Shared output -> a task's model, and the task's gradient on its way back."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast
from weakref import ref

from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d, Ragged

from .alignment import Pooling, pool, scalar_mix
from .encoder import Layer
from .grad_factor import GradFactor
from .gradient_log import Parts
from .gradients import Reading

Backprop = Callable[[list[Floats2d]], list[Doc]]


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
        return type(self)(memo.get(id(component), component))

    def __reduce__(self) -> tuple[Any, ...]:
        return Upstream, (self(),)


class SharedListener(Model):
    """What the listeners to transformers and to tok2vec components have in common.

    Attributes:
        upstream_name: Name of the component to listen to, or ``"*"`` for any.
        upstream: The component that it is connected to.
        sample: The docs that shapes are inferred by, before the shared layer has run on them.
    """

    upstream_name: str
    upstream: Upstream
    sample: list[Doc]

    @property
    def grad_factor(self) -> float:
        """The factor of the present step; 1 where a policy decides ("auto")."""
        return self.attrs["factor"].now

    @grad_factor.setter
    def grad_factor(self, value: float | str | Iterable[float]) -> None:
        self.attrs["factor"] = GradFactor(value)

    def step(self) -> None:
        """Move the factor's schedule on by a training step."""
        self.attrs["factor"].step()

    def read(self, docs: Sequence[Doc]) -> Reading | None:
        """Return what the batch under way holds for docs; None where they belong to no step."""
        self.sample, upstream = [], self.upstream()
        return None if upstream is None else upstream.read(self, docs)

    def compute(self, docs: Sequence[Doc], is_train: bool) -> list[Any] | None:
        """Ask the upstream for its output of docs that carry none: copies, parts, changed docs.

        Returns:
            One output a doc; None where only a shape is asked for, while the model is initialised.

        Raises:
            ValueError: there is no upstream, or it should have run on these docs but did not.
        """
        sample, self.sample = self.sample, []
        if self.has_dim("nO") and docs and all(any(doc is x for x in sample) for doc in docs):
            self.sample = sample
            return None
        upstream = self.upstream()
        if upstream is None:
            raise ValueError(
                f"A listener expected a component named {self.upstream_name!r} before it in the "
                "pipeline, but is connected to none. Set its upstream to the name of a transformer "
                "or tok2vec, or to '*' for any, and see that this component comes first."
            )
        if not self.has_dim("nO"):
            raise ValueError(
                f"A listener expected vectors of {upstream.name!r}, but that component has no "
                "weights yet. Call nlp.initialize(), and see that it comes before its listeners."
            )
        if not is_train:
            upstream.check_may_compute(docs)
        computed: list[Any] = upstream.compute(docs)
        return computed


def remember_sample(model: SharedListener, X: Any = None, Y: Any = None) -> None:
    """Initialise a listener: its shape is inferred before the shared layer has run on the docs."""
    model.sample = [] if X is None else list(X)


class TransformerListener(SharedListener):
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
            init=remember_sample,
            dims={"nO": None},
            params={"mix": None, "gamma": None},
            layers=[pooling] if layers is None else layers,
            attrs={"layer": layer, "factor": GradFactor(grad_factor)},
        )
        self.pooling = pooling
        self.upstream_name = upstream
        self.upstream = Upstream()
        self.sample = []

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
        if layer == "mix" and not self.has_param("mix"):
            self.set_param("mix", self.ops.alloc1f(n_layers + 1))
            self.set_param("gamma", self.ops.alloc1f(1) + 1.0)


def forward(
    model: TransformerListener, docs: Sequence[Doc], is_train: bool
) -> tuple[list[Floats2d], Backprop]:
    """Hand on the shared vectors of a batch: of the step under way, or what lies on the docs."""
    reading = model.read(docs) if is_train else None
    if reading is not None:
        batch = reading.outputs
        return _vectors(model, docs, [batch], batch.align, is_train, reading)
    filled = [doc for doc in docs if len(doc)]
    found = [_stored(doc, model.upstream_name) for doc in filled]
    missing = [i for i, one in enumerate(found) if one is None]
    if missing or not model.has_dim("nO"):
        computed = model.compute([filled[i] for i in missing], is_train)
        if computed is None:
            return [model.ops.alloc2f(len(doc), model.get_dim("nO")) for doc in docs], _nothing
        for i, data in zip(missing, computed, strict=True):
            found[i] = data, data.row_align
    read = [one for one in found if one is not None]
    if not read:
        return [model.ops.alloc2f(0, model.get_dim("nO")) for _ in docs], _nothing
    if not is_train:
        for doc, (data, _) in zip(filled, read, strict=True):
            _count_reader(doc, data)
    outputs = [data for data, _ in read]
    return _vectors(model, docs, outputs, _joined(model, read), is_train, None)


def _vectors(
    model: TransformerListener,
    docs: Sequence[Doc],
    outputs: Sequence[Any],
    alignment: Ragged,
    is_train: bool,
    reading: Reading | None,
) -> tuple[list[Floats2d], Backprop]:
    """Choose the rows of a layer, pool them, and send the gradient where there is a way for it."""
    rows, backprop_rows = _chosen(model, outputs)
    vectors, backprop_pool = pool(model.pooling, rows, alignment, is_train)
    sends = reading is not None and reading.factor != 0
    learns = model.attrs["layer"] == "mix" or any(x.param_names for x in model.pooling.walk())

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        if sends or learns:
            parts = backprop_rows(backprop_pool(model.ops.flatten(d_vectors)))
            if reading is not None and sends:
                reading.add(parts)
        return []

    return split(vectors, [len(doc) for doc in docs]), backprop


def _chosen(
    model: TransformerListener, outputs: Sequence[Any]
) -> tuple[Floats2d, Callable[[Floats2d], Parts]]:
    """Return the rows of the listener's layer, or of its mix of layers, and their backprop."""

    def rows(layer: int) -> Floats2d:
        found = [model.ops.asarray(output.layer(layer)) for output in outputs]
        return cast(Floats2d, found[0] if len(found) == 1 else model.ops.xp.concatenate(found))

    layer = model.attrs["layer"]
    if layer == "mix":
        return scalar_mix(model, {i: rows(i) for i in range(len(model.get_param("mix")))})
    index = outputs[0].layer_index(layer)
    return rows(layer), lambda d_rows: {index: d_rows}


def _joined(model: TransformerListener, read: Sequence[tuple[Any, Ragged]]) -> Ragged:
    """Return the alignment of several docs' rows, laid one after another."""
    indices, lengths, n_rows = [], [], 0
    for data, alignment in read:
        indices.append(model.ops.asarray(alignment.dataXd) + n_rows)
        lengths.append(model.ops.asarray(alignment.lengths))
        n_rows += int(data.wordpieces.lengths.sum())
    return Ragged(model.ops.xp.concatenate(indices), model.ops.xp.concatenate(lengths))


def _stored(doc: Doc, upstream: str) -> tuple[Any, Ragged] | None:
    """Return what a component left on a doc, and the rows of the tokens that the doc has now."""
    data = doc._.get("trf_data") if doc._.has("trf_data") else None
    # spacy-transformers, where it is installed too, leaves a record of its own there.
    of = getattr(data, "of", None)
    one = None if of is None else of(upstream)
    alignment = None if one is None else one.align_for(doc)
    return None if alignment is None else (one, alignment)


def _count_reader(doc: Doc, data: Any) -> None:
    """Drop an output that the last of its readers has read."""
    if data.readers is None:
        return
    data.readers -= 1
    if data.readers <= 0 and doc._.trf_data is not None:
        doc._.trf_data = doc._.trf_data.without(data)


def split(vectors: Floats2d, lengths: Iterable[int]) -> list[Floats2d]:
    """Cut a batch's vectors into views, one a doc."""
    views, start = [], 0
    for length in lengths:
        views.append(vectors[start : start + length])
        start += length
    return views


def _nothing(d_vectors: list[Floats2d]) -> list[Doc]:
    """Send no gradient: there is none to compute."""
    return []
