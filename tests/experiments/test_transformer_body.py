"""The ways of sharing, with a tiny transformer for a body."""

import numpy
import pytest
from spacy.util import load_model_from_config
from spacys_loop import after_spacys_loop, weights_of

from trfnb.experiments import weights
from trfnb.experiments.measures import moved_scores
from trfnb.experiments.configs import SHARINGS, build_config
from trfnb.experiments.training import initialize, train

SPANS = ["doc", "sent", {"strided": (4, 3)}]


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("get_spans", SPANS)
def test_a_config_is_complete(tiny, sharing, get_spans):
    config = build_config(["tagger", "ner"], tiny, sharing, get_spans=get_spans, layer=2)
    again = type(config)().from_str(config.to_str())
    nlp = load_model_from_config(again, auto_fill=False, validate=True)
    assert nlp.config.interpolate() == config.interpolate()


@pytest.mark.parametrize("sharing", SHARINGS)
def test_updates_are_those_of_spacy_train(corpus, tiny, sharing):
    config = build_config(encoder=tiny, sharing=sharing, max_steps=6, batch_words=60, eval_frequency=6)
    expected = after_spacys_loop(config, corpus, updates=6)
    trained = train(config, corpus, progress=False)
    got = weights_of(trained.nlp)
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        numpy.testing.assert_allclose(got[key], value, atol=1e-6, err_msg=str(key))


def test_every_body_that_is_not_frozen_learns(corpus, tiny):
    for sharing in SHARINGS:
        config = build_config(["tagger", "ner"], tiny, sharing, max_steps=5, batch_words=60)
        start = weights_of(initialize(config, lambda vocab: corpus.examples("train", vocab)))
        end = weights_of(train(config, corpus, progress=False).nlp)
        moved = {
            key[0]
            for key in start
            if "encoder" in key[2] and not numpy.array_equal(start[key], end[key])
        }
        expected = {"shared": {"transformer"}, "independent": {"tagger", "ner"}, "frozen": set()}
        assert moved == expected[sharing]


def test_independent_bodies_count_once_each(corpus, tiny):
    counts = {}
    for sharing in SHARINGS:
        config = build_config(["tagger", "ner"], tiny, sharing)
        nlp = initialize(config, lambda vocab: corpus.examples("train", vocab))
        counts[sharing] = weights.count(nlp)
    body = sum(
        numpy.asarray(value.detach()).size
        for (_, _, name), value in weights.arrays(nlp)
        if "." in name
    )
    assert counts["shared"] == counts["frozen"] == counts["independent"] - body


def test_a_listener_moves_between_pretrained_bodies_that_never_changed(corpus, tiny):
    options = {"max_steps": 10, "batch_words": 60, "learn_rate": 0.05}
    config = build_config(["tagger"], tiny, "frozen", **options)
    trained = train(config, corpus, progress=False)
    host_config = build_config(["tagger"], tiny, "frozen", seed=9, **options)
    host = initialize(host_config, lambda vocab: corpus.examples("train", vocab))
    scores = moved_scores(trained.nlp, host, "tagger", corpus.examples("dev", trained.nlp.vocab))
    assert scores["moved"] == scores["at_home"] > 0.3
