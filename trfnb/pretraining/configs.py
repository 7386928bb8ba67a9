"""Configs that pretrain a pipeline's body, and configs that start from the result."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spacy.language import DEFAULT_CONFIG_PRETRAIN_PATH
from spacy.tokens import Doc
from spacy.util import load_config
from thinc.api import Config

from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.settings import SECTION

# Objectives that need nothing but the text.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "characters": {"@architectures": "trfnb.PretrainCharacters.v1"},
    "words": {"@architectures": "trfnb.PretrainWords.v1"},
    "replaced": {"@architectures": "trfnb.PretrainReplaced.v1"},
    "distillation": {"@architectures": "trfnb.PretrainDistillation.v1"},
}


def pretraining_config(
    config: Config,
    text: str | Path,
    objective: str | Mapping[str, Any] = "characters",
    *,
    component: str = "tok2vec",
    layer: str = "",
    batch_words: int = 3000,
    dropout: float = 0.2,
    max_epochs: int = 1000,
    max_length: int = 500,
    **loop: Any,
) -> Config:
    """Add to a pipeline's config what `pretrain` and ``spacy pretrain`` need.

    Args:
        config: A pipeline's, as `trfnb.experiments.pipelines.build_config` makes it; not changed.
        text: Raw text, a file or a folder.
        objective: One of `OBJECTIVES`, or a block for ``[pretraining.objective]``.
        component: Whose body to pretrain.
        layer: The layer in that component, where it is not the whole model.
        batch_words: Words an update.
        dropout: Of body and head.
        max_epochs: Passes over the text.
        max_length: Longest doc in tokens; longer ones are cut.
        loop: `trfnb.pretraining.settings.LoopSettings`.

    Raises:
        PretrainingError: no such objective.
    """
    if isinstance(objective, str):
        if objective not in OBJECTIVES:
            known = ", ".join(OBJECTIVES)
            raise PretrainingError(
                f"objective expected one of {known}, or a block, got {objective!r}."
            )
        objective = OBJECTIVES[objective]
    block = dict(objective)
    if block["@architectures"] == "trfnb.PretrainWords.v1":
        block.setdefault("text", str(text))
    made = load_config(DEFAULT_CONFIG_PRETRAIN_PATH).merge(config.copy())
    made["paths"]["raw_text"] = str(text)
    made["corpora"]["pretrain"] = {
        "@readers": "trfnb.RawText.v1",
        "path": "${paths.raw_text}",
        "min_length": 1,
        "max_length": max_length,
        "limit": 0,
    }
    made["pretraining"] |= {
        "objective": block,
        "component": component,
        "layer": layer,
        "dropout": dropout,
        "max_epochs": max_epochs,
    }
    made["pretraining"]["batcher"]["size"] = batch_words
    made[SECTION] = dict(loop)
    return made


def with_pretrained(
    config: Config, weights: str | Path | None, component: str = "tok2vec"
) -> Config:
    """Return a training config that starts from pretrained weights; None leaves it as it is.

    ``[initialize.after_init]`` loads them with a report and refuses weights that do not fit.
    """
    made = config.copy()
    if weights is not None:
        made["initialize"]["after_init"] = {
            "@callbacks": "trfnb.LoadPretrained.v1",
            "path": str(weights),
            "component": component,
            "layer": "",
            "partial": False,
        }
    return made


def write_text(docs: Iterable[Doc], path: str | Path) -> Path:
    """Write the texts of docs as raw text, one a line."""
    path = Path(path)
    lines = (" ".join(doc.text.split()) for doc in docs)
    path.write_text("".join(f"{line}\n" for line in lines if line), encoding="utf8")
    return path
