"""Plain spaCy configs for the three ways of sharing an encoder."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from spacy.util import load_model_from_config
from thinc.api import Config

import trfnb.registration  # noqa: F401  the configs name what it registers
from trfnb.experiments.bodies import Body, SpanChoice
from trfnb.experiments.heads import HEADS, TASKS, component, score_weights

Sharing = Literal["shared", "independent", "frozen"]
SHARINGS: tuple[str, ...] = get_args(Sharing)
GradFactor = float | str | Mapping[str, Any]
Rate = float | Mapping[str, Any]


def build_config(
    tasks: Sequence[str] = TASKS,
    body: str = "tok2vec",
    sharing: str = "shared",
    *,
    lang: str = "en",
    width: int = 96,
    depth: int = 4,
    embed_rows: int = 2000,
    grad_factor: GradFactor = 1.0,
    balance: str | Mapping[str, Any] | None = None,
    layer: int = -1,
    pooling: str = "reduce_mean.v1",
    get_spans: SpanChoice = "doc",
    precision: str = "fp32",
    tokenizer_config: Mapping[str, Any] | None = None,
    transformer_config: Mapping[str, Any] | None = None,
    dropout: float = 0.1,
    batch_words: int | None = None,
    accumulate_gradient: int = 1,
    learn_rate: Rate | None = None,
    encoder_factor: float = 0.05,
    warmup_steps: int | None = None,
    max_epochs: int = 0,
    max_steps: int = 2000,
    patience: int = 600,
    eval_frequency: int = 100,
    seed: int = 0,
) -> Config:
    """Build a complete config: print it, edit it, hand it to ``spacy train`` or to ``train``.

    Args:
        tasks: any of tagger, parser, ner, textcat.
        body: ``"tok2vec"``, ``"minilm"``, or a transformer's local path or hub name.
        sharing: ``"shared"``: one body component, a listener in each task; ``"independent"``: a
            body inside each task; ``"frozen"``: shared, and never updated. A frozen tok2vec is
            random features: the floor that any trained body has to beat.
        lang: language code of the tokeniser.
        width: of the small body's vectors; more in `trfnb.experiments.bodies.Body`.
        depth: the small body's layers.
        embed_rows: rows of its hash tables.
        grad_factor: a number, a schedule block (``{"@schedules": …}``), ``"auto"``, or one of
            these a task; tasks left out have 1.0.
        balance: the policy that chooses the factors of tasks set to ``"auto"``: its short name,
            such as ``"equal_norms"`` or ``"upgrad"``, or its block (``{"@balancers": …}``). All
            tasks are "auto" if ``grad_factor`` is left out.
        layer: the hidden layer of a transformer that tasks read.
        pooling: from a token's wordpieces to its vector.
        get_spans: how documents are cut for a transformer.
        precision: of a transformer's arithmetic.
        tokenizer_config: for the HuggingFace tokenizer.
        transformer_config: for the HuggingFace model.
        dropout: of the task models and the small body.
        batch_words: words an update, as a target; 500 for the small body, 100 for a transformer.
        accumulate_gradient: parts that an update's batch is split into.
        learn_rate: a number or a schedule block, of the task models and the small body. Left out:
            0.001, or beside a transformer a linear warm-up to 0.002 and a decay to 0 at
            ``max_steps``, where that is set.
        encoder_factor: what a transformer's own rate is multiplied by.
        warmup_steps: of that schedule; a tenth of ``max_steps`` if left out.
        max_epochs: passes over the train split; 0 sets no limit.
        max_steps: updates; 0 sets no limit.
        patience: updates without a better score before the training ends; 0 never ends it.
        eval_frequency: updates between two evaluations.
        seed: of weights, shuffling and dropout.

    Raises:
        ValueError: names every unknown task, way of sharing and misplaced option at once.
    """
    tasks = tuple(tasks)
    if balance is not None and grad_factor == 1.0:
        grad_factor = "auto"
    problems = _problems(tasks, body, sharing, grad_factor, balance)
    if problems:
        raise ValueError("Cannot build this pipeline:\n- " + "\n- ".join(problems))
    encoder = Body(
        body,
        width=width,
        depth=depth,
        embed_rows=embed_rows,
        layer=layer,
        pooling=pooling,
        get_spans=get_spans,
        precision=precision,
        tokenizer_config=tokenizer_config or {},
        transformer_config=transformer_config or {},
    )
    components: dict[str, Any] = {}
    if sharing != "independent":
        components[encoder.name] = {**encoder.component(), "balance": _policy(balance)}
    for task in tasks:
        factor = task_factor(grad_factor, task)
        tok2vec = encoder.inside(factor) if sharing == "independent" else encoder.listener(factor)
        components[task] = component(task, tok2vec)
    frozen = [encoder.name] if sharing == "frozen" else []
    training: dict[str, Any] = {
        "dropout": dropout,
        "accumulate_gradient": accumulate_gradient,
        "patience": patience,
        "max_epochs": max_epochs,
        "max_steps": max_steps,
        "eval_frequency": eval_frequency,
        "score_weights": score_weights(tasks),
        "frozen_components": frozen,
        "annotating_components": frozen,
        "batcher": {
            "@batchers": "spacy.batch_by_words.v1",
            "size": batch_words if batch_words else (100 if encoder.is_transformer else 500),
            "tolerance": 0.2,
            "discard_oversize": False,
        },
        "optimizer": {
            "@optimizers": "Adam.v1",
            "learn_rate": _rate(learn_rate, encoder.is_transformer, warmup_steps, max_steps),
        },
    }
    if encoder.is_transformer:
        training["optimizer"] |= {
            "@optimizers": "trfnb.Adam.v1",
            "encoder_factor": encoder_factor,
        }
    config = Config(
        {
            "system": {
                "seed": seed,
                "gpu_allocator": "pytorch" if encoder.is_transformer else None,
            },
            "nlp": {"lang": lang, "pipeline": list(components), "batch_size": 256},
            "components": components,
            "training": training,
            "initialize": {"before_init": _before_init(frozen)},
        }
    )
    return complete(config)


def complete(config: Config) -> Config:
    """Fill every default in, as ``spacy init fill-config`` does; the input stays as it is."""
    nlp = load_model_from_config(config.copy(), auto_fill=True)
    return nlp.config.copy()


def task_factor(grad_factor: GradFactor, task: str) -> float | str | dict[str, Any]:
    """Return one task's gradient factor: a number, a schedule block or "auto"."""
    if isinstance(grad_factor, Mapping) and "@schedules" not in grad_factor:
        grad_factor = grad_factor.get(task, 1.0)
    if isinstance(grad_factor, Mapping):
        return dict(grad_factor)
    return grad_factor if isinstance(grad_factor, str) else float(grad_factor)


