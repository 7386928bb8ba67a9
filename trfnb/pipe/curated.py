"""Pipelines that spacy-curated-transformers saved, where it is not installed itself.

Each model has the same tree of nodes as there, because Thinc loads saved weights node by node;
what was saved there is turned into a HuggingFace encoder with its tokenizer. `import_pipeline`
rewrites such a pipeline in trfnb's names.
"""

from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from typing import Any, cast

import srsly
import torch
from spacy.tokens import Doc
from thinc.api import Model, Shim
from thinc.types import Floats2d, Ragged

from ..flow.encoder import EncoderShim, Trainable, encoders
from ..flow.listener import TransformerListener
from ..flow.runtime import Runtime
from ..flow.spans import TokenWindows
from . import pieces
from .data import FullTransformerBatch
from .legacy import placeholder
from .model import transformer_model

PREFIX = "spacy-curated-transformers"
FACTORY = "curated_transformer"
FAMILIES = (
    *("AlbertTransformer", "BertTransformer", "CamembertTransformer", "RobertaTransformer"),
    "XlmrTransformer",
)
# Parts of tensors' names there -> the same under HuggingFace's; QKV stands for three tensors.
_EMBEDDINGS = {
    "curated_encoder.": "",
    "embeddings.inner.": "embeddings.",
    "embeddings.layer_norm.": "embeddings.LayerNorm.",
    "embeddings.projection.": "encoder.embedding_hidden_mapping_in.",
}
_LAYERS = {
    "layers.": "encoder.layer.",
    ".mha.input.": ".attention.self.QKV.",
    ".mha.output.": ".attention.output.dense.",
    ".attn_output_layernorm.": ".attention.output.LayerNorm.",
    ".ffn.intermediate.": ".intermediate.dense.",
    ".ffn.output.": ".output.dense.",
    ".ffn_output_layernorm.": ".output.LayerNorm.",
}
_ALBERT_LAYERS = {
    ".group_layers.": ".albert_layers.",
    "groups.": "encoder.albert_layer_groups.",
    ".mha.input.": ".attention.QKV.",
    ".mha.output.": ".attention.dense.",
    ".attn_output_layernorm.": ".attention.LayerNorm.",
    ".ffn.intermediate.": ".ffn.",
    ".ffn.output.": ".ffn_output.",
    ".ffn_output_layernorm.": ".full_layer_layer_norm.",
}


def freeze(model: Model) -> None:
    """Train nothing of a model's encoders."""
    for node in encoders(model):
        cast(EncoderShim, node.shims[0]).trainable = Trainable(0)


class SavedTensors(Shim):
    """Hands the tensors of a saved torch module to what makes use of them here.

    Args:
        take: Gets the tensors by name when they are loaded.
    """

    def __init__(self, take: Callable[[dict[str, torch.Tensor]], None]) -> None:
        super().__init__(None)
        self.take = take

    def finish_update(self, optimizer: Any) -> None:
        """Do nothing: the weights are the encoder's."""

    def from_bytes(self, bytes_data: bytes) -> "SavedTensors":
        """Read what Thinc's shim for torch saved, without unpickling anything but tensors."""
        state = BytesIO(srsly.msgpack_loads(bytes_data)["state"])
        self.take(torch.load(state, map_location="cpu", weights_only=True))
        return self

    def to_bytes(self) -> bytes:
        """Refuse to save in their format.

        Raises:
            ValueError: always; it names the command that saves the pipeline.
        """
        raise ValueError(
            f"This pipeline was saved by {PREFIX}, whose format is not written here. Run `trfnb "
            "import-pipeline SRC DST` on its folder; what it writes is saved as any other."
        )


