"""What the sides share: it needs spaCy and Thinc, which all of them have."""

import random

import numpy as np
import spacy
from spacy.tokens import DocBin
from spacy.training import Example
from thinc.api import Adam, fix_random_seed

TASKS = ("tagger", "parser", "ner")
LEARN_RATE = 5e-5


def blank(listener, **transformer):
    """Build a pipeline: a transformer, and tagger, parser and ner where a listener is given."""
    nlp = spacy.blank("en")
    nlp.add_pipe(**transformer)
    for task in TASKS if listener else ():
        nlp.add_pipe(task, config={"model": {"tok2vec": listener}})
    return nlp


def trainable(nlp, path, batch_words):
    """Initialise a pipeline for training; return its batches of examples and its optimizer."""
    docs = list(DocBin().from_disk(path).get_docs(nlp.vocab))
    examples = [Example(spacy.tokens.Doc(nlp.vocab, words=[t.text for t in doc]), doc)
                for doc in docs]  # fmt: skip
    nlp.initialize(lambda: examples)
    for name in TASKS:
        same_weights(nlp.get_pipe(name).model)
    batches, batch, words = [], [], 0
    for example in examples:
        batch.append(example)
        words += len(example)
        if words >= batch_words:
            batches.append(batch)
            batch, words = [], 0
    return batches or [batch]


def same_weights(model):
    """Give a task model weights that depend on nothing but its shapes."""
    draw = np.random.default_rng(0)
    for node in model.walk():
        for name in node.param_names:
            if node.has_param(name) and name not in ("mix", "gamma"):
                shape = node.get_param(name).shape
                drawn = draw.normal(0, 0.05, shape).astype("float32")
                node.set_param(name, node.ops.asarray(drawn))


def first_losses(nlp, batch):
    """Return the losses of an update without dropout that changes nothing.

    Each component starts from the same seed: the parser draws where to cut its sequences, and a
    peer draws a number in its forward pass.
    """
    losses = {}
    batch = [Example(one.predicted.copy(), one.reference) for one in batch]
    for _, pipe in nlp.pipeline:
        fix_random_seed(0)
        random.seed(0)
        pipe.update(batch, sgd=None, losses=losses, drop=0.0)
    for _, pipe in nlp.pipeline:
        pipe.finish_update(Adam(0.0, L2=0.0))
    return {task: float(losses[task]) for task in TASKS}


def train(nlp, batches, optimizer):
    """Update as ``spacy train`` does: all gradients first, then a step of every component."""
    losses = {}
    for batch in batches:
        batch = [Example(one.predicted.copy(), one.reference) for one in batch]
        nlp.update(batch, sgd=False, losses=losses, drop=0.1)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
        optimizer.step_schedules()
    return losses


def listening(side, path, listeners):
    """Return a function that takes a training step with one body and some taggers on it."""
    nlp = side.build(path, "fp32", None, train=True)
    for task in TASKS:
        nlp.remove_pipe(task)
    settings = {"@architectures": "trfnb.TransformerListener.v1"}
    for i in range(listeners):
        nlp.add_pipe("tagger", name=f"tagger{i}", config={"model": {"tok2vec": settings}})
    examples = []

    def step(texts, clock):
        if not examples:
            words = texts[: max(1, 1000 * len(texts) // max(sum(map(len, texts)), 1))]
            docs = [spacy.tokens.Doc(nlp.vocab, words=one, tags=["ABC"[len(w) % 3] for w in one])
                    for one in words]  # fmt: skip
            examples.extend(Example(doc.copy(), doc) for doc in docs)
            nlp.initialize(lambda: examples)
            clock = type(clock)()
        train(nlp, [examples], Adam(LEARN_RATE))
        return {**clock.read(), "words": sum(len(one) for one in examples)}

    return step
