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
from thinc.api import Model, Shim, deserialize_attr
from thinc.types import Floats2d, Ragged

from ..flow.encoder import EncoderShim
from ..flow.listener import TransformerListener
from ..flow.runtime import Runtime
from ..flow.saving import encoder_to_bytes
from ..flow.spans import TokenWindows
from .architectures import registry
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


class SavedBytes:
    """Stands for an attribute that is to be loaded as the bytes that were saved."""


@deserialize_attr.register(SavedBytes)
def _saved_bytes(_: Any, value: bytes, name: str, model: Model) -> bytes:
    return value


class SavedTensors(Shim):
    """Hands the tensors of a saved torch module to what makes use of them here.

    Args:
        take: Gets the tensors by name when they are loaded.
    """

    def __init__(self, take: Callable[[dict[str, torch.Tensor]], None]) -> None:
        super().__init__(None)
        self.take = take

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
    inner = [piece_encoder, spans, placeholder("remove_bos_eos")]
    model.layers[0].layers.append(placeholder("chain", inner))
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
    inner = placeholder("with_ragged_last_layer", [pooling])
    mixed = [] if weighting is None else [weighting]
    layer = TransformerListener(
        upstream, grad_factor, pooling, "mix" if mixed else -1, [*mixed, inner]
    )
    layer.attrs["_state"] = SavedBytes()
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
    layers, weights = _ALBERT_LAYERS if kind == "albert" else _LAYERS, {}
    for name, tensor in state.items():
        for old, new in {**_EMBEDDINGS, **layers}.items():
            name = name.replace(old, new)
        parts = ("query", "key", "value") if "QKV" in name else ("",)
        for part, one in zip(parts, tensor.chunk(len(parts)), strict=True):
            weights[name.replace("QKV", part)] = one
    weights |= {k: v for k, v in hf_model.state_dict().items() if "pooler" in k}
    hf_model.load_state_dict(weights)
    tokenizer = _tokenizer(piece_encoder, settings["pad_token_id"], limit)
    shim.from_bytes(srsly.msgpack_dumps(encoder_to_bytes(tokenizer, hf_model, False)))


# Make HuggingFace's tokenizer of a piece encoder's saved attributes.
def _tokenizer(piece_encoder: Model[Any, Any], padding: int, limit: int) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    saved = {name: value for node in piece_encoder.walk() for name, value in node.attrs.items()}
    first, last, unknown = (saved[f"{one}_piece"] for one in ("bos", "eos", "unk"))
    if isinstance(saved["wordpiece_processor"], bytes):
        pieces = saved["wordpiece_processor"].decode("utf8").split("\n")
        ids = {piece: i for i, piece in enumerate(pieces)}
        core = Tokenizer(models.WordPiece(ids, unk_token=unknown, max_input_chars_per_word=10**6))
        accents = [normalizers.NFD(), normalizers.StripAccents()] if saved["strip_accents"] else []
        lower = [normalizers.Lowercase()] if saved["lowercase"] else []
        core.normalizer = normalizers.Sequence(lower + accents)
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        bpe = srsly.msgpack_loads(saved["byte_bpe_processor"])
        core = Tokenizer(models.BPE(bpe["vocab"], [tuple(pair) for pair in bpe["merges"]]))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = [(one, core.token_to_id(one)) for one in (first, last)]
    core.post_processor = processors.TemplateProcessing(f"{first} $A {last}", None, ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **dict.fromkeys(("bos_token", "cls_token"), first),
        **dict.fromkeys(("eos_token", "sep_token"), last),
        unk_token=unknown,
        pad_token=core.id_to_token(padding),
        model_max_length=limit,
    )


def piece_encoder_v1() -> Model[Any, Any]:
    """Build a piece encoder: what is loaded into it becomes a tokenizer."""
    names = ("wordpiece_processor", "byte_bpe_processor")
    return placeholder("piece_encoder", attrs={name: SavedBytes() for name in names})


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


def register() -> None:
    """Register spacy-curated-transformers' names."""
    architectures: dict[str, Any] = {
        **dict.fromkeys(FAMILIES, transformer_v1),
        "BertWordpieceEncoder": piece_encoder_v1,
        "ByteBpeEncoder": piece_encoder_v1,
        "LastTransformerLayerListener": listener_v1,
        "ScalarWeightingListener": listener_v1,
        "ScalarWeight": scalar_weight_v1,
        "WithStridedSpans": with_strided_spans_v1,
    }
    for name, function in architectures.items():
        registry.architectures.register(f"{PREFIX}.{name}.v1", func=function)


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
        layer = "mix" if "weighting" in new else -1
        return {**kept, "@architectures": "trfnb.TransformerListener.v1", "layer": layer}
    spans = new["with_spans"]
    windows = {"window": spans["window"], "stride": spans["stride"]}
    return {
        "@architectures": "trfnb.TransformerModel.v1",
        "name": f"{PREFIX}.{kind}",
        "get_spans": {"@span_getters": "trfnb.token_windows.v1", **windows},
    }
