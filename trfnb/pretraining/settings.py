"""What a config says of pretraining: spaCy's ``[pretraining]`` and our ``[pretraining_loop]``."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from thinc.api import Config

from trfnb.pretraining.errors import refuse
from trfnb.pretraining.products import Precision

SECTION = "pretraining_loop"
# spaCy's objectives are computed by ours of the same targets and head.
OURS: dict[str, dict[str, Any]] = {
    "spacy.PretrainCharacters.v1": {
        "@architectures": "trfnb.PretrainCharacters.v1",
        "loss": "squared",
    },
    "spacy.PretrainVectors.v1": {"@architectures": "trfnb.PretrainVectors.v1"},
}


@dataclass(frozen=True)
class LoopSettings:
    """The optional block ``[pretraining_loop]``.

    Attributes:
        max_steps: End after so many updates; 0 for none but ``max_epochs``.
        max_seconds: End after so many seconds of training; 0 for no end.
        dev_words: Hold out text of about so many words for the dev loss; 0 for none.
        eval_every: Updates between two dev losses.
        log_every: Updates between two rows of log.csv.
        patience: End after so many dev losses without a lower one; 0 never does.
        warmup_steps: Let the learning rate grow over so many updates.
        save_every: Updates between two checkpoints.
        keep: How many checkpoints, and models of epochs, to keep.
        shuffle: Mix docs that stand near each other in the text.
        shard_size: Characters that are mixed together.
        workers: Processes that tokenise ahead.
        precision: Of matrix products: ``"fp32"``, ``"bf16"``, or ``"auto"`` for bf16 where native.
        seed: Replaces the config's ``[training] seed``.
    """

    max_steps: int = 0
    max_seconds: float = 0
    dev_words: int = 10_000
    eval_every: int = 200
    log_every: int = 50
    patience: int = 0
    warmup_steps: int = 0
    save_every: int = 200
    keep: int = 3
    shuffle: bool = True
    shard_size: int = 400_000
    workers: int = 0
    precision: Precision = "fp32"
    seed: int | None = None


def loop_settings(block: Mapping[str, Any]) -> LoopSettings:
    """Check a block and return it.

    Raises:
        PretrainingError: names and values that cannot be used, all of them.
    """
    known = {field.name: field for field in fields(LoopSettings)}
    problems = []
    if unknown := sorted(set(block) - set(known)):
        problems.append(
            f"[{SECTION}] expected {', '.join(known)}, got {', '.join(unknown)}. Correct the name."
        )
    for name in block.keys() & known.keys():
        if problem := _problem(name, block[name]):
            problems.append(problem)
    refuse(problems)
    return LoopSettings(**block)


def _problem(name: str, value: Any) -> str | None:
    default = getattr(LoopSettings, name)
    expected = ""
    if name == "precision":
        if value not in get_args(Precision):
            expected = "one of " + ", ".join(get_args(Precision))
    elif isinstance(default, bool):
        expected = "" if isinstance(value, bool) else "true or false"
    elif name == "seed" and value is None:
        expected = ""
    else:
        least = 1 if name in ("eval_every", "log_every", "save_every", "keep", "shard_size") else 0
        whole = name != "max_seconds"
        fits = isinstance(value, int) or (isinstance(value, float) and not whole)
        if isinstance(value, bool) or not fits or value < least:
            expected = f"a {'whole ' if whole else ''}number, at least {least}"
    return f"[{SECTION}] {name} expected {expected}, got {value!r}." if expected else None


def with_our_objective(config: Config) -> Config:
    """Let our objective stand in for spaCy's of the same targets."""
    config = config.copy()
    objective = config["pretraining"]["objective"]
    objective.update(OURS.get(objective["@architectures"], {}))
    return config
