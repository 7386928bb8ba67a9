"""list[Doc] -> FullTransformerBatch: the whole way of the data, stage by stage (`encode_docs`)."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, cast

from spacy.tokens import Doc, Span
from thinc.api import Model
from thinc.types import Floats2d, Ints1d, Ragged

from ..flow.alignment import Pooling, align, pool, tokens_of
from ..flow.encoder import EncoderShim, Layer, encoder, layer_number
from ..flow.grad_factor import GradFactor
from ..flow.listener import TransformerListener
from ..flow.runtime import Runtime
from ..flow.spans import SpanGetter, TokenWindows, WordpieceSpans, checked_spans
from ..flow.wordpieces import Wordpieces, encode, max_wordpieces
from .data import FullTransformerBatch

# What the encoder reads of each doc of a batch, and the wordpieces of all that.
Tokenised = tuple[list[list[Span]], Wordpieces]


def tokenise(model: Model[list[Doc], FullTransformerBatch], docs: Sequence[Doc]) -> Tokenised:
    """Cut docs into spans and these into wordpieces: all that a model does before its encoder."""
    shim = _shim(model)
    limit = max_wordpieces(shim.tokenizer, shim.config)
    get_spans: SpanGetter = model.attrs["get_spans"]
    if isinstance(get_spans, TokenWindows):
        return get_spans.tokenise(docs, shim.tokenizer)
    if isinstance(get_spans, WordpieceSpans):
        get_spans = partial(get_spans, tokenizer=shim.tokenizer, limit=limit)
    spans = checked_spans(get_spans, docs)
    texts = [span.text for doc_spans in spans for span in doc_spans]
    return spans, encode(shim.tokenizer, texts, limit, model.attrs["keep_end"])


def encode_docs(
    model: Model[list[Doc], FullTransformerBatch],
    docs: Sequence[Doc],
    is_train: bool,
    *,
    layers: Sequence[Layer] | None = None,
    tokenised: Tokenised | None = None,
) -> tuple[FullTransformerBatch, Callable[[Mapping[int, Floats2d]], None]]:
    """Go from docs to hidden states that are aligned with tokens.

    Args:
        model: From `transformer_model`.
        docs: The batch.
        is_train: Whether to keep what backprop needs.
        layers: The layers to compute; by default all that the model is set to keep.
        tokenised: From `tokenise`, where that was done before.

    Returns:
        The batch, and a callback that takes gradients, (wordpieces, width), by layer number.
    """
    spans, wordpieces = tokenised or tokenise(model, docs)
    node = model.layers[0]
    asked = node.attrs["layers"] if layers is None else layers
    (rows, attentions), backprop = node((wordpieces, asked), is_train)
    found, asarray = align(docs, spans, wordpieces), model.ops.asarray1i
    if isinstance(model.attrs["get_spans"], TokenWindows):
        found = model.attrs["get_spans"].weighted(found, spans, wordpieces)
    batch = FullTransformerBatch(
        spans=spans,
        wordpieces=wordpieces,
        rows=rows,
        align=Ragged(asarray(cast(Ints1d, found.dataXd)), asarray(found.lengths)),
        n_layers=_shim(model).n_layers,
        computed_for=[tokens_of(doc) for doc in docs],
        attentions=attentions,
    )
    return batch, backprop


class SharedTransformer(Model):
    """The model of a `Transformer` component."""

    @property
    def tokenizer(self) -> Any:
        """HuggingFace's tokenizer; None before the weights were loaded."""
        return _shim(self).tokenizer

    @property
    def transformer(self) -> Any:
        """HuggingFace's model.

        Raises:
            ValueError: there are no weights yet.
        """
        return _shim(self).loaded()


def transformer_model(
    shim: EncoderShim,
    get_spans: SpanGetter,
    runtime: Runtime,
    layers: Iterable[int] = (),
    keep_end: bool = True,
) -> Model[list[Doc], FullTransformerBatch]:
    """Build the model of a `Transformer` component.

    Args:
        shim: The encoder's weights and tokenizer, loaded when the model is initialised.
        get_spans: What the encoder reads of each doc.
        runtime: Precision and budget.
        layers: Layers to keep beside those that listeners ask for. The last is kept too, unless
            every listener asks for a lower one.
        keep_end: Whether a text that is cut keeps its closing special tokens.

    Raises:
        ValueError: ``layers`` is no list of whole numbers.
    """
    if not isinstance(layers, Sequence) or not all(
        isinstance(one, int) and not isinstance(one, bool) for one in layers
    ):
        raise ValueError(
            f"layers expected a list of whole numbers, such as [0, -2], got {layers!r} "
            f"({type(layers).__name__}). Only grad_factor and trainable_layers take schedules."
        )
    every: list[Layer] = ["mix"] if shim.all_layers else []
    node = encoder(shim, runtime)
    node.attrs["layers"] = sorted({-1, *layers, *every}, key=str)
    return SharedTransformer(
        "transformer_model",
        encode_docs,
        init=_init,
        dims={"nO": None},
        layers=[node],
        attrs={
            "get_spans": get_spans,
            "keep_end": keep_end,
            "kept": [*sorted(layers), *every],
            "replace_listener": independent_copy,
            "replace_listener_cfg": independent_config,
        },
    )


