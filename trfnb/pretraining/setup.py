"""From a config to what the loop needs: pipeline, model, optimiser, text."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spacy.language import DEFAULT_CONFIG_PRETRAIN_PATH, Language
from spacy.schemas import ConfigSchemaPretrain
from spacy.tokens import Doc
from spacy.util import dot_to_object, load_config, load_model_from_config, registry
from thinc.api import Config, Model, Optimizer, fix_random_seed, set_dropout_rate

from trfnb.pretraining.checks import text_problems
from trfnb.pretraining.errors import PretrainingError, refuse
from trfnb.pretraining.products import accelerate
from trfnb.pretraining.reader import RawText, streamed
from trfnb.pretraining.settings import SECTION, LoopSettings, loop_settings, with_our_objective
from trfnb.pretraining.stream import Stream, docs_of, held_out
from trfnb.pretraining.target import SAMPLE, pretrained_layer

logger = logging.getLogger("spacy")
_NO_DEV = (
    f"[{SECTION}] dev_words expected a text of ten usable lines or records, or more, to hold out "
    "every tenth, got fewer: there is no dev loss. Put less on each line, or set dev_words and "
    "patience to 0."
)


@dataclass(frozen=True)
class Setup:
    """Everything resolved.

    Attributes:
        given: The whole config, filled in, with variables as they were given.
        config: The same with values in their place.
        settings: Of the loop.
        nlp: The pipeline, of which one layer is pretrained.
        tok2vec: That layer.
        model: It, with the objective's head.
        optimizer: Fresh.
        stream: The text.
        dev: Docs for the dev loss.
        max_epochs: Passes over the text.
        n_save_epoch: Epochs between two models, as in spaCy.
    """

    given: Config
    config: Config
    settings: LoopSettings
    nlp: Language
    tok2vec: Model
    model: Model[list[Doc], Any]
    optimizer: Optimizer
    stream: Stream
    dev: list[Doc]
    max_epochs: int
    n_save_epoch: int | None


def filled(config: Config) -> Config:
    """Return a config with spaCy's defaults of pretraining where it is silent."""
    return load_config(DEFAULT_CONFIG_PRETRAIN_PATH).merge(config)


def set_up(config: Config, code: str | Path | None = None) -> Setup:
    """Resolve a config that ``spacy pretrain`` takes too, and check all there is to check.

    Args:
        config: As a user gives it.
        code: A file of registered functions, for processes that tokenise.

    Raises:
        PretrainingError: settings, text, or component cannot be used.
    """
    config = with_our_objective(filled(config))
    known = ConfigSchemaPretrain.model_fields
    if unknown := sorted(set(config["pretraining"]) - set(known)):
        # spaCy drops these without a word when it fills in a config.
        raise PretrainingError(
            f"[pretraining] expected {', '.join(known)}, got {', '.join(unknown)}. Correct the "
            f"name; settings of the loop stand in [{SECTION}]."
        )
    settings = loop_settings(config.get(SECTION, {}))
    config = config.copy()
    _without_weights(config.setdefault("initialize", {}))
    nlp = load_model_from_config(config, auto_fill=True)
    whole = nlp.config.interpolate()
    seed = settings.seed if settings.seed is not None else whole["training"]["seed"] or 0
    settings = replace(settings, seed=seed)
    resolved: dict[str, Any] = registry.resolve(whole["pretraining"], schema=ConfigSchemaPretrain)
    text = streamed(_reader(whole, resolved["corpus"]), nlp)
    if isinstance(text, RawText):
        refuse(text_problems(text.path))
    fix_random_seed(seed)
    with nlp.select_pipes(enable=[]):
        nlp.initialize()
    tok2vec = pretrained_layer(nlp, resolved["component"], resolved["layer"])
    model = pretraining_model(nlp, tok2vec, resolved["objective"], resolved["dropout"])
    accelerate(model, settings.precision)
    held, pieces = held_out(nlp, text, settings.dev_words) if settings.dev_words else (set(), [])
    stream = Stream(
        nlp,
        text,
        resolved["batcher"],
        frozenset(held),
        settings.shard_size,
        settings.shuffle,
        seed,
        settings.workers,
        code,
    )
    dev = list(docs_of(nlp, pieces))
    if settings.dev_words and not dev:
        refuse([_NO_DEV] if settings.patience else [])
        logger.warning(_NO_DEV)
    return Setup(
        nlp.config,
        whole,
        settings,
        nlp,
        tok2vec,
        model,
        resolved["optimizer"],
        stream,
        dev,
        resolved["max_epochs"],
        resolved["n_save_epoch"],
    )


def pretraining_model(
    nlp: Language, tok2vec: Model, objective: Callable[..., Model], dropout: float
) -> Model[list[Doc], Any]:
    """Put the objective's head on a body, and initialise it."""
    model = objective(nlp.vocab, tok2vec)
    model.initialize(X=[nlp.make_doc(SAMPLE)])
    set_dropout_rate(model, dropout)
    return model


def _without_weights(initialize: dict[str, Any]) -> None:
    """Take out what loads the weights that are made here: one config may serve both commands."""
    callback = initialize.get("after_init")
    named = isinstance(callback, dict) and callback.get("@callbacks") == "trfnb.LoadPretrained.v1"
    for name in ("init_tok2vec", "after_init") if named else ("init_tok2vec",):
        if initialize.get(name) is not None:
            logger.info("[initialize] %s is not followed: these weights are made here.", name)
        initialize[name] = None


def _reader(config: Config, name: str) -> Callable[[Language], Any]:
    try:
        block = dot_to_object(config, name)
    except KeyError:
        known = ", ".join(f"corpora.{one}" for one in config.get("corpora", {})) or "none"
        raise PretrainingError(
            f"[pretraining] corpus expected a block of the config ({known}), got {name!r}. Name "
            "one of these."
        ) from None
    # spaCy's readers fail late, or not at all, without a path.
    if isinstance(block, dict) and "path" in block:
        path = block["path"]
        refuse(text_problems(Path(path) if path is not None else None))
    reader: Callable[[Language], Any] = registry.resolve({"corpus": block})["corpus"]
    return reader
