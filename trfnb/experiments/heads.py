"""The tasks' part of a config: a head for each, and how its score counts."""

from dataclasses import dataclass, field
from typing import Any

Block = dict[str, Any]


@dataclass(frozen=True)
class Head:
    """One task: its model around a body, and the scores it is judged by.

    Attributes:
        score: the metric that stands for the task in tables and early stopping.
        label: the metric's name in figures.
        settings: of the component, where spaCy's defaults do not suit small corpora.
        others: metrics that spaCy weighs by default and that we leave out (a weight of null).
    """

    score: str
    label: str
    model: Block
    settings: Block = field(default_factory=dict)
    others: tuple[str, ...] = ()


def _transitions(state_type: str, width: int, pieces: int) -> Block:
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
    # Pooled token vectors only: a bag of words beside them would hide what the body learns.
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


def score_weights(tasks: tuple[str, ...]) -> dict[str, float | None]:
    """Weigh every task's main score alike; they sum to 1."""
    weights: dict[str, float | None] = {}
    for task in tasks:
        weights[HEADS[task].score] = round(1 / len(tasks), 4)
        weights.update(dict.fromkeys(HEADS[task].others, None))
    return weights


def component(task: str, tok2vec: Block) -> Block:
    """Return a task's component block around the given body or listener."""
    head = HEADS[task]
    return {"factory": task, **head.settings, "model": {**head.model, "tok2vec": tok2vec}}
