"""Pipelines of spacy-transformers and spacy-curated-transformers, rewritten in trfnb's names."""

from pathlib import Path

import spacy
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.util import replace_model_node
from thinc.api import Config, Model

from ..files import atomic_folder, refuse_existing
from ..flow.listener import TransformerListener
from . import curated, legacy
from .model import TokenVectors


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
    refuse_existing(target, "import-pipeline")
    nlp = spacy.load(source)
    config = Config(nlp.config)
    config["components"] = curated.renamed(legacy.renamed(nlp.config["components"]))
    if config == nlp.config:
        raise ValueError(
            f"import-pipeline expected a pipeline with names of {legacy.PREFIX} or "
            f"{curated.PREFIX} in its config, but {str(source)!r} has none: it needs no import."
        )
    theirs = (legacy.PREFIX, curated.PREFIX)
    for name, block in list(config["initialize"]["components"].items()):
        if any(f"'{prefix}." in str(block) for prefix in theirs):  # would load by their code
            del config["initialize"]["components"][name]
    for _, component in nlp.components:
        if isinstance(component, TrainablePipe) and isinstance(component.model, Model):
            component.model = _own_layers(component.model)
    needed = {"trfnb", *nlp.meta.get("requirements", [])}
    nlp.meta["requirements"] = sorted(one for one in needed if not one.startswith(theirs))
    with atomic_folder(target, new="import-pipeline") as folder:
        nlp.to_disk(folder)
        config.to_disk(folder / "config.cfg")
        spacy.load(folder)  # what cannot be opened gets no name
    return spacy.load(target)


# Put trfnb's layers where the tree of nodes followed another library's.
def _own_layers(model: Model) -> Model:
    for node in list(model.walk()):
        # A node whose listener was replaced still has the reference, to something else.
        own = node.get_ref("listener") if node.has_ref("listener") else node
        if "runtime" in node.attrs:
            node.layers.clear()
        if isinstance(node, TokenVectors):
            node.layers[:] = [node.transformer, node.pooling]
        if isinstance(own, TransformerListener):
            own.layers[:] = [own.pooling]
            own.attrs.pop("_state", None)
            if node is model:
                return own
            if node is not own:
                replace_model_node(model, node, own)
    for node in model.walk():
        for name in node.ref_names:
            if node.has_ref(name) and node.get_ref(name) not in node.walk():
                node.set_ref(name, None)
    return model
