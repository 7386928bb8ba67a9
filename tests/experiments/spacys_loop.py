"""What spaCy's own loop makes of a config, to compare with."""

import numpy
from spacy.training.loop import (
    create_evaluation_callback,
    create_train_batches,
    train_while_improving,
)
from thinc.api import fix_random_seed

from trfnb.experiments.training import initialize, settings_of
from trfnb.experiments.weights import arrays


def _numpy(value):
    return numpy.asarray(value.detach() if hasattr(value, "detach") else value)


def weights_of(nlp):
    return {key: _numpy(value).copy() for key, value in arrays(nlp)}


def after_spacys_loop(config, corpus, updates):
    nlp = initialize(config, lambda vocab: corpus.examples("train", vocab))
    T = settings_of(nlp)
    fix_random_seed(T["seed"])
    loop = train_while_improving(
        nlp,
        T["optimizer"],
        create_train_batches(
            nlp, lambda nlp: corpus.examples("train", nlp.vocab), T["batcher"], T["max_epochs"]
        ),
        create_evaluation_callback(
            nlp, lambda nlp: corpus.examples("dev", nlp.vocab), T["score_weights"]
        ),
        dropout=T["dropout"],
        accumulate_gradient=T["accumulate_gradient"],
        patience=T["patience"],
        max_steps=T["max_steps"],
        eval_frequency=T["eval_frequency"],
        exclude=T["frozen_components"],
        annotating_components=T["annotating_components"],
        before_update=T["before_update"],
    )
    for _ in range(updates):
        next(loop)
    return weights_of(nlp)
