"""What a config names: models, listeners, span getters, annotation setters."""

from collections.abc import Iterable
from typing import Any, Literal

from spacy.tokens import Doc
from thinc.api import Model, reduce_mean
from thinc.types import Floats2d, Ragged

from ..flow.encoder import EncoderShim, Layer
from ..flow.grad_factor import registry as registry
from ..flow.listener import TransformerListener
from ..flow.runtime import EngineName, Precision, Runtime
from ..flow.spans import (
    SpanGetter,
    StridedSpans,
    TokenWindows,
    WordpieceSpans,
    get_doc_spans,
    get_sent_spans,
)
from .data import FullTransformerBatch, TensorSetter, VectorSetter, null_annotation_setter
from .model import TokenVectors, transformer_model
from .tok2vec import Tok2VecListener

GradFactorSetting = float | Literal["auto"] | Iterable[float]


@registry.architectures("trfnb.TransformerModel.v1")
def TransformerModel(  # noqa: N802
    name: str,
    get_spans: SpanGetter | None = None,
    tokenizer_config: dict[str, Any] = {},  # noqa: B006
    transformer_config: dict[str, Any] = {},  # noqa: B006
    precision: Precision = "fp32",
    engine: EngineName = "auto",
    layers: list[int] = [],  # noqa: B006
    trust_remote_code: bool = False,
    trainable_layers: float | Iterable[float] | None = None,
    lora: dict[str, Any] | None = None,
    attentions: bool = False,
    keep_end: bool = True,
    gradient_checkpointing: bool = False,
) -> Model[list[Doc], FullTransformerBatch]:
    """Build the model of a shared transformer.

    Args:
        name: Hub name or local directory of any encoder that ``AutoModel`` opens.
        get_spans: What the encoder reads of each doc; the whole doc by default.
        tokenizer_config: Passed to ``AutoTokenizer.from_pretrained``.
        transformer_config: Passed to ``AutoConfig.from_pretrained``; dropout is set here, e.g.
            ``{"hidden_dropout_prob": 0.0}``. ``output_attentions`` is the same as `attentions`,
            ``output_hidden_states`` keeps all layers.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"``, ``"int8"`` (after ``trfnb quantize``), or
            ``"auto"``: bf16 where the machine multiplies it natively, fp32 elsewhere.
        engine: What runs the encoder where nothing is trained: ``"torch"``, ``"openvino"``, or
            ``"auto"``: OpenVINO where it is installed and agrees with torch.
        layers: Layers to keep in `doc._.trf_data` beside those that listeners read; 0 is the
            embeddings' output. The last is kept too, unless all listeners read lower ones and
            this does not name it (-1): then nothing above them is computed.
        trust_remote_code: Run code that comes with the weights.
        trainable_layers: How many of the upper layers learn: a number, a schedule (gradual
            unfreezing), or null for everything.
        lora: Settings of peft's ``LoraConfig``: learn low-rank updates alone (extra `lora`).
        attentions: Keep attentions for an annotation setter.
        keep_end: Whether a text that is cut keeps its closing special tokens; spacy-transformers
            cuts them off.
        gradient_checkpointing: Train in less memory, at the price of a second forward pass.
    """
    shim = EncoderShim(
        name,
        tokenizer_config,
        transformer_config,
        trust_remote_code,
        trainable_layers,
        lora,
        attentions,
    )
    runtime = Runtime(precision, checkpointing=gradient_checkpointing, engine=engine)
    return transformer_model(shim, get_spans or get_doc_spans, runtime, layers, keep_end)


