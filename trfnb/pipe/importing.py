"""Pipelines of spacy-transformers and spacy-curated-transformers, rewritten in trfnb's names."""

from pathlib import Path

import spacy
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.util import replace_model_node
from thinc.api import Config, Model

from ..files import atomic_folder
from ..flow.listener import TransformerListener
from . import curated, legacy
from .model import TokenVectors, token_vector_model


def import_pipeline(source: str | Path, target: str | Path) -> Language:
    """Rewrite a pipeline that spacy-transformers or spacy-curated-transformers saved.

    It predicts the same.

    Args:
        source: The pipeline's directory, or the name of an installed pipeline.
        target: A directory that does not exist yet.

    Returns:
        The pipeline, loaded from `target`.

    Raises:
        OSError: there is no pipeline at `source`.
        ValueError: `target` exists, or `source` names nothing of the two.
    """
    if Path(target).exists():
        raise ValueError(
            f"import-pipeline expected a directory that does not exist yet, got {target}. Name "
            "another or remove it."
        )
    nlp = spacy.load(source)
    config = Config(nlp.config)
    config["components"] = curated.renamed(legacy.renamed(nlp.config["components"]))
    if config == nlp.config:
        raise ValueError(
            f"import-pipeline expected a pipeline with names of {legacy.PREFIX} or "
            f"{curated.PREFIX} in its config, but {str(source)!r} has none: it needs no import."
        )
    for name in nlp.pipe_names:  # what would load weights by theirs
        config["initialize"]["components"].pop(name, None)
    for _, component in nlp.components:
        if isinstance(component, TrainablePipe) and isinstance(component.model, Model):
            component.model = _own_layers(component.model)
    theirs = (legacy.PREFIX, curated.PREFIX)
    needed = {"trfnb", *nlp.meta.get("requirements", [])}
    nlp.meta["requirements"] = sorted(one for one in needed if not one.startswith(theirs))
    with atomic_folder(target) as folder:
        nlp.to_disk(folder)
        config.to_disk(folder / "config.cfg")
        spacy.load(folder)  # what cannot be opened gets no name
    return spacy.load(target)


# Put trfnb's layers where the tree of nodes followed another library's.
def _own_layers(model: Model) -> Model:
    for node in list(model.walk()):
        # A node whose listener was replaced still has the reference, to something else.
        old = node.get_ref("listener") if node.has_ref("listener") else node
        if "runtime" in node.attrs:
            node.layers.clear()
        if isinstance(node, TokenVectors) and node.layers[-1] is not node.pooling:
            old = node
            new: Model = token_vector_model(
                node.transformer, node.pooling, node.attrs["factor"].now
            )
        elif isinstance(old, TransformerListener) and (old is not node or "_state" in old.attrs):
            layer, factor = old.attrs["layer"], old.attrs["factor"].now
            new = TransformerListener(old.upstream_name, factor, old.pooling, layer)
            for name in old.param_names:
                new.set_param(name, old.get_param(name) if old.has_param(name) else None)
        else:
            continue
        if old.has_dim("nO"):
            new.set_dim("nO", old.get_dim("nO"))
        if node is model:
            return new
        replace_model_node(model, node, new)
    for name in model.ref_names:
        if not model.has_ref(name) or model.get_ref(name) not in model.walk():
            model.set_ref(name, None)
    return model
