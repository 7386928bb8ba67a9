"""Shared output -> a task's model, and the task's gradient on its way back."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast
from weakref import ref

from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d, Ragged

from .alignment import Pooling, pool, realigned, scalar_mix
from .encoder import Layer, layer_number
from .grad_factor import GradFactor
from .gradients import LayerGradients

Backprop = Callable[[list[Floats2d]], list[Doc]]
# A transformer's output for a batch or a doc, and the rows of each of its tokens.
Aligned = tuple[Any, Ragged]


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
        sample: The docs that the model above is being initialised with.
    """

    upstream_name: str
    upstream: Upstream = Upstream()
    sample: Sequence[Doc] | None = None

    def take_stored(self, doc: Doc, is_train: bool) -> Any:
        """Return what lies on a doc for this listener, once it is read; None where nothing does."""
        raise NotImplementedError

    def vectors(
        self, outputs: Sequence[Any], is_train: bool
    ) -> tuple[Floats2d, Callable[[Floats2d], LayerGradients]]:
        """Turn outputs, of a batch or doc by doc, into one vector per token; learn on the way."""
        raise NotImplementedError

    @property
    def grad_factor(self) -> float:
        """The factor of the present step; 1 where a policy decides ("auto")."""
        return self.attrs["factor"].now

    @grad_factor.setter
    def grad_factor(self, value: float | str | Iterable[float]) -> None:
        self.attrs["factor"] = GradFactor(value)


def remember_sample(model: SharedListener, X: Any = None, Y: Any = None) -> None:
    """Initialise a listener: shapes are inferred before the shared layer has run on the docs."""
    model.sample = X


def forward(
    model: SharedListener, docs: Sequence[Doc], is_train: bool
) -> tuple[list[Floats2d], Backprop]:
    """Hand on the shared vectors of a batch: of the step under way, or what lies on the docs."""
    lengths: Any = [len(doc) for doc in docs]
    if (docs is model.sample and model.has_dim("nO")) or not any(lengths):
        width = model.get_dim("nO")
        return [model.ops.alloc2f(length, width) for length in lengths], lambda d_vectors: []
    model.sample, upstream = None, model.upstream()
    reading = upstream.gradients.read(model, docs) if is_train and upstream is not None else None
    batch, add = reading or (None, None)
    outputs = [batch] if reading else _outputs(model, docs, is_train)
    vectors, backprop_vectors = model.vectors(outputs, is_train)

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        parts = backprop_vectors(model.ops.flatten(d_vectors))
        if add is not None:
            add(parts)
        return []

    return model.ops.unflatten(vectors, lengths), backprop


def _outputs(model: SharedListener, docs: Sequence[Doc], is_train: bool) -> list[Any]:
    # Copies, parts and changed docs carry no output, nor does any where the upstream is frozen.
    filled = [doc for doc in docs if len(doc)]
    found = [model.take_stored(doc, is_train) for doc in filled]
    missing = [doc for doc, one in zip(filled, found, strict=True) if one is None]
    if missing:
        upstream = model.upstream()
        if upstream is None:
            raise ValueError(
                f"A listener expected a component named {model.upstream_name!r} before it in the "
                "pipeline, but is connected to none. Set its upstream to the name of a transformer "
                "or tok2vec, or to '*' for any, and see that this component comes first."
            )
        if not is_train:
            upstream.check_enabled()
        computed = iter(upstream.compute(missing))
        found = [next(computed) if one is None else one for one in found]
    return found


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

    def listen_to(self, width: int, n_layers: int) -> None:
        """Learn the upstream's width and number of layers.

        Raises:
            ValueError: this listener and the model above it were built for another width, or it
                wants a layer that is not there.
        """
        layer = self.attrs["layer"]
        if n_layers and layer != "mix":
            layer_number(layer, n_layers)
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

    def take_stored(self, doc: Doc, is_train: bool) -> Aligned | None:
        """Return what a component left on a doc, and the rows of the tokens that the doc has now.

        A reader is counted, and an output dropped once its last has come.
        """
        kept: Any = doc._.get("trf_data") if doc._.has("trf_data") else None
        # spacy-transformers, where it is installed too, leaves a record of its own there.
        data: Any = kept.of(self.upstream_name) if hasattr(kept, "of") else None
        alignment = data and realigned(data.row_align, data.computed_for, doc)
        if alignment is None:
            return None
        if data.readers is not None and not is_train:
            data.readers -= 1
            if data.readers <= 0:
                doc._.trf_data = kept.without(data)
        return data, alignment

    def vectors(
        self, outputs: Sequence[Aligned], is_train: bool
    ) -> tuple[Floats2d, Callable[[Floats2d], LayerGradients]]:
        """Choose the rows of the layer, or mix all layers, and pool each token's."""
        layer = self.attrs["layer"]
        if layer == "mix":
            numbers = range(len(self.get_param("mix")))
            rows, parts = scalar_mix(self, {i: self._rows(outputs, i) for i in numbers})
        else:
            index = layer_number(layer, outputs[0][0].n_layers)
            rows, parts = self._rows(outputs, layer), lambda d_rows: {index: d_rows}
        vectors, backprop_pool = pool(self.pooling, rows, self._alignment(outputs), is_train)
        return vectors, lambda d_vectors: parts(backprop_pool(d_vectors))

    def _rows(self, outputs: Sequence[Aligned], layer: int) -> Floats2d:
        found = [self.ops.asarray(output.layer(layer)) for output, _ in outputs]
        return cast(Floats2d, found[0] if len(found) == 1 else self.ops.xp.concatenate(found))

    def _alignment(self, outputs: Sequence[Aligned]) -> Ragged:
        indices, lengths, n_rows = [], [], 0
        for output, alignment in outputs:
            indices.append(self.ops.asarray(alignment.dataXd) + n_rows)
            lengths.append(self.ops.asarray(alignment.lengths))
            n_rows += int(output.wordpieces.lengths.sum())
        return Ragged(self.ops.xp.concatenate(indices), self.ops.xp.concatenate(lengths))
