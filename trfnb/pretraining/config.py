"""Configs: what pretrains a pipeline's layer, what starts from the result, and their checks."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)
from spacy.language import DEFAULT_CONFIG_PRETRAIN_PATH
from spacy.schemas import ConfigSchemaPretrain
from spacy.tokens import Doc
from spacy.util import dot_to_object, load_config, registry
from thinc.api import Config

from trfnb.pretraining.text import (
    PretrainingError,
    RawText,
    refuse,
    text_of,
)

SECTION = "pretraining_loop"
# Objectives that need nothing but the text.
OBJECTIVES = {
    "characters": {"@architectures": "trfnb.PretrainCharacters.v1"},
    "words": {"@architectures": "trfnb.PretrainWords.v1"},
    "replaced": {"@architectures": "trfnb.PretrainReplaced.v1"},
    "distillation": {"@architectures": "trfnb.PretrainDistillation.v1"},
}
# spaCy's objectives are computed by ours of the same targets and head.
OURS = {
    "spacy.PretrainCharacters.v1": {
        "@architectures": "trfnb.PretrainCharacters.v1",
        "loss": "squared",
    },
    "spacy.PretrainVectors.v1": {"@architectures": "trfnb.PretrainVectors.v1"},
}


class LoopSettings(BaseModel):
    """The optional block ``[pretraining_loop]``.

    Attributes:
        max_steps: End after so many updates; 0 leaves the end to ``max_epochs``.
        max_seconds: End after so many seconds of training; 0 for no end.
        dev_words: Hold out text of about so many words for the dev loss; 0 for none.
        eval_every: Updates between two dev losses.
        log_every: Updates between two rows of log.csv.
        patience: End after so many dev losses without a lower one; 0 never does.
        save_every: Updates between two checkpoints.
        keep: How many checkpoints to keep.
        shard_size: Characters of text whose docs are mixed together.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    max_steps: NonNegativeInt = 0
    max_seconds: NonNegativeFloat = 0
    dev_words: NonNegativeInt = 10_000
    eval_every: PositiveInt = 200
    log_every: PositiveInt = 50
    patience: NonNegativeInt = 0
    save_every: PositiveInt = 200
    keep: PositiveInt = 3
    shard_size: PositiveInt = 400_000


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
        config: A pipeline's, as `trfnb.experiments.build_config` makes it; not changed.
        text: Raw text, a file or a folder.
        objective: One of `OBJECTIVES`, or a block for ``[pretraining.objective]``.
        component: Whose layer to pretrain.
        layer: The layer in that component, where it is not the whole model.
        batch_words: Words of an update.
        dropout: Of layer and head.
        max_epochs: Passes over the text.
        max_length: Longest doc in tokens; longer ones are cut.
        loop: Settings of `LoopSettings`.

    Raises:
        PretrainingError: no such objective.
    """
    if isinstance(objective, str):
        if objective not in OBJECTIVES:
            raise PretrainingError(
                f"objective expected one of {', '.join(OBJECTIVES)}, or a block, got {objective!r}."
            )
        objective = OBJECTIVES[objective]
    block = dict(objective)
    if block["@architectures"] == "trfnb.PretrainWords.v1":
        block.setdefault("text", str(text))
    made = filled(config).merge(
        {
            "paths": {"raw_text": str(text)},
            "corpora": {
                "pretrain": {
                    "@readers": "trfnb.RawText.v1",
                    "path": "${paths.raw_text}",
                    "max_length": max_length,
                }
            },
            "pretraining": {
                "component": component,
                "layer": layer,
                "dropout": dropout,
                "max_epochs": max_epochs,
                "batcher": {"size": batch_words},
            },
        }
    )
    # Whole, whatever stood there.
    made["pretraining"]["objective"] = block
    made[SECTION] = loop
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
        }
    return made


def write_text(docs: Iterable[Doc], path: str | Path) -> Path:
    """Write the texts of docs as raw text, one a line."""
    lines = (" ".join(doc.text.split()) for doc in docs)
    Path(path).write_text("".join(f"{line}\n" for line in lines if line), encoding="utf8")
    return Path(path)


def filled(config: Config) -> Config:
    """Return a config with spaCy's defaults of pretraining where it is silent."""
    return load_config(DEFAULT_CONFIG_PRETRAIN_PATH).merge(config)


def loop_settings(config: Config) -> LoopSettings:
    """Check both blocks of pretraining, and return the one of the loop.

    Raises:
        PretrainingError: settings are unknown or out of range; it names all of them.
    """
    block, known = config["pretraining"], ConfigSchemaPretrain.model_fields
    # spaCy drops unknown names without a word when it fills in a config.
    problems = [
        f"[pretraining] expected {', '.join(known)}, got {name}. Correct the name; settings of the "
        f"loop stand in [{SECTION}]."
        for name in sorted(set(block) - set(known))
    ]
    if block["max_epochs"] == 0:
        problems.append(
            "[pretraining] max_epochs expected at least 1, got 0: no update would be made. Give a "
            f"number of passes over the text; [{SECTION}] max_steps or max_seconds may end earlier."
        )
    settings = LoopSettings()
    try:
        settings = LoopSettings(**config.get(SECTION, {}))
    except ValidationError as error:
        names = ", ".join(LoopSettings.model_fields)
        problems.append(f"[{SECTION}] expected {names}, each in its range, got {error}")
    refuse(problems)
    return settings


def corpus_text(config: Config, name: str) -> RawText:
    """Return the text that a block of a resolved config names.

    Raises:
        PretrainingError: there is no such block, or no text where it points to.
    """
    try:
        block = dot_to_object(config, name)
    except KeyError:
        known = ", ".join(f"corpora.{block}" for block in config.get("corpora", {})) or "none"
        raise PretrainingError(
            f"[pretraining] corpus expected a block of the config ({known}), got {name!r}. Name "
            "one of these."
        ) from None
    return text_of(registry.resolve({"corpus": block})["corpus"])
