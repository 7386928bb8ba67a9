"""The small hf_model: the same junction, with spaCy's own layers."""

import numpy as np
import pytest
import spacy
from small_pipelines import examples, initialized
from thinc.api import Adam

OURS = "trfnb.Tok2VecListener.v1"


def pipeline(factory="trfnb_tok2vec", listener=OURS, tagger=None, ner=None):
    nlp = spacy.blank("en")
    hf_model = {
        "@architectures": "spacy.HashEmbedCNN.v2",
        "pretrained_vectors": None,
        "width": 8,
        "depth": 1,
        "embed_size": 50,
        "window_size": 1,
        "maxout_pieces": 2,
        "subword_features": False,
    }
    nlp.add_pipe(factory, name="tok2vec", config={"model": hf_model})
    for name, extra in (("tagger", tagger), ("ner", ner)):
        settings = {"@architectures": listener, "width": 8, **(extra or {})}
        nlp.add_pipe(name, config={"model": {"tok2vec": settings}})
    return initialized(nlp)


def train(nlp, steps=3, L2=0.01):
    optimizer = Adam(0.01, L2=L2)
    for _ in range(steps):
        nlp.update(examples(nlp), sgd=False)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
    return nlp


def parameters(nlp):
    return {
        (i, name): node.get_param(name).copy()
        for i, node in enumerate(nlp.get_pipe("tok2vec").model.walk())
        for name in node.param_names
        if node.has_param(name)
    }


def assert_same(first, second, atol=1e-6):
    for key, value in parameters(first).items():
        np.testing.assert_allclose(value, parameters(second)[key], atol=atol)


def test_learns_as_spacys_own():
    spacys = "spacy.Tok2VecListener.v1"
    expected = train(pipeline("tok2vec", spacys))
    for factory, listener in (
        ("trfnb_tok2vec", OURS),
        ("trfnb_tok2vec", spacys),
        ("tok2vec", OURS),
    ):
        assert_same(train(pipeline(factory, listener)), expected)


def test_linear_in_the_factor_below_spacys_own_component():
    def gradient(**factors):
        nlp = pipeline("tok2vec", **{name: {"grad_factor": f} for name, f in factors.items()})
        nlp.update(examples(nlp), sgd=False)
        return np.concatenate(
            [
                node.get_grad(name).ravel()
                if node.has_grad(name)
                else node.get_param(name).ravel() * 0
                for node in nlp.get_pipe("tok2vec").model.walk()
                for name in node.param_names
                if node.has_param(name)
            ]
        )

    tagger, ner = gradient(tagger=1.0, ner=0.0), gradient(tagger=0.0, ner=1.0)
    assert abs(tagger).max() > 1e-3
    for factor in (0.5, -1.0):
        expected = factor * tagger + ner
        # Sums in fp32 are rounded by the size of what is added up, in the order of the processor.
        rounding = 1e-5 * abs(expected).max()
        np.testing.assert_allclose(
            gradient(tagger=factor, ner=1.0), expected, rtol=1e-5, atol=rounding
        )


def test_nothing_moves_at_factor_zero():
    nlp = pipeline(tagger={"grad_factor": 0.0}, ner={"grad_factor": 0.0})
    before = nlp.get_pipe("tok2vec").model.to_bytes()
    train(nlp, L2=0.5)
    assert nlp.get_pipe("tok2vec").model.to_bytes() == before


def test_saved_and_loaded(tmp_path):
    nlp = train(pipeline())
    texts = ["Paris meets April", "", "the river"]
    expected = [doc.to_json() for doc in nlp.pipe(texts)]
    nlp.to_disk(tmp_path)
    assert [doc.to_json() for doc in spacy.load(tmp_path).pipe(texts)] == expected


def test_another_order_is_an_error():
    nlp = pipeline()
    batch = examples(nlp)
    nlp.get_pipe("tok2vec").update(batch)
    with pytest.raises(ValueError, match="another order"):
        nlp.get_pipe("tagger").update(batch[::-1])