def _policy(balance: str | Mapping[str, Any] | None) -> dict[str, Any] | None:
    if isinstance(balance, str):
        return {"@balancers": f"trfnb.{balance}.v1"}
    return None if balance is None else dict(balance)


def _rate(
    given: Rate | None, transformer: bool, warmup_steps: int | None, max_steps: int
) -> float | dict[str, Any]:
    if given is not None:
        return dict(given) if isinstance(given, Mapping) else float(given)
    if not transformer:
        return 0.001
    if not max_steps:  # no end known to decay towards
        return 0.002
    return {
        "@schedules": "warmup_linear.v1",
        "warmup_steps": max(1, max_steps // 10) if warmup_steps is None else warmup_steps,
        "total_steps": max_steps,
        "initial_rate": 0.002,
    }


def _before_init(frozen: list[str]) -> dict[str, Any] | None:
    return {"@callbacks": "trfnb.initialize_frozen.v1", "names": frozen} if frozen else None


def _problems(
    tasks: tuple[str, ...],
    body: str,
    sharing: str,
    grad_factor: GradFactor,
    balance: str | Mapping[str, Any] | None,
) -> list[str]:
    problems = []
    if unknown := [task for task in tasks if task not in HEADS]:
        problems.append(f"tasks: expected some of {list(TASKS)}, got unknown {unknown}")
    if not tasks or len(set(tasks)) < len(tasks):
        problems.append(f"tasks: expected at least one, each once, got {list(tasks)}")
    if sharing not in SHARINGS:
        problems.append(f"sharing: expected one of {list(SHARINGS)}, got {sharing!r}")
    by_task = isinstance(grad_factor, Mapping) and "@schedules" not in grad_factor
    if by_task and (extra := sorted(set(grad_factor) - set(tasks))):  # type: ignore[arg-type]
        problems.append(f"grad_factor: tasks {extra} are not in {list(tasks)}")
    if balance is not None and sharing != "shared":
        problems.append(f"balance: nothing to balance where {body} is {sharing}; leave it out")
    no_listener = sharing == "frozen" or (sharing == "independent" and body == "tok2vec")
    if no_listener and balance is None and grad_factor != 1.0:
        problems.append(
            f"grad_factor: nothing to scale where {body} is {sharing}; leave it out (1.0)"
        )
    return problems
