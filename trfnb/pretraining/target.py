"""Which layer of a pipeline a config pretrains."""

from typing import Any

from spacy.language import Language
from thinc.api import Model

from trfnb.flow.listener import TransformerListener
from trfnb.pretraining.errors import PretrainingError

SAMPLE = "Give it a doc to infer shapes"


def pretrained_layer(nlp: Language, component: str | None, layer: str) -> Model:
    """Return the layer that ``[pretraining] component`` and ``layer`` name, with weights.

    A listener stands for the shared component that it listens to.

    Raises:
        PretrainingError: there is no such component or layer, or it gives no vectors of tokens.
    """
    found = _named(nlp, component, layer)
    upstream = _upstream(found)
    if upstream is not None:
        shared = _shared(nlp, upstream)
        found = _named(nlp, shared, "")
    sample = nlp.make_doc(SAMPLE)
    try:
        if not _has_weights(found):
            found.initialize(X=[sample])
        vectors: Any = found.predict([sample])
    except Exception as error:
        raise _no_vectors(component, layer, f"an error when it reads a doc: {error}") from error
    if found.name == "transformer_model":
        return found
    shape = getattr(vectors[0], "shape", None) if isinstance(vectors, list) and vectors else None
    if shape is None or len(shape) != 2 or shape[0] != len(sample):
        raise _no_vectors(component, layer, f"{type(vectors).__name__}")
    return found


def _named(nlp: Language, component: str | None, layer: str) -> Model:
    components = ", ".join(nlp.component_names) or "none"
    if component is None or component not in nlp.component_names:
        raise PretrainingError(
            f"[pretraining] component expected one of the pipeline's ({components}), got "
            f"{component!r}. Name the one whose weights to pretrain."
        )
    model = getattr(nlp.get_pipe(component), "model", None)
    if not isinstance(model, Model):
        raise PretrainingError(
            f"[pretraining] component expected a trainable one, got {component!r}, which has no "
            "model. Name another."
        )
    if not layer:
        return model
    if layer not in model.ref_names or not model.has_ref(layer):
        known = ", ".join(repr(name) for name in model.ref_names) or "none"
        raise PretrainingError(
            f"[pretraining] layer expected one of {component!r}'s ({known}), got {layer!r}. "
            "Name another, or leave it empty for the whole model."
        )
    return model.get_ref(layer)


def _has_weights(model: Model) -> bool:
    nodes = list(model.walk())
    arrays = all(node.has_param(name) for node in nodes for name in node.param_names)
    shims = [shim for node in nodes for shim in node.shims]
    return arrays and all(getattr(shim, "_model", None) is not None for shim in shims)


def _upstream(model: Model) -> str | None:
    if isinstance(model, TransformerListener) or type(model).__name__ == "Tok2VecListener":
        return str(model.upstream_name)  # type: ignore[attr-defined]
    return None


def _shared(nlp: Language, upstream: str) -> str:
    if upstream != "*":
        return upstream
    shared = [name for name in nlp.component_names if _listens_to_nothing(nlp, name)]
    return shared[0] if shared else "tok2vec"


def _listens_to_nothing(nlp: Language, name: str) -> bool:
    factory = nlp.get_pipe_meta(name).factory
    return factory in ("tok2vec", "transformer", "trfnb_transformer", "trfnb_tok2vec")


def _no_vectors(component: str | None, layer: str, got: str) -> PretrainingError:
    place = f"{component!r}" + (f", layer {layer!r}" if layer else "")
    return PretrainingError(
        f"[pretraining] component {place} expected a layer that maps docs to one array of token "
        f"vectors a doc, got {got}. Give a tok2vec or transformer component, or a task with "
        'layer = "tok2vec".'
    )