@registry.architectures("trfnb.Tok2VecTransformer.v1")
def Tok2VecTransformer(  # noqa: N802
    name: str,
    get_spans: SpanGetter | None = None,
    tokenizer_config: dict[str, Any] = {},  # noqa: B006
    transformer_config: dict[str, Any] = {},  # noqa: B006
    precision: Precision = "fp32",
    engine: EngineName = "auto",
    trust_remote_code: bool = False,
    trainable_layers: float | Iterable[float] | None = None,
    lora: dict[str, Any] | None = None,
    pooling: Model[Ragged, Floats2d] | None = None,
    grad_factor: GradFactorSetting = 1.0,
    layer: int = -1,
    keep_end: bool = True,
    gradient_checkpointing: bool = False,
) -> Model[list[Doc], list[Floats2d]]:
    """Build a transformer for one task alone: no shared component, no listener.

    Args:
        name: As for `TransformerModel`, as are the next eight.
        get_spans: What the encoder reads of each doc.
        tokenizer_config: Passed to the tokenizer.
        transformer_config: Passed to the configuration.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"``, ``"int8"`` or ``"auto"``.
        engine: ``"torch"``, ``"openvino"`` or ``"auto"``.
        trust_remote_code: Run code that comes with the weights.
        trainable_layers: How many of the upper layers learn.
        lora: Settings of peft's ``LoraConfig``.
        pooling: Reduces a token's rows to its vector; the mean by default.
        grad_factor: What the gradient into the transformer is multiplied by.
        layer: The layer to read.
        keep_end: Whether a text that is cut keeps its closing special tokens.
        gradient_checkpointing: Train in less memory, at the price of a second forward pass.
    """
    transformer = TransformerModel(
        name,
        get_spans,
        tokenizer_config,
        transformer_config,
        precision,
        engine,
        trust_remote_code=trust_remote_code,
        trainable_layers=trainable_layers,
        lora=lora,
        keep_end=keep_end,
        gradient_checkpointing=gradient_checkpointing,
    )
    return TokenVectors(transformer, pooling or reduce_mean(), grad_factor, layer)


@registry.architectures("trfnb.TransformerListener.v1")
def listener(
    grad_factor: GradFactorSetting = 1.0,
    pooling: Model[Ragged, Floats2d] | None = None,
    upstream: str = "*",
    layer: Layer = -1,
) -> Model[list[Doc], list[Floats2d]]:
    """Build a listener to a `Transformer` component.

    Args:
        grad_factor: What the gradient into the transformer is multiplied by: a number, or a Thinc
            schedule, stepped once a training step, or ``"auto"``: the component's policy decides.
        pooling: Reduces a token's rows to its vector; the mean by default.
        upstream: Name of the component, or ``"*"`` for any.
        layer: The layer to listen to; 0 is the embeddings' output, -1 the last layer; ``"mix"``
            learns a weighted mean of all layers.
    """
    return TransformerListener(upstream, grad_factor, pooling or reduce_mean(), layer)


@registry.architectures("trfnb.Tok2VecListener.v1")
def tok2vec_listener(
    width: int, grad_factor: GradFactorSetting = 1.0, upstream: str = "*"
) -> Model[list[Doc], list[Floats2d]]:
    """Build a listener to a `Tok2Vec` component.

    Args:
        width: Numbers a vector of the upstream component.
        grad_factor: What the gradient into the upstream component is multiplied by; as for a
            listener to a transformer.
        upstream: Name of the component, or ``"*"`` for any.
    """
    return Tok2VecListener(upstream, width, grad_factor)


for _name, _span_getter in {
    "trfnb.doc_spans.v1": lambda: get_doc_spans,
    "trfnb.sent_spans.v1": lambda: get_sent_spans,
    "trfnb.strided_spans.v1": StridedSpans,
    "trfnb.wordpiece_spans.v1": WordpieceSpans,
    "trfnb.token_windows.v1": TokenWindows,
}.items():
    registry.span_getters.register(_name, func=_span_getter)

for _name, _setter in {
    "trfnb.null_annotation_setter.v1": lambda: null_annotation_setter,
    "trfnb.tensor_setter.v1": TensorSetter,
    "trfnb.vector_setter.v1": VectorSetter,
}.items():
    registry.annotation_setters.register(_name, func=_setter)