def transformer_v1(
    *,
    vocab_size: int,
    with_spans: TokenWindows,
    piece_encoder: Model[Any, Any],
    attention_probs_dropout_prob: float,
    hidden_act: str,
    hidden_dropout_prob: float,
    hidden_width: int,
    intermediate_width: int,
    layer_norm_eps: float,
    max_position_embeddings: int,
    model_max_length: int,
    num_attention_heads: int,
    num_hidden_layers: int,
    padding_idx: int,
    type_vocab_size: int,
    embedding_width: int | None = None,
    num_hidden_groups: int = 1,
    torchscript: bool = False,
    mixed_precision: bool = False,
    grad_scaler_config: dict[str, Any] = {},  # noqa: B006
    wrapped_listener: Any = None,
) -> Model[list[Doc], FullTransformerBatch]:
    """Build one of spacy-curated-transformers' encoders.

    Args:
        vocab_size: Pieces.
        with_spans: From ``WithStridedSpans``.
        piece_encoder: From one of the piece encoders.
        attention_probs_dropout_prob: Dropout of attention.
        hidden_act: Activation function.
        hidden_dropout_prob: Dropout of hidden states.
        hidden_width: Numbers of a hidden state.
        intermediate_width: Width within a feed-forward layer.
        layer_norm_eps: Added to variances.
        max_position_embeddings: Rows of the table of positions.
        model_max_length: The most pieces of a window.
        num_attention_heads: Attention heads.
        num_hidden_layers: Layers.
        padding_idx: The padding's number.
        type_vocab_size: Rows of the table of segments.
        embedding_width: Width of ALBERT's embeddings.
        num_hidden_groups: ALBERT's groups of layers that share weights.
        torchscript: Refused.
        mixed_precision: Not needed to predict.
        grad_scaler_config: Not needed.
        wrapped_listener: Refused.

    Raises:
        ValueError: the encoder is a TorchScript one, or took a listener's place.
    """
    if torchscript or wrapped_listener is not None:
        raise ValueError(
            f"A transformer of {PREFIX} expected plain weights that listeners share, got "
            f"torchscript={torchscript} and a wrapped listener: {wrapped_listener is not None}. "
            "Save the pipeline there before torchscript or replace_listeners was applied."
        )
    settings = {
        "vocab_size": vocab_size,
        "embedding_size": embedding_width,
        "hidden_size": hidden_width,
        "intermediate_size": intermediate_width,
        "num_hidden_layers": num_hidden_layers,
        "num_hidden_groups": num_hidden_groups,
        "num_attention_heads": num_attention_heads,
        "hidden_act": hidden_act,
        "hidden_dropout_prob": hidden_dropout_prob,
        "attention_probs_dropout_prob": attention_probs_dropout_prob,
        "max_position_embeddings": max_position_embeddings,
        "type_vocab_size": type_vocab_size,
        "layer_norm_eps": layer_norm_eps,
        "pad_token_id": padding_idx,
    }
    shim = EncoderShim(PREFIX)
    model = transformer_model(shim, with_spans, Runtime())
    take = partial(_take_encoder, shim, settings, piece_encoder, model_max_length)
    spans = placeholder("with_strided_spans", [placeholder("pytorch", shims=[SavedTensors(take)])])
    model.layers[0].layers.append(
        placeholder("chain", [piece_encoder, spans, placeholder("remove_bos_eos")])
    )
    return model


def listener_v1(
    width: int,
    pooling: Model[Ragged, Floats2d],
    upstream: str = "*",
    grad_factor: float = 1.0,
    weighting: Model[Any, Any] | None = None,
) -> Model[list[Doc], list[Floats2d]]:
    """Build a listener to the last layer, or to a learned mix of all.

    Args:
        width: Numbers a vector.
        pooling: Reduces a token's rows to its vector.
        upstream: Name of the component, or ``"*"`` for any.
        grad_factor: What the gradient into the transformer is multiplied by.
        weighting: From ``ScalarWeight``, for a mix.
    """
    mixed = [] if weighting is None else [weighting]
    layer = TransformerListener(
        upstream,
        grad_factor,
        pooling,
        "mix" if mixed else -1,
        [*mixed, placeholder("with_ragged_last_layer", [pooling])],
    )
    layer.attrs["_state"] = pieces.SavedBytes()
    for node in mixed:
        node.shims.append(SavedTensors(partial(_take_mix, layer)))
    return cast(Any, layer)


def _take_mix(listener: TransformerListener, state: Mapping[str, torch.Tensor]) -> None:
    listener.set_param("mix", cast(Any, state["layer_weights"].numpy()))
    listener.set_param("gamma", cast(Any, state["scale"].numpy()))


