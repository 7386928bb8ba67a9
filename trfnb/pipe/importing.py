"""A pipeline in spacy-transformers' names -> the same in trfnb's, saved as safetensors."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Any, cast

import spacy
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.util import replace_model_node
from thinc.api import Config, Model

from ..flow.listener import TransformerListener
from .legacy import PREFIX
from .model import TokenVectors, token_vector_model

_SPANS = ("doc_spans.v1", "sent_spans.v1", "strided_spans.v1")
_FUNCTIONS = {
    ("@span_getters", name): f"trfnb.{name.removeprefix(PREFIX + '.')}"
    for short in _SPANS
    for name in (short, f"{PREFIX}.{short}")
} | {
    ("@annotation_setters", f"{PREFIX}.null_annotation_setter.v1"): (
        "trfnb.null_annotation_setter.v1"
    )
}


def import_pipeline(source: str | Path, target: str | Path) -> Language:
    """Rewrite a pipeline that spacy-transformers saved; it predicts the same.

    Args:
        source: The pipeline's directory, or the name of an installed pipeline.
        target: A directory that does not exist yet.

    Returns:
        The pipeline, loaded from `target`.

    Raises:
        FileNotFoundError: there is no pipeline at `source`.
        ValueError: `target` exists, or `source` names nothing of spacy-transformers.
    """
    target = Path(target)
    if target.exists():
        raise ValueError(
            f"import-pipeline expected a directory that does not exist yet, got {target}. Name "
            "another or remove it."
        )
    try:
        nlp = spacy.load(source)
    except OSError as error:
        raise FileNotFoundError(
            f"import-pipeline expected a saved spaCy pipeline, got {str(source)!r}. ({error})"
        ) from error
    config = nlp.config.copy()
    components, changes = renamed(config["components"])
    if not changes:
        raise ValueError(
            f"import-pipeline expected a pipeline with spacy-transformers' names in its config, "
            f"but {str(source)!r} has none: it needs no import."
        )
    config["components"] = components
    for name in nlp.component_names:
        component = nlp.get_pipe(name)
        if isinstance(component, TrainablePipe) and isinstance(component.model, Model):
            component.model = _own_layers(component.model)
    aside = target.with_name(f".{target.name}.part")
    rmtree(aside, ignore_errors=True)
    nlp.to_disk(aside)
    Config(config).to_disk(aside / "config.cfg")
    _correct_meta(aside / "meta.json", components)
    spacy.load(aside)  # what cannot be opened gets no name
    aside.rename(target)
    return spacy.load(target)


def renamed(components: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Write components' configs in trfnb's names; say how many blocks changed."""
    changes = 0

    def walk(block: Any) -> Any:
        nonlocal changes
        if isinstance(block, list):
            return [walk(one) for one in block]
        if not isinstance(block, dict):
            return block
        new = {key: walk(value) for key, value in block.items()}
        for key, value in list(new.items()):
            if isinstance(value, str) and (key, value) in _FUNCTIONS:
                new[key] = _FUNCTIONS[key, value]
                changes += 1
        name = str(new.get("@architectures", ""))
        for ending, rewrite in _ARCHITECTURES.items():
            if name.startswith(f"{PREFIX}.{ending}."):
                changes += 1
                return rewrite(new)
        if new.get("factory") == "transformer":
            new["factory"] = "trfnb_transformer"
            changes += 1
        return new

    return {name: walk(block) for name, block in components.items()}, changes


def _transformer(block: dict[str, Any], name: str = "trfnb.TransformerModel.v1") -> dict[str, Any]:
    new = {key: value for key, value in block.items() if key != "grad_scaler_config"}
    new["precision"] = "bf16" if new.pop("mixed_precision", False) else "fp32"
    return {**new, "@architectures": name, "keep_end": False}


def _listener(block: dict[str, Any]) -> dict[str, Any]:
    return {**block, "@architectures": "trfnb.TransformerListener.v1"}


def _independent(block: dict[str, Any]) -> dict[str, Any]:
    return _transformer(block, "trfnb.Tok2VecTransformer.v1")


_ARCHITECTURES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "TransformerModel": _transformer,
    "TransformerListener": _listener,
    "Tok2VecListener": _listener,
    "Tok2VecTransformer": _independent,
}


def _own_layers(model: Model) -> Model:
    """Put trfnb's layers where the tree of nodes followed spacy-transformers'."""
    for node in list(model.walk()):
        new: Model | None = None
        if node.has_ref("listener") and isinstance(node.get_ref("listener"), TransformerListener):
            listener = cast(TransformerListener, node.get_ref("listener"))
            factor = listener.attrs["factor"].now
            new = TransformerListener(listener.upstream_name, factor, listener.pooling)
        elif isinstance(node, TokenVectors) and node.layers[-1] is not node.pooling:
            new = token_vector_model(node.transformer, node.pooling, node.attrs["factor"].now)
        if new is not None:
            if node.has_dim("nO"):
                new.set_dim("nO", node.get_dim("nO"))
            elif node.has_ref("listener") and node.get_ref("listener").has_dim("nO"):
                new.set_dim("nO", node.get_ref("listener").get_dim("nO"))
            if node is model:
                return new
            replace_model_node(model, node, new)
    return model


def _correct_meta(path: Path, components: dict[str, Any]) -> None:
    meta = json.loads(path.read_text(encoding="utf8"))
    wanted = [one for one in meta.get("requirements", []) if not one.startswith(PREFIX)]
    meta["requirements"] = sorted({*wanted, "trfnb"})
    for name, block in components.items():
        if name in meta.get("factories", {}):
            meta["factories"][name] = block.get("factory")
    path.write_text(json.dumps(meta, indent=2, ensure_ascii=False), encoding="utf8")
