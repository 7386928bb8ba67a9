"""What a factor does to the shared gradient, on both bodies, against the losses themselves."""

import numpy as np
import pytest
import spacy
import torch
from small_pipelines import examples, initialized
from thinc.api import Adam

CNN = {
    "@architectures": "spacy.HashEmbedCNN.v2",
    "pretrained_vectors": None,
    "width": 8,
    "depth": 1,
    "embed_size": 50,
    "window_size": 1,
    "maxout_pieces": 2,
    "subword_features": False,
}
BODIES = ("tok2vec", "transformer")
MEASURED, AT_ZERO, ABSENT = "measured", "not computed: factor 0", "no gradient came"
EQUAL = {"@balancers": "trfnb.equal_norms.v1", "smoothing": 0.0}


def pipeline(encoder, tiny, factors, layers=(-1, -1), **settings):
    """Two taggers on one encoder: their loss has a closed form."""
    nlp = spacy.blank("en")
    if encoder == "tok2vec":
        nlp.add_pipe("trfnb_tok2vec", name="encoder", config={"model": CNN, **settings})
        listener = {"@architectures": "trfnb.Tok2VecListener.v1", "width": 8}
        extras = [{}, {}]
    else:
        nlp.add_pipe(
            "trfnb_transformer", name="encoder", config={"model": {"name": tiny}, **settings}
        )
        listener = {"@architectures": "trfnb.TransformerListener.v1"}
        extras = [{"layer": layer} for layer in layers]
    for name, factor, extra in zip(("first", "second"), factors, extras, strict=True):
        tok2vec = {**listener, "grad_factor": factor, **extra}
        nlp.add_pipe("tagger", name=name, config={"model": {"tok2vec": tok2vec}})
    return initialized(nlp, free=("encoder",))


def listener(nlp, name):
    return next(n for n in nlp.get_pipe(name).model.walk() if hasattr(n, "grad_factor"))


def weights(nlp):
    """The encoder's weights as writable flat views, and their gradients."""
    found = []
    for node in nlp.get_pipe("encoder").model.walk():
        for name in node.param_names:
            if node.has_param(name):
                gradient = node.get_grad(name) if node.has_grad(name) else None
                found.append((node.get_param(name), gradient))
        for shim in node.shims:
            for parameter in shim.loaded().parameters():
                gradient = None if parameter.grad is None else parameter.grad.numpy()
                found.append((parameter.detach().numpy(), gradient))
    return found


def gradient(nlp, batch):
    nlp.update(batch, sgd=False)
    nlp.get_pipe("encoder").send_back()
    return [np.zeros_like(w) if g is None else g.copy() for w, g in weights(nlp)]


def loss(nlp, batch, factors):
    docs = [eg.predicted for eg in batch]
    encoder = nlp.get_pipe("encoder")
    total = 0.0
    with torch.no_grad():
        encoder.set_annotations(docs, encoder.predict(docs))
        for name, factor in zip(("first", "second"), factors, strict=True):
            tagger = nlp.get_pipe(name)
            scores = np.concatenate(tagger.model.begin_update(docs)[0]).astype("float64")
            truths = [t for eg in batch for t in eg.get_aligned("TAG", as_string=True)]
            chosen = [row[tagger.labels.index(t)] for row, t in zip(scores, truths, strict=True)]
            total -= factor * float(np.log(chosen).sum())
    return total


@pytest.mark.parametrize("encoder", BODIES)
@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, -1.0])
def test_finite_differences_with_two_listeners(tiny, encoder, factor):
    factors = (factor, 1.0)
    nlp = pipeline(encoder, tiny, factors)
    batch = examples(nlp)
    found = gradient(nlp, batch)
    noise = np.random.default_rng(1)
    # Along the gradient, where a wrong length shows, and beside it, where a wrong turn does.
    along = [g / np.sqrt(sum((g**2).sum() for g in found)) for g in found]
    beside = [a + 0.5 * noise.normal(size=a.shape) / np.sqrt(a.size) for a in along]
    for direction in (along, beside):
        expected = sum(float((g * d).sum()) for g, d in zip(found, direction, strict=True))
        ends, step = [], 3e-3
        for sign in (step, -step):
            for (array, _), d in zip(weights(nlp), direction, strict=True):
                array += sign * d
            ends.append(loss(nlp, batch, factors))
            for (array, _), d in zip(weights(nlp), direction, strict=True):
                array -= sign * d
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, rel=2e-2, abs=1e-2)
        assert abs(expected) > 0.1


@pytest.mark.parametrize("encoder", BODIES)
def test_the_gradient_is_linear_in_each_factor(tiny, encoder):
    def found(*factors):
        nlp = pipeline(encoder, tiny, factors)
        return gradient(nlp, examples(nlp))

    first, second = found(1.0, 0.0), found(0.0, 1.0)
    for a, b in ((1.0, 1.0), (-1.0, 0.5)):
        for one, two, both in zip(first, second, found(a, b), strict=True):
            np.testing.assert_allclose(both, a * one + b * two, rtol=1e-4, atol=1e-4)


def test_listeners_to_different_layers_are_linear_too(tiny):
    def found(*factors):
        nlp = pipeline("transformer", tiny, factors, layers=(1, -1))
        return gradient(nlp, examples(nlp)), nlp

    (first, _), (second, _) = found(1.0, 0.0), found(0.0, 1.0)
    both, nlp = found(2.0, 0.5)
    for one, two, sum_ in zip(first, second, both, strict=True):
        np.testing.assert_allclose(sum_, 2.0 * one + 0.5 * two, rtol=1e-4, atol=1e-4)
    log = nlp.get_pipe("encoder").gradient_log
    log.close()
    assert log.conflicts()["cosine"].isna().all(), "they do not meet at one output"
    assert (log.table()["raw_norm"] > 0).all()


