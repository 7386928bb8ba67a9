"""Plain spaCy configs for every way of sharing an encoder: built, or rewritten from yours."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spacy.ty import ListenedToComponent
from spacy.util import get_sourced_components, load_model_from_config
from thinc.api import Config

import trfnb.registration  # noqa: F401  the configs name what it registers
from trfnb import models

ConfigBlock = dict[str, Any]
SHARINGS = ("shared", "independent", "frozen")
Groups = Sequence[Sequence[str]]
Factor = float | str | Mapping[str, Any]


@dataclass(frozen=True)
class Head:
    """One task: its model around an encoder, and the scores it is judged by.

    Attributes:
        score: the metric that stands for the task in tables and early stopping.
        label: the metric's name in figures.
        model: the task's model, without its ``tok2vec``.
        settings: of the component, where spaCy's defaults do not suit small corpora.
        others: metrics that spaCy weighs by default and that we leave out (a weight of null).
    """

    score: str
    label: str
    model: ConfigBlock
    settings: ConfigBlock = field(default_factory=dict)
    others: tuple[str, ...] = ()


def _transitions(state_type: str, width: int, pieces: int) -> ConfigBlock:
    return {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": state_type,
        "extra_state_tokens": False,
        "hidden_width": width,
        "maxout_pieces": pieces,
        "use_upper": True,
        "nO": None,
    }


HEADS: dict[str, Head] = {
    "tagger": Head(
        "tag_acc",
        "tag accuracy",
        {"@architectures": "spacy.Tagger.v2", "nO": None, "normalize": False},
    ),
    "parser": Head(
        "dep_las",
        "labelled attachment",
        _transitions("parser", 128, 3),
        # spaCy drops labels seen fewer than 30 times; a thousand sentences have many such.
        {"min_action_freq": 5},
        ("dep_uas", "dep_las_per_type", "sents_p", "sents_r", "sents_f"),
    ),
    "ner": Head(
        "ents_f",
        "entity F",
        _transitions("ner", 64, 2),
        {},
        ("ents_p", "ents_r", "ents_per_type"),
    ),
    # Pooled token vectors only: a bag of words beside them would hide what the encoder learns.
    "textcat": Head(
        "cats_macro_f",
        "category macro F",
        {
            "@architectures": "spacy.TextCatReduce.v1",
            "exclusive_classes": True,
            "use_reduce_first": False,
            "use_reduce_last": False,
            "use_reduce_max": True,
            "use_reduce_mean": True,
            "nO": None,
        },
        {},
        ("cats_score",),
    ),
}

TASKS = tuple(HEADS)


def build_config(
    tasks: Sequence[str] = TASKS,
    encoder: str = "tok2vec",
    sharing: str = "shared",
    *,
    lang: str = "en",
    width: int = 96,
    depth: int = 4,
    embed_rows: int = 2000,
    grad_factor: Factor = 1.0,
    balance: str | Mapping[str, Any] | None = None,
    layer: int = -1,
    get_spans: str | Mapping[str, Any] = "doc",
    precision: str = "fp32",
    word_features: bool = False,
    dropout: float = 0.1,
    batch_words: int | None = None,
    learn_rate: float | Mapping[str, Any] | None = None,
    encoder_rate: float = 1e-4,
    layer_decay: float = 1.0,
    max_epochs: int = 0,
    max_steps: int = 2000,
    patience: int = 600,
    eval_frequency: int = 100,
    seed: int = 0,
) -> Config:
    """Build a complete config: print it, edit it, hand it to ``spacy train`` or to ``train``.

    Args:
        tasks: any of tagger, parser, ner, textcat.
        encoder: ``"tok2vec"`` for spaCy's hash-embedding CNN; ``"minilm"``, a local path or a hub
            name for a transformer.
        sharing: ``"shared"``: one encoder component, a listener in each task; ``"independent"``:
            an encoder inside each task; ``"frozen"``: shared, and never updated. A frozen tok2vec
            is random features: the floor that any trained encoder has to beat.
        lang: language code of the tokeniser.
        width: of the tok2vec's vectors; a transformer has its own.
        depth: convolution layers of the tok2vec; each sees one more neighbour on both sides.
        embed_rows: rows of its hash tables.
        grad_factor: a number, a schedule block (``{"@schedules": …}``), ``"auto"``, or a mapping
            from tasks to these; tasks left out have 1.0.
        balance: the policy that chooses the factors of tasks set to ``"auto"``: its short name,
            such as ``"equal_norms"`` or ``"upgrad"``, or its block (``{"@balancers": …}``). All
            tasks are "auto" if ``grad_factor`` is left out.
        layer: the hidden layer of a transformer that tasks read, ``-1`` for the last.
        get_spans: how documents are cut for a transformer: ``"doc"``, ``"sent"``, or a span
            getter's block (``{"@span_getters": …}``).
        precision: of a transformer's arithmetic, as ``trfnb.TransformerModel.v1`` takes it.
        word_features: give each task hashed features of the word's form beside the encoder's
            vectors (``trfnb.WordFeatures.v1``): what an uncased transformer does not see.
        dropout: of the task models and the tok2vec.
        batch_words: words per update, as a target; 500 for a tok2vec, 100 for a transformer.
        learn_rate: a number or a schedule block, of the task models and the tok2vec. Left out:
            0.001, or beside a transformer a linear warm-up to 0.002 and a decay to 0 at
            ``max_steps``, where that is set.
        encoder_rate: a transformer's own learn rate, at the peak of the schedule.
        layer_decay: what each transformer layer's rate is, as a part of the one above it.
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
    problems = []
    if unknown := [task for task in tasks if task not in HEADS]:
        problems.append(f"tasks: expected some of {list(TASKS)}, got unknown {unknown}")
    if not tasks or len(set(tasks)) < len(tasks):
        problems.append(f"tasks: expected at least one, each once, got {list(tasks)}")
    if sharing not in SHARINGS:
        problems.append(f"sharing: expected one of {list(SHARINGS)}, got {sharing!r}")
    by_task = isinstance(grad_factor, Mapping) and "@schedules" not in grad_factor
    factors: Any = grad_factor if by_task else dict.fromkeys(tasks, grad_factor)
    if not set(factors) <= set(tasks):
        problems.append(f"grad_factor: expected tasks of {list(tasks)}, got {dict(factors)}")
    if balance is not None and sharing != "shared":
        problems.append(f"balance: nothing to balance where {encoder} is {sharing}; leave it out")
    elif grad_factor != 1.0 and (
        sharing == "frozen" or (sharing == "independent" and encoder == "tok2vec")
    ):
        problems.append(
            f"grad_factor: nothing to scale where {encoder} is {sharing}; leave it out (1.0)"
        )
    if problems:
        raise ValueError("Cannot build this pipeline:\n- " + "\n- ".join(problems))
    is_transformer = encoder != "tok2vec"
    upstream = "transformer" if is_transformer else "tok2vec"
    name = models.path("minilm") if encoder == "minilm" else encoder
    listener: ConfigBlock = {"upstream": upstream}
    if is_transformer:
        getter = {"@span_getters": f"trfnb.{get_spans}_spans.v1"}
        model: ConfigBlock = {
            "@architectures": "trfnb.TransformerModel.v1",
            "name": name,
            "get_spans": getter if isinstance(get_spans, str) else dict(get_spans),
            "precision": precision,
        }
        listener |= {"@architectures": "trfnb.TransformerListener.v1", "layer": layer}
    else:
        model = {
            "@architectures": "spacy.HashEmbedCNN.v2",
            "width": width,
            "depth": depth,
            "embed_size": embed_rows,
            "window_size": 1,
            "maxout_pieces": 3,
            "subword_features": True,
            "pretrained_vectors": None,
        }
        listener |= {"@architectures": "trfnb.Tok2VecListener.v1", "width": width}
    policy = {"@balancers": f"trfnb.{balance}.v1"} if isinstance(balance, str) else balance
    components: ConfigBlock = {
        upstream: {
            "factory": f"trfnb_{upstream}",
            "model": model,
            "balance": None if policy is None else dict(policy),
        }
    }
    for task in tasks:
        reader = {**listener, "grad_factor": factors.get(task, 1.0)}
        if word_features:
            reader = {"@architectures": "trfnb.WordFeatures.v1", "tok2vec": reader}
        head = HEADS[task]
        components[task] = {
            "factory": task,
            **head.settings,
            "model": {**head.model, "tok2vec": reader},
        }
    optimizer: ConfigBlock = {"@optimizers": "Adam.v1", "learn_rate": 0.001}
    if is_transformer:
        rate = {
            "@schedules": "warmup_linear.v1",
            "warmup_steps": max(1, max_steps // 10),
            "total_steps": max_steps,
            "initial_rate": 0.002,
        }
        # Without max_steps no end is known to decay towards.
        optimizer = {"@optimizers": "trfnb.Adam.v1", "learn_rate": rate if max_steps else 0.002}
    if learn_rate is not None:
        optimizer["learn_rate"] = learn_rate
    if is_transformer:
        optimizer["encoder_factor"] = encoder_rate / peak_rate(optimizer["learn_rate"])
    if is_transformer and layer_decay != 1.0:
        from transformers import AutoConfig

        layers = AutoConfig.from_pretrained(name).num_hidden_layers
        optimizer |= {"layer_decay": layer_decay, "layers": layers}
    unweighed = [metric for task in tasks for metric in HEADS[task].others]
    weighed = {HEADS[task].score: round(1 / len(tasks), 4) for task in tasks}
    config = {
        "system": {"seed": seed, "gpu_allocator": "pytorch" if is_transformer else None},
        "nlp": {"lang": lang, "pipeline": list(components), "batch_size": 256},
        "components": components,
        "training": {
            "dropout": dropout,
            "patience": patience,
            "max_epochs": max_epochs,
            "max_steps": max_steps,
            "eval_frequency": eval_frequency,
            "score_weights": {**dict.fromkeys(unweighed, None), **weighed},
            "batcher": {
                "@batchers": "spacy.batch_by_words.v1",
                "size": batch_words or (100 if is_transformer else 500),
                "tolerance": 0.2,
                "discard_oversize": False,
            },
            "optimizer": optimizer,
        },
    }
    return with_sharing(Config(config), sharing)


def with_sharing(config: Config, sharing: str | Groups) -> Config:
    """Rewrite any config whose components listen to one encoder, for one way of sharing it.

    Args:
        config: with one transformer or tok2vec component that every listener reads; not changed.
        sharing: ``"shared"`` completes the config; ``"independent"`` puts a copy of the encoder
            in each listener's place; ``"frozen"`` leaves the encoder as it starts. Groups of
            components, such as ``[["tagger", "parser"], ["ner"]]`` or the same as text,
            ``"tagger+parser | ner"``, get one encoder component each.

    Raises:
        ValueError: the way is unknown, the config has not one encoder with listeners, a frozen
            encoder has no place to be initialised, or a listening component is in no group or in
            several.
    """
    groups = None if sharing in SHARINGS else sharing
    if isinstance(groups, str):
        groups = [[name.strip() for name in group.split("+")] for group in groups.split("|")]
    if sourced := get_sourced_components(config.interpolate()):
        raise ValueError(
            f"Expected components with a model of their own, got {list(sourced)} from another "
            "pipeline (source = …), whose weights no other way of sharing could start from. Give "
            "each its factory and model."
        )
    nlp = load_model_from_config(config.copy(), auto_fill=True)
    nlp._link_components()
    pipes: dict[str, Any] = dict(nlp.pipeline)
    upstreams = [
        name
        for name, pipe in pipes.items()
        if isinstance(pipe, ListenedToComponent) and pipe.listener_map
    ]
    if len(upstreams) != 1:
        raise ValueError(
            "Expected a config with one transformer or tok2vec that components listen to, got "
            f"{upstreams or 'none'} in the pipeline {nlp.pipe_names}. Give the components to be "
            "compared a listener to one encoder, or leave the other encoder out."
        )
    (upstream,) = upstreams
    config = nlp.config.copy()
    _weigh_spans_by_their_keys(config)
    if sharing == "shared":
        return config
    if sharing != "frozen" and config.interpolate()["initialize"]["init_tok2vec"]:
        raise ValueError(
            f"{sharing}: [initialize] init_tok2vec expected one encoder to give its weights to, "
            "got several. Leave it out, or compare shared and frozen alone."
        )
    if groups is not None:
        return _grouped(config, upstream, list(pipes[upstream].listener_map), groups)
    training = config["training"]
    if sharing == "frozen":
        if config["initialize"]["before_init"]:
            raise ValueError(
                "A frozen encoder is initialised by [initialize.before_init], and this config has "
                f"{config['initialize']['before_init']} there. Leave that out, or 'frozen'."
            )
        for setting in ("frozen_components", "annotating_components"):
            training[setting] = [*dict.fromkeys([*training[setting], upstream])]
        # spaCy leaves a component that it does not train without weights.
        callback = {"@callbacks": "trfnb.initialize_frozen.v1", "names": [upstream]}
        config["initialize"]["before_init"] = callback
        return config
    components = config["components"]
    model = components.pop(upstream)["model"]
    rewrite = pipes[upstream].model.attrs.get("replace_listener_cfg", lambda own, _: own)
    for task in pipes[upstream].listener_map:
        for listener in listeners_in(components[task]):
            own = rewrite(Config(model).copy(), dict(listener))
            listener.clear()
            listener |= own
    config["nlp"]["pipeline"].remove(upstream)
    for setting in ("frozen_components", "annotating_components"):
        training[setting] = [name for name in training[setting] if name != upstream]
    return config


def peak_rate(learn_rate: float | Mapping[str, Any]) -> float:
    """Return the highest rate of a config's learn rate: a number, or a warm-up schedule's peak.

    Raises:
        ValueError: the schedule's peak cannot be read from its block.
    """
    return float(
        learn_rate[peak_key(learn_rate)] if isinstance(learn_rate, Mapping) else learn_rate
    )


def peak_key(schedule: Mapping[str, Any]) -> str:
    """Return the name of the argument that is a schedule's highest rate; see `peak_rate`."""
    for key in ("initial_rate", "rate", "max_rate"):
        if isinstance(schedule.get(key), float | int):
            return key
    raise ValueError(
        "learn_rate: expected a number or a schedule with an initial_rate, such as "
        f"warmup_linear.v1, got {dict(schedule)}. Give its highest value as a number."
    )


def blocks(part: Any) -> Iterator[ConfigBlock]:
    """Yield a part of a config and every block within it; the blocks themselves."""
    if isinstance(part, dict):
        yield part
        for inner in part.values():
            yield from blocks(inner)


# spaCy's default weights name the spans' key "sc", whatever the components call it.
def _weigh_spans_by_their_keys(config: Config) -> None:
    weights = config["training"]["score_weights"]
    keys = {part["spans_key"] for part in config["components"].values() if "spans_key" in part}
    for name in [name for name in weights if keys and name.startswith("spans_sc_")]:
        share = weights[name] and weights[name] / len(keys)
        if "sc" not in keys:
            weights[name] = None  # left out, spaCy would fill it in again
        for key in sorted(keys):  # a weight of the config's own stays
            weights.setdefault(f"spans_{key}_{name.removeprefix('spans_sc_')}", share)


# Give each group of components an encoder of its own: the first keeps the name.
def _grouped(config: Config, upstream: str, listening: list[str], groups: Groups) -> Config:
    if sorted(task for group in groups for task in group) != sorted(listening):
        raise ValueError(
            f"sharing: expected one of {list(SHARINGS)}, or each of {listening} in one group, "
            f"got {[*map(list, groups)]}."
        )
    pipeline, training, ordered = config["nlp"]["pipeline"], config["training"], []
    names = [upstream, *(f"{upstream}_{number}" for number in range(2, len(groups) + 1))]
    for name, group in zip(names, groups, strict=True):
        for part in (config["components"], config["initialize"]["components"]):
            if upstream in part:
                part[name] = Config(part[upstream]).copy()
        for task in group:
            for listener in listeners_in(config["components"][task]):
                listener["upstream"] = name
        # The groups follow each other: a second tok2vec overwrites the first one's doc.tensor.
        ordered += [name, *(task for task in pipeline if task in group)]
    pipeline[:] = [name for name in pipeline if name not in listening]
    frozen, annotating = training["frozen_components"], training["annotating_components"]
    for found, those in ((pipeline, ordered), (frozen, names), (annotating, names)):
        found[:] = [one for name in found for one in (those if name == upstream else [name])]
    return config


def listeners_in(component: ConfigBlock) -> list[ConfigBlock]:
    """Return the blocks of a component's listeners; the blocks themselves."""
    return [block for block in blocks(component) if "Listener" in block.get("@architectures", "")]
