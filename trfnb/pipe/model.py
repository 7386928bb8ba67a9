"""List[Doc] -> FullTransformerBatch: the stages of the flow, in order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

from spacy.tokens import Doc, Span
from thinc.api import Model
from thinc.types import Floats2d, Ints1d, Ragged

from ..flow.alignment import align
from ..flow.encoder import encoder
from ..flow.encoder import forward as encoder_forward
from ..flow.grad_factor import GradFactor, as_factor
from ..flow.listener import TransformerListener, split
from ..flow.mixing import Layer
from ..flow.pooling import Pooling, pool
from ..flow.runtime import Runtime
from ..flow.spans import SpanGetter, checked_spans
from ..flow.weights import EncoderShim
from ..flow.windows import WordpieceSpans
from ..flow.wordpieces import Wordpieces, encode, max_wordpieces
from .data import FullTransformerBatch

# Settings of a shared model that a task of its own has no use for.
ONLY_SHARED = ("layers", "attentions", "cache")


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
    body = encoder(shim, runtime)
    body.attrs["layers"] = sorted({-1, *layers})
    return Model(
        "transformer_model",
        forward,
        init=init,
        dims={"nO": None},
        layers=[body],
        attrs={
            "get_spans": get_spans,
            "keep_end": keep_end,
            "kept": sorted(layers),
            "replace_listener": independent_copy,
            "replace_listener_cfg": independent_config,
        },
    )


def init(model: Model[list[Doc], FullTransformerBatch], X: Any = None, Y: Any = None) -> None:
    """Load the weights, unless they were restored already."""
    shim = _shim(model)
    if shim.tokenizer is None:
        shim.load()
    set_width(model)


def set_width(model: Model[list[Doc], FullTransformerBatch]) -> None:
    """Take the width from the weights, once they are there."""
    for node in (model.layers[0], model):
        node.set_dim("nO", _shim(model).width)


def forward(
    model: Model[list[Doc], FullTransformerBatch], docs: Sequence[Doc], is_train: bool
) -> tuple[FullTransformerBatch, Callable[[Mapping[int, Floats2d]], None]]:
    """Spans, wordpieces, hidden states, alignment."""
    return encode_docs(model, docs, is_train)


@dataclass(frozen=True)
class Tokenised:
    """What the encoder reads of a batch.

    Attributes:
        spans: For each doc, what the encoder reads of it.
        wordpieces: The wordpieces of all spans.
    """

    spans: list[list[Span]]
    wordpieces: Wordpieces


def tokenise(model: Model[list[Doc], FullTransformerBatch], docs: Sequence[Doc]) -> Tokenised:
    """Cut docs into spans and these into wordpieces: all that a model does before its encoder."""
    shim = _shim(model)
    limit = max_wordpieces(shim.tokenizer, shim.config)
    get_spans = model.attrs["get_spans"]
    if isinstance(get_spans, WordpieceSpans):
        get_spans = get_spans.by(shim.tokenizer, limit)
    spans = checked_spans(get_spans, docs)
    texts = [span.text for doc_spans in spans for span in doc_spans]
    return Tokenised(spans, encode(shim.tokenizer, texts, limit, model.attrs["keep_end"]))


def encode_docs(
    model: Model[list[Doc], FullTransformerBatch],
    docs: Sequence[Doc],
    is_train: bool,
    *,
    layers: Sequence[Layer] | None = None,
    tokenised: Tokenised | None = None,
) -> tuple[FullTransformerBatch, Callable[[Mapping[int, Floats2d]], None]]:
    """Encode docs as the model does, with what is known of them and wanted of it.

    Args:
        model: From `transformer_model`.
        docs: The batch.
        is_train: Whether to keep what the backprop needs.
        layers: The layers to return; all that the model is set to keep by default.
        tokenised: What `tokenise` returned for these docs.
    """
    body, shim = model.layers[0], _shim(model)
    if tokenised is None:
        tokenised = tokenise(model, docs)
    spans, wordpieces = tokenised.spans, tokenised.wordpieces
    asked = body
    if layers is not None:
        attrs = {**body.attrs, "layers": list(layers)}
        asked = Model(body.name, encoder_forward, shims=body.shims, attrs=attrs)
    rows, backprop = asked(wordpieces, is_train)
    body.attrs["runtime"] = asked.attrs["runtime"]
    alignment = align(docs, spans, wordpieces)
    indices, lengths = cast(Ints1d, alignment.dataXd), alignment.lengths
    on_device = Ragged(model.ops.asarray1i(indices), model.ops.asarray1i(lengths))
    batch = FullTransformerBatch(
        spans, wordpieces, rows, on_device, shim.n_layers, [len(d) for d in docs], rows.attentions
    )
    return batch, backprop


def _shim(model: Model[list[Doc], FullTransformerBatch]) -> EncoderShim:
    return cast(EncoderShim, model.layers[0].shims[0])


class TokenVectors(Model):
    """A transformer of one task's own.

    Its two parts are attributes, not references: where they are nested in other nodes, as in
    spacy-transformers' trees, saved references would not fit a tree that a config builds.
    """

    def __init__(
        self,
        transformer: Model[list[Doc], FullTransformerBatch],
        pooling: Pooling,
        grad_factor: float | str | Iterable[float] | GradFactor,
        layer: int,
        layers: Sequence[Model],
    ) -> None:
        super().__init__(
            "tok2vec_transformer",
            _forward_vectors,
            init=_init_vectors,
            dims={"nO": None},
            layers=layers,
            attrs={"layer": layer, "factor": as_factor(grad_factor)},
        )
        self.transformer = transformer
        self.pooling = pooling


def token_vector_model(
    transformer: Model[list[Doc], FullTransformerBatch],
    pooling: Pooling,
    grad_factor: float | str | Iterable[float] | GradFactor = 1.0,
    layer: int = -1,
    layers: Sequence[Model] | None = None,
) -> Model[list[Doc], list[Floats2d]]:
    """Build a transformer that a single task keeps to itself: docs -> one array a doc.

    Args:
        transformer: From `transformer_model`.
        pooling: Reduces a token's rows to its vector.
        grad_factor: What the gradient into the transformer is multiplied by.
        layer: The layer to read.
        layers: The sublayers, where the two are nested in others; the two alone by default.
    """
    transformer.layers[0].attrs["layers"] = [layer]
    return TokenVectors(
        transformer,
        pooling,
        grad_factor,
        layer,
        [transformer, pooling] if layers is None else layers,
    )


def _init_vectors(model: Model[list[Doc], list[Floats2d]], X: Any = None, Y: Any = None) -> None:
    transformer = cast(TokenVectors, model).transformer
    transformer.initialize()
    model.set_dim("nO", transformer.get_dim("nO"))


def _forward_vectors(
    model: Model[list[Doc], list[Floats2d]], docs: Sequence[Doc], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
    own = cast(TokenVectors, model)
    transformer, pooling = own.transformer, own.pooling
    layer, factor = model.attrs["layer"], model.attrs["factor"]
    now = factor.now
    batch, backprop_rows = transformer(list(docs), is_train and now != 0)
    vectors, backprop_pool = pool(pooling, batch.layer(layer), batch.align, is_train)

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        if now != 0:
            d_rows = backprop_pool(model.ops.flatten(d_vectors)) * now
            backprop_rows({batch.layer_index(layer): d_rows})
        factor.step()
        return []

    return split(vectors, [len(doc) for doc in docs]), backprop


def independent_copy(
    transformer: Model[list[Doc], FullTransformerBatch],
    listener: TransformerListener,
    component: Any,
) -> Model[list[Doc], list[Floats2d]]:
    """Turn a copied shared model into one for a single task (for ``nlp.replace_listeners``).

    Raises:
        ValueError: the listener learns a mix of layers.
    """
    if listener.attrs["layer"] == "mix":
        raise ValueError(
            f"replace_listeners expected a listener to one layer, but the one of "
            f'{getattr(component, "name", "this component")!r} has layer = "mix", which only a '
            "shared transformer has. Leave it with the transformer, or train it with a number."
        )
    # A schedule goes on where it is: copied with what is left of it.
    factor = deepcopy(listener.attrs["factor"])
    model = token_vector_model(transformer, listener.pooling, factor, listener.attrs["layer"])
    model.set_dim("nO", transformer.get_dim("nO"))
    return model


def independent_config(
    transformer_config: dict[str, Any], listener_config: dict[str, Any]
) -> dict[str, Any]:
    """Write the config that fits `independent_copy`."""
    config = {key: value for key, value in transformer_config.items() if key not in ONLY_SHARED}
    config["@architectures"] = "trfnb.Tok2VecTransformer.v1"
    for key in ("grad_factor", "pooling", "layer"):
        if key in listener_config:
            config[key] = listener_config[key]
    return config