def test_every_step_is_logged(tiny):
    nlp = pipeline(
        "tok2vec", tiny, ({"@schedules": "trfnb.frozen_then_warmup.v1", "frozen": 2}, 0.5)
    )
    optimizer = Adam(0.001)
    for step in range(4):
        if step == 3:
            listener(nlp, "first").grad_factor = 0.25
        for half in (examples(nlp)[:2], examples(nlp)[2:]):
            nlp.update(half, sgd=False, exclude=["second"] if step == 1 else [])
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
    table = nlp.get_pipe("encoder").gradient_log.table()
    first, second = (table[table["listener"] == name] for name in ("first", "second"))
    assert list(first["factor"]) == [0, 0, 1, 0.25]
    assert list(first["state"]) == [AT_ZERO, AT_ZERO, MEASURED, MEASURED]
    assert list(second["factor"]) == [0.5] * 4
    assert list(second["state"]) == [MEASURED, ABSENT, MEASURED, MEASURED]
    np.testing.assert_allclose(second["norm"], 0.5 * second["raw_norm"])
    cosines = nlp.get_pipe("encoder").gradient_log.conflicts()["cosine"]
    assert list(cosines.isna()) == [True, True, False, False]
    assert (cosines.dropna().abs() <= 1).all()


def test_all_frozen_is_logged_too(tiny):
    nlp = pipeline("tok2vec", tiny, (0.0, 0.0))
    nlp.update(examples(nlp), sgd=Adam(0.01))
    nlp.get_pipe("encoder").send_back()
    table = nlp.get_pipe("encoder").gradient_log.table()
    assert list(table["state"]) == [AT_ZERO, AT_ZERO]


def test_the_measured_norm_is_that_of_the_gradient_sent(tiny):
    nlp = pipeline("tok2vec", tiny, (0.5, 1.0))
    batch = examples(nlp)
    nlp.get_pipe("encoder").update(batch)
    for name in ("first", "second"):
        nlp.get_pipe(name).update(batch)
    waiting = [parts[0] for parts in nlp.get_pipe("encoder").junction.contributions.values()]
    nlp.get_pipe("encoder").send_back()
    nlp.get_pipe("encoder").gradient_log.close()
    table = nlp.get_pipe("encoder").gradient_log.table()
    np.testing.assert_allclose(table["raw_norm"], [np.linalg.norm(g) for g in waiting], rtol=1e-5)
    cosine = nlp.get_pipe("encoder").gradient_log.conflicts()["cosine"][0]
    lengths = np.linalg.norm(waiting[0]) * np.linalg.norm(waiting[1])
    assert cosine == pytest.approx((waiting[0] * waiting[1]).sum() / lengths, rel=1e-4)


@pytest.mark.parametrize("encoder", BODIES)
def test_a_policy_decides_where_a_listener_says_auto(tiny, encoder):
    nlp = pipeline(encoder, tiny, ("auto", "auto"), balance=EQUAL)
    batch = examples(nlp)
    found = gradient(nlp, batch)
    nlp.get_pipe("encoder").gradient_log.close()
    table = nlp.get_pipe("encoder").gradient_log.table()
    assert table["norm"][0] == pytest.approx(table["norm"][1])
    assert table["raw_norm"][0] != pytest.approx(table["raw_norm"][1], rel=1e-2)
    fixed = pipeline(encoder, tiny, tuple(table["factor"]))
    for one, two in zip(found, gradient(fixed, examples(fixed)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_losses_reach_the_policy_a_batch_later(tiny):
    nlp = pipeline("tok2vec", tiny, ("auto", "auto"))
    seen = []

    def policy(meeting):
        seen.append(meeting.losses.tolist())
        return [1.0, 1.0]

    nlp.get_pipe("encoder").balance = policy
    losses, words = {}, sum(len(eg) for eg in examples(nlp))
    optimizer = Adam(0.001)
    nlp.update(examples(nlp), sgd=optimizer, losses=losses)
    first = dict(losses)
    nlp.update(examples(nlp), sgd=optimizer, losses=losses)
    nlp.get_pipe("encoder").send_back()
    assert np.isnan(seen[0]).all()
    assert seen[1] == pytest.approx([first["first"] / words, first["second"] / words])


@pytest.mark.parametrize("encoder", BODIES)
def test_a_config_goes_round(tiny, encoder, tmp_path):
    ramp = {"@schedules": "trfnb.piecewise_constant.v1", "starts": [0, 2], "factors": [1.0, 0.0]}
    nlp = pipeline(encoder, tiny, ("auto", ramp), balance=EQUAL)
    nlp.update(examples(nlp), sgd=Adam(0.01))
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    assert loaded.config["components"] == nlp.config["components"]
    assert loaded.config["components"]["encoder"]["balance"] == EQUAL
    assert listener(loaded, "first").attrs["factor"].auto
    optimizer, seen = Adam(0.01), []
    for _ in range(4):
        seen.append(listener(loaded, "second").grad_factor)
        loaded.update(examples(loaded), sgd=optimizer)
    loaded.get_pipe("encoder").send_back()
    assert seen == [1, 1, 0, 0]


def test_what_is_not_a_factor_is_an_error_when_set(tiny):
    nlp = pipeline("tok2vec", tiny, (1.0, 1.0))
    with pytest.raises(TypeError, match="or \"auto\"; got 'automatic'"):
        listener(nlp, "first").grad_factor = "automatic"
    with pytest.raises(ValueError, match="finite number, got nan"):
        listener(nlp, "first").grad_factor = float("nan")
    assert listener(nlp, "first").grad_factor == 1.0
