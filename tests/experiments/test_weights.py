import pickle

import numpy
import pytest
import spacy
import torch
from spacy.util import registry
from tiny_corpus import SMALL, weights_of

from trfnb.experiments import weights
from trfnb.experiments.configs import SHARINGS, build_config
from trfnb.experiments.training import initialize, train

BLOCK = {"@optimizers": "trfnb.Adam.v1", "learn_rate": 0.01}
QUERY = "encoder.layer.{}.attention.self.query.weight"


def built(block):
    return registry.resolve({"optimizer": block})["optimizer"]


def stepped(block, key):
    parameters, gradient = numpy.ones(4, dtype="f"), numpy.full(4, 0.5, dtype="f")
    return built(block)(key, parameters, gradient)[0]


@pytest.mark.parametrize("factor", [0.0, 0.25, 1.0])
def test_only_torch_modules_are_slowed_down(factor):
    block = {**BLOCK, "encoder_factor": factor, "L2": 0.1}
    plain = stepped({**BLOCK, "@optimizers": "Adam.v1", "L2": 0.1, "use_averages": False}, (1, "W"))
    assert stepped(block, (1, "W")) == pytest.approx(plain)
    encoder = stepped(block, (1, QUERY.format(0)))
    assert 1 - encoder == pytest.approx(factor * (1 - plain), rel=1e-2, abs=1e-7)


def test_rates_fall_by_layer_from_the_top_down():
    optimizer = built({**BLOCK, "encoder_factor": 0.1, "layer_decay": 0.5, "layers": 3})
    names = [QUERY.format(2), QUERY.format(0), "embeddings.word_embeddings.weight", "pooler.weight"]
    assert [optimizer.scale_of((1, name)) for name in names] == pytest.approx(
        [0.1, 0.025, 0.0125, 0.1]
    )
    assert optimizer.scale_of((1, "W")) == 1.0
    with pytest.raises(ValueError, match=r"layer_decay = 0.5 needs `layers`"):
        built({**BLOCK, "layer_decay": 0.5})


def test_a_schedule_sets_both_rates():
    schedule = {"@schedules": "compounding.v1", "start": 1.0, "stop": 0.1, "compound": 0.1}
    optimizer = built({**BLOCK, "learn_rate": schedule})
    optimizer.step_schedules()
    assert optimizer.learn_rate == pytest.approx(0.1)


def test_a_frozen_encoder_is_initialised_by_a_callback_that_travels(corpus):
    config = build_config(["tagger"], sharing="frozen", seed=3)
    first, second = (
        initialize(config, lambda vocab: corpus.examples("train", vocab)) for _ in range(2)
    )
    assert first.get_pipe("tok2vec").model.to_bytes() == second.get_pipe("tok2vec").model.to_bytes()
    (doc,) = first.pipe(["Ada left ships in Oslo ."])
    assert doc.tensor.shape == (6, 96)
    assert abs(doc.tensor).sum() > 0
    callback = pickle.loads(pickle.dumps(weights.frozen_initializer(["tagger", "nre"])))
    with pytest.raises(ValueError, match=r"no components \['nre'\]"):
        callback(first)


@pytest.mark.parametrize("encoder", ["tok2vec", "tiny"])
def test_shared_weights_count_once_and_only_unfrozen_ones_move(corpus, tiny, encoder):
    name, rows, moved = tiny if encoder == "tiny" else encoder, {}, {}
    for sharing in SHARINGS:
        config = build_config(["tagger", "ner"], name, sharing, max_steps=4, **SMALL)
        start = initialize(config, lambda vocab: corpus.examples("train", vocab))
        before = weights_of(start)
        after = weights_of(train(config, corpus, progress=False).nlp)
        rows[sharing] = weights.count(start)
        changed = {key[0] for key in before if not numpy.array_equal(before[key], after[key])}
        moved[sharing] = changed
    upstream = "tok2vec" if encoder == "tok2vec" else "transformer"
    shared = {"tagger", "ner", upstream}
    assert moved == {
        "shared": shared,
        "independent": {"tagger", "ner"},
        "frozen": shared - {upstream},
    }
    own = sum(value.size for key, value in before.items() if key[0] == upstream)
    assert rows["shared"] == rows["frozen"] == rows["independent"] - own


def test_a_snapshot_keeps_what_torch_saves_beside_its_parameters(tiny):
    """Batch normalisation's means move while a pipeline trains, and are part of it."""
    nlp = spacy.blank("en")
    nlp.add_pipe("trfnb_transformer", config={"model": {"name": tiny}})
    nlp.initialize()
    layer = nlp.get_pipe("trfnb_transformer").model.transformer.encoder.layer[0]
    layer.output.LayerNorm = torch.nn.Sequential(
        layer.output.LayerNorm, norm := torch.nn.BatchNorm1d(layer.output.dense.out_features)
    )
    norm.register_buffer("passing", torch.ones(1), persistent=False)
    saved, before, counted = weights.snapshot(nlp), weights.fingerprint(nlp), weights.count(nlp)
    norm.train()(torch.rand(9, norm.num_features))
    assert weights.fingerprint(nlp) != before
    weights.restore(nlp, saved)
    assert weights.fingerprint(nlp) == before
    assert not norm.running_mean.any()
    assert norm.num_batches_tracked == 0
    names = [key[2] for key in saved if "LayerNorm.1." in key[2]]
    assert [name.rpartition(".")[2] for name in names] == [
        *("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    ]
    norm.passing += 1
    assert weights.fingerprint(nlp) == before
    assert counted == weights.count(nlp)


def test_a_snapshot_restores_and_refuses_another_pipeline(corpus):
    def pipeline(*tasks):
        config = build_config(tasks, **SMALL)
        return initialize(config, lambda vocab: corpus.examples("train", vocab))

    nlp = pipeline("tagger")
    saved, before = weights.snapshot(nlp), weights.fingerprint(nlp)
    model = nlp.get_pipe("tagger").model.get_ref("softmax")
    model.set_param("W", model.get_param("W") + 1)
    assert weights.fingerprint(nlp) != before
    assert weights.fingerprint(nlp, "tok2vec") == weights.fingerprint(pipeline("tagger"), "tok2vec")
    weights.restore(nlp, saved)
    assert weights.fingerprint(nlp) == before
    with pytest.raises(ValueError, match="Cannot restore"):
        weights.restore(pipeline("tagger", "ner"), saved)
