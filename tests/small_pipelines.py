"""A few sentences, and pipelines made for them."""

from pathlib import Path

import numpy as np
import spacy
from spacy.language import Language
from spacy.training import Example
from thinc.api import fix_random_seed

LISTENER = {"@architectures": "trfnb.TransformerListener.v1"}

SENTENCES = [
    ("Paris meets April in the bank .", ["N", "V", "N", "P", "D", "N", "."], (0, 5, "PER")),
    ("the river bank plans", ["D", "N", "N", "V"], (4, 14, "LOC")),
    ("unable", ["A"], (0, 6, "X")),
    ("April , the plans of Paris", ["N", ",", "D", "N", "P", "N"], (21, 26, "LOC")),
]


def examples(nlp: Language) -> list[Example]:
    """Four annotated sentences."""
    return [
        Example.from_dict(
            nlp.make_doc(text),
            {"tags": tags, "entities": [entity], "cats": {"A": i % 2, "B": 1 - i % 2}},
        )
        for i, (text, tags, entity) in enumerate(SENTENCES)
    ]


def transformer_pipeline(
    path: str | Path, tagger: dict | None = None, ner: dict | None = None, **model: object
) -> Language:
    """Return an initialised pipeline: a shared transformer, a tagger and an entity recogniser."""
    nlp = spacy.blank("en")
    nlp.add_pipe(
        "trfnb_transformer", name="transformer", config={"model": {"name": str(path), **model}}
    )
    nlp.add_pipe("tagger", config={"model": {"tok2vec": {**LISTENER, **(tagger or {})}}})
    nlp.add_pipe("ner", config={"model": {"tok2vec": {**LISTENER, **(ner or {})}}})
    return initialized(nlp)


def initialized(nlp: Language, free: tuple[str, ...] = ("transformer", "tok2vec")) -> Language:
    """Initialise, seeded; output layers get weights too, since spaCy's start at zero.

    Zero output weights send no gradient to the layers below. The ``free`` components stay as
    they are.
    """
    fix_random_seed(0)
    nlp.initialize(lambda: examples(nlp))
    noise = np.random.default_rng(0)
    for name, pipe in nlp.pipeline:
        if name not in free:
            for node in pipe.model.walk():
                if node.has_param("W") and not node.get_param("W").any():
                    shape = node.get_param("W").shape
                    start = noise.normal(scale=0.3, size=shape).astype("float32")
                    node.set_param("W", node.ops.asarray(start))
    return nlp