# Turn saved tensors and pieces into HuggingFace's model and tokenizer.
def _take_encoder(
    shim: EncoderShim,
    settings: dict[str, Any],
    piece_encoder: Model[Any, Any],
    limit: int,
    state: Mapping[str, torch.Tensor],
) -> None:
    from transformers import AutoConfig, AutoModel

    has = "".join(state)
    kind = "albert" if "groups." in has else "roberta" if "embeddings.inner." in has else "bert"
    hf_model = AutoModel.from_config(AutoConfig.for_model(kind, **settings))
    weights = _renamed_tensors(state, _ALBERT_LAYERS if kind == "albert" else _LAYERS)
    weights |= {k: v for k, v in hf_model.state_dict().items() if "pooler" in k}
    hf_model.load_state_dict(weights)
    tokenizer = pieces.tokenizer_of(piece_encoder, settings["pad_token_id"], limit)
    shim.take(tokenizer, hf_model)


# Name saved tensors as HuggingFace does, with three of them for the one of query, key and value.
def _renamed_tensors(
    state: Mapping[str, torch.Tensor], layers: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    weights = {}
    for name, tensor in state.items():
        for old, new in {**_EMBEDDINGS, **layers}.items():
            name = name.replace(old, new)
        parts = ("query", "key", "value") if "QKV" in name else ("",)
        for part, one in zip(parts, tensor.chunk(len(parts)), strict=True):
            weights[name.replace("QKV", part)] = one
    return weights


def scalar_weight_v1(
    num_layers: int,
    dropout_prob: float = 0.1,
    mixed_precision: bool = False,
    grad_scaler_config: dict[str, Any] = {},  # noqa: B006
) -> Model[Any, Any]:
    """Build ``ScalarWeight``, whose weights its listener takes.

    Args:
        num_layers: The encoder's layers.
        dropout_prob: Not needed to predict.
        mixed_precision: Not needed.
        grad_scaler_config: Not needed.
    """
    return placeholder("pytorch")


def with_strided_spans_v1(stride: int = 96, window: int = 128, batch_size: int = 384) -> Any:
    """Build ``WithStridedSpans``.

    Args:
        stride: Pieces from one window's start to the next.
        window: Pieces of a window.
        batch_size: Not needed: `max_batch_items` of the component limits a forward pass.
    """
    return TokenWindows(window, stride)


ARCHITECTURES = {
    f"{PREFIX}.{name}.v1": function
    for name, function in {
        **dict.fromkeys(FAMILIES, transformer_v1),
        "BertWordpieceEncoder": pieces.piece_encoder_v1,
        "ByteBpeEncoder": pieces.piece_encoder_v1,
        "SentencepieceEncoder": pieces.piece_encoder_v1,
        "CamembertSentencepieceEncoder": pieces.camembert_encoder_v1,
        "XlmrSentencepieceEncoder": pieces.xlmr_encoder_v1,
        "LastTransformerLayerListener": listener_v1,
        "ScalarWeightingListener": listener_v1,
        "ScalarWeight": scalar_weight_v1,
        "WithStridedSpans": with_strided_spans_v1,
        "CharEncoder": pieces.refused_v1,
        "TransformerLayersListener": pieces.refused_v1,
        "WordpieceEncoder": pieces.refused_v1,
    }.items()
}


def renamed(block: Any) -> Any:
    """Write a block of a config, and those in it, in trfnb's names."""
    if not isinstance(block, dict):
        return block
    new = {key: renamed(value) for key, value in block.items()}
    if new.get("factory") == FACTORY:
        frozen = new.pop("frozen", False)
        new["model"]["trainable_layers"] = 0 if frozen else None
        del new["all_layer_outputs"]
        return {**new, "factory": "trfnb_transformer"}
    prefix, _, name = str(new.get("@architectures")).partition(".")
    kind = name.removesuffix(".v1")
    if prefix != PREFIX or not kind.endswith(("Transformer", "Listener")):
        return new
    if kind not in FAMILIES:
        kept = {key: new[key] for key in ("grad_factor", "pooling", "upstream")}
        kept["layer"] = "mix" if "weighting" in new else -1
        return {**kept, "@architectures": "trfnb.TransformerListener.v1"}
    spans = new["with_spans"]
    return {
        "@architectures": "trfnb.TransformerModel.v1",
        "name": f"{PREFIX}.{kind}",
        "get_spans": {
            "@span_getters": "trfnb.token_windows.v1",
            "window": spans["window"],
            "stride": spans["stride"],
        },
    }