# Load the weights, unless they were restored already.
def _init(model: Model[list[Doc], FullTransformerBatch], X: Any = None, Y: Any = None) -> None:
    if _shim(model).tokenizer is None:
        _shim(model).load()
    set_width(model)


def set_width(model: Model[list[Doc], FullTransformerBatch]) -> None:
    """Take the width from the weights, once they are there.

    Raises:
        ValueError: the model was saved with an encoder of another width.
    """
    shim = _shim(model)
    for node in (model.layers[0], model):
        if node.has_dim("nO") and node.get_dim("nO") != shim.width:
            raise ValueError(
                f"The transformer {shim.name!r} expected an encoder of width "
                f"{node.get_dim('nO')}, which its pipeline was trained with, got one of width "
                f"{shim.width}. Put the encoder back that was saved with the pipeline, or train "
                "its components anew."
            )
        node.set_dim("nO", shim.width)


def _shim(model: Model[list[Doc], FullTransformerBatch]) -> EncoderShim:
    return cast(EncoderShim, model.layers[0].shims[0])


class TokenVectors(Model[list[Doc], list[Floats2d]]):
    """A transformer that a single task keeps to itself: docs -> one array for each doc.

    Its two parts are attributes, not references: where they are nested in other nodes, as in
    spacy-transformers' trees, saved references would not fit a tree that a config builds.

    Args:
        transformer: From `transformer_model`.
        pooling: Reduces a token's rows to its vector.
        grad_factor: What the gradient into the transformer is multiplied by.
        layer: The layer to read.
        layers: The sublayers, where the two are nested in others; the two alone by default.
    """

    def __init__(
        self,
        transformer: Model[list[Doc], FullTransformerBatch],
        pooling: Pooling,
        grad_factor: float | str | Iterable[float] = 1.0,
        layer: int = -1,
        layers: Sequence[Model] = (),
    ) -> None:
        super().__init__(
            "tok2vec_transformer",
            _forward_vectors,
            init=_init_vectors,
            dims={"nO": None},
            layers=layers or [transformer, pooling],
            attrs={"layer": layer, "factor": GradFactor(grad_factor)},
        )
        self.transformer = transformer
        self.pooling = pooling


def _init_vectors(model: Model[list[Doc], list[Floats2d]], X: Any = None, Y: Any = None) -> None:
    vectors: Any = X[0].vocab.vectors if X and isinstance(X[0], Doc) else None
    if vectors is not None and vectors.shape[0]:
        warnings.warn(
            f"The pipeline has a vector table, {vectors.name!r}, which a task with a transformer "
            "of its own does not read: it sees the transformer alone. Remove [initialize] vectors, "
            "unless another component reads them or they are kept for similarity.",
            stacklevel=2,
        )
    model.set_dim("nO", cast(TokenVectors, model).transformer.initialize().get_dim("nO"))


def _forward_vectors(
    model: Model[list[Doc], list[Floats2d]], docs: Sequence[Doc], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
    own = cast(TokenVectors, model)
    layer, factor, now = model.attrs["layer"], model.attrs["factor"], model.attrs["factor"].now
    batch, backprop_rows = encode_docs(own.transformer, docs, is_train and now != 0, layers=[layer])
    vectors, backprop_pool = pool(own.pooling, batch.layer(layer), batch.align, is_train)

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        if now != 0:
            d_rows = backprop_pool(model.ops.flatten(d_vectors)) * now
            backprop_rows({layer_number(layer, batch.n_layers): d_rows})
        factor.step()
        return []

    lengths: Any = [len(doc) for doc in docs]
    return model.ops.unflatten(vectors, lengths), backprop


def independent_copy(
    transformer: Model[list[Doc], FullTransformerBatch],
    listener: TransformerListener,
    component: Any,
) -> Model[list[Doc], list[Floats2d]]:
    """Turn a copied shared model into one for a single task (for ``nlp.replace_listeners``).

    Args:
        transformer: The copy.
        listener: What it takes the place of.
        component: The task's component.

    Raises:
        ValueError: the listener learns a mix of layers.
    """
    if listener.attrs["layer"] == "mix":
        raise ValueError(
            f"replace_listeners expected a listener to one layer, but the one of "
            f'{getattr(component, "name", "this component")!r} has layer = "mix", which only a '
            "shared transformer has. Leave it with the transformer, or train it with a number."
        )
    model = TokenVectors(transformer, listener.pooling, layer=listener.attrs["layer"])
    # A schedule goes on where it is: copied with what is left of it.
    model.attrs["factor"] = deepcopy(listener.attrs["factor"])
    model.set_dim("nO", transformer.get_dim("nO"))
    return model


def independent_config(
    transformer_config: dict[str, Any], listener_config: dict[str, Any]
) -> dict[str, Any]:
    """Write the config that fits `independent_copy`."""
    only_shared, own = {"layers", "attentions"}, {"grad_factor", "pooling", "layer"}
    config = {key: value for key, value in transformer_config.items() if key not in only_shared}
    config |= {key: value for key, value in listener_config.items() if key in own}
    return config | {"@architectures": "trfnb.Tok2VecTransformer.v1"}
