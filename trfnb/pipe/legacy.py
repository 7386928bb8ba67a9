"""spacy-transformers' names and files, where spacy-transformers itself is not installed.

Each model has the same tree of nodes as there, because Thinc loads saved weights node by node.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spacy.tokens import Doc
from thinc.api import Model, chain
from thinc.layers.noop import forward as hand_on
from thinc.types import Floats2d, Ragged

from ..flow.listener import TransformerListener
from ..flow.spans import SpanGetter
from .architectures import TransformerModel, registry
from .data import FullTransformerBatch
from .model import TokenVectors, independent_config, independent_copy

PREFIX = "spacy-transformers"
_SPANS, _SETTER = ("doc_spans.v1", "sent_spans.v1", "strided_spans.v1"), "null_annotation_setter.v1"
# What a config names -> the same in trfnb. The guide's first edition names span getters without
# the prefix.
NAMES = {
    **{name: f"trfnb.{name}" for name in _SPANS},
    **{f"{PREFIX}.{name}": f"trfnb.{name}" for name in (*_SPANS, _SETTER)},
    "transformer": "trfnb_transformer",
}


def transformer_v3(
    name: str,
    get_spans: SpanGetter,
    tokenizer_config: dict[str, Any] = {},  # noqa: B006
    transformer_config: dict[str, Any] = {},  # noqa: B006
    mixed_precision: bool = False,
    grad_scaler_config: dict[str, Any] = {},  # noqa: B006
) -> Model[list[Doc], FullTransformerBatch]:
    """Build spacy-transformers' ``TransformerModel``.

    Args:
        name: Hub name or local directory.
        get_spans: What the encoder reads of each doc.
        tokenizer_config: Passed to the tokenizer.
        transformer_config: Passed to the configuration.
        mixed_precision: Run matrix products in half precision.
        grad_scaler_config: Not needed: bf16 has the range of fp32.
    """
    model = TransformerModel(
        name,
        get_spans,
        tokenizer_config,
        transformer_config,
        "bf16" if mixed_precision else "fp32",
        keep_end=False,
    )
    model.attrs.update(
        {"replace_listener": _independent_copy, "replace_listener_cfg": _independent_config}
    )
    return model


def listener_v1(
    pooling: Model[Ragged, Floats2d],
    grad_factor: float | Iterable[float] = 1.0,
    upstream: str = "*",
) -> Model[list[Doc], list[Floats2d]]:
    """Build spacy-transformers' ``TransformerListener``.

    Args:
        pooling: Reduces a token's rows to its vector.
        grad_factor: What the gradient into the transformer is multiplied by.
        upstream: Name of the component, or ``"*"`` for any.
    """
    inner = TransformerListener(upstream, grad_factor, pooling, layers=[])
    model: Model[list[Doc], list[Floats2d]] = chain(inner, placeholder("trfs2arrays", [pooling]))
    model.set_ref("listener", inner)
    return model


def independent_v3(
    name: str,
    get_spans: SpanGetter,
    tokenizer_config: dict[str, Any],
    pooling: Model[Ragged, Floats2d],
    grad_factor: float = 1.0,
    transformer_config: dict[str, Any] = {},  # noqa: B006
    mixed_precision: bool = False,
    grad_scaler_config: dict[str, Any] = {},  # noqa: B006
) -> Model[list[Doc], list[Floats2d]]:
    """Build spacy-transformers' ``Tok2VecTransformer``, third version.

    Args:
        name: As for `transformer_v3`, as are the settings of the same names.
        get_spans: What the encoder reads of each doc.
        tokenizer_config: Passed to the tokenizer.
        pooling: Reduces a token's rows to its vector.
        grad_factor: What the gradient into the transformer is multiplied by.
        transformer_config: Passed to the configuration.
        mixed_precision: Run matrix products in half precision.
        grad_scaler_config: Not needed.
    """
    transformer = transformer_v3(
        name, get_spans, tokenizer_config, transformer_config, mixed_precision
    )
    layers = [
        placeholder("transformer>>split_trf_batch", [transformer, placeholder("split")]),
        placeholder("trfs2arrays", [pooling]),
    ]
    return TokenVectors(transformer, pooling, grad_factor, layers=layers)


def independent_v2(
    name: str,
    get_spans: SpanGetter,
    tokenizer_config: dict[str, Any],
    pooling: Model[Ragged, Floats2d],
    grad_factor: float = 1.0,
    transformer_config: dict[str, Any] = {},  # noqa: B006
) -> Model[list[Doc], list[Floats2d]]:
    """Build the first and second version of ``Tok2VecTransformer``: another tree of nodes."""
    transformer = transformer_v3(name, get_spans, tokenizer_config, transformer_config)
    layers = [transformer, placeholder("split_trf_batch"), placeholder("trfs2arrays", [pooling])]
    return TokenVectors(transformer, pooling, grad_factor, layers=layers)


def placeholder(name: str, layers: Sequence[Model] = (), **parts: Any) -> Model[Any, Any]:
    """Make a node that hands on what it gets: its work is done by its neighbour.

    Args:
        name: The node's name.
        layers: Its sublayers.
        parts: Attributes and shims, as Thinc's ``Model`` takes them.
    """
    # A pipeline whose listeners were replaced here has a width where this node stands.
    return Model(
        name,
        hand_on,
        dims={"nO": None},
        layers=list(layers),
        **parts,
    )


def _independent_copy(transformer: Model, listener: TransformerListener, component: Any) -> Model:
    model = independent_copy(transformer, listener, component)
    if not listener.layers:
        # Only a listener of theirs is replaced: the node that holds the pooling stays where it is.
        model.layers[1:] = [placeholder("split_trf_batch")]
    return model


def _independent_config(
    transformer_config: dict[str, Any], listener_config: dict[str, Any]
) -> dict[str, Any]:
    if str(listener_config.get("@architectures")).startswith("trfnb."):
        return independent_config(renamed(transformer_config), listener_config)
    return {
        "tokenizer_config": {},
        "transformer_config": {},
        "mixed_precision": False,
        "grad_scaler_config": {},
        **transformer_config,
        "@architectures": f"{PREFIX}.Tok2VecTransformer.v3",
        "grad_factor": listener_config.get("grad_factor", 1.0),
        "pooling": listener_config["pooling"],
    }


# Later versions only took more settings, which have defaults.
ARCHITECTURES = {
    f"{PREFIX}.TransformerModel.v1": transformer_v3,
    f"{PREFIX}.TransformerModel.v2": transformer_v3,
    f"{PREFIX}.TransformerModel.v3": transformer_v3,
    f"{PREFIX}.TransformerListener.v1": listener_v1,
    f"{PREFIX}.Tok2VecListener.v1": listener_v1,
    f"{PREFIX}.Tok2VecTransformer.v1": independent_v2,
    f"{PREFIX}.Tok2VecTransformer.v2": independent_v2,
    f"{PREFIX}.Tok2VecTransformer.v3": independent_v3,
}


def register(architectures: Mapping[str, Any], names: Mapping[str, str] = {}) -> None:
    """Register another library's names.

    Args:
        architectures: What each architecture's name stands for.
        names: What span getters and annotation setters are called in trfnb, by their names there.
    """
    for name, function in architectures.items():
        registry.architectures.register(name, func=function)
    for name, ours in names.items():
        for functions in (registry.span_getters, registry.annotation_setters):
            if ours in functions:
                functions.register(name, func=functions.get(ours))


def renamed(block: Any) -> Any:
    """Write a block of a config, and those in it, in trfnb's names."""
    if isinstance(block, list):
        return [renamed(one) for one in block]
    if not isinstance(block, dict):
        return block
    new = {key: renamed(value) for key, value in block.items()}
    for key in {"@span_getters", "@annotation_setters", "factory"} & {*new}:
        new[key] = NAMES.get(new[key], new[key])
    prefix, _, name = str(new.get("@architectures")).partition(".")
    if prefix != PREFIX:
        return new
    kind = name.partition(".")[0]
    if kind in ("TransformerModel", "Tok2VecTransformer"):
        new.pop("grad_scaler_config", None)
        new["precision"] = "bf16" if new.pop("mixed_precision", False) else "fp32"
        new["keep_end"] = False
    else:
        kind = "TransformerListener"
    return {**new, "@architectures": f"trfnb.{kind}.v1"}
