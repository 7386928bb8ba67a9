"""The fast ways compute what the body computes: outputs and every gradient."""

import numpy as np
import pytest
import spacy
from spacy.ml.models.tok2vec import (
    CharacterEmbed,
    MaxoutWindowEncoder,
    MishWindowEncoder,
    MultiHashEmbed,
    build_Tok2Vec_model,
)
from spacy.tokens import Doc

from trfnb.pretraining.bodies import PlainBody, WindowBody
from trfnb.pretraining.corruption import texts
from trfnb.pretraining.probing import body_of
from trfnb.pretraining.products import accelerate

NLP = spacy.blank("en")
TEXTS = ["The ships left Oslo, didn't they?", "", "Ada", "Grace sold the banks of Lima again ."]


def hashed(attrs=("NORM", "PREFIX")):
    rows = [50] * len(attrs)
    return MultiHashEmbed(width=8, attrs=list(attrs), rows=rows, include_static_vectors=False)


def maxout(depth, window=1):
    return MaxoutWindowEncoder(width=8, window_size=window, maxout_pieces=2, depth=depth)


def built(embed, encode):
    model = build_Tok2Vec_model(embed, encode)
    return model.initialize(X=[NLP.make_doc("a few words")])


def gradients(model):
    found = [n.get_grad(p).copy() for n in model.walk() for p in n.grad_names]
    for node in model.walk():
        for name in node.grad_names:
            node.set_grad(name, node.get_grad(name) * 0)
    return found


@pytest.mark.parametrize(
    ("embed", "encode"),
    [
        (hashed(), maxout(1)),
        (hashed(), maxout(3)),
        (hashed(), maxout(2, window=2)),
        (hashed(), MishWindowEncoder(width=8, window_size=1, depth=2)),
    ],
)
@pytest.mark.parametrize("rows", [[0], [1, 7, 8, 12], list(range(17))])
def test_windows_compute_what_the_body_computes(embed, encode, rows):
    model = built(embed, encode)
    docs = [NLP.make_doc(text) for text in TEXTS]
    words, where = [texts(doc) for doc in docs], np.array(rows)
    fast, plain = body_of(model, NLP.vocab), PlainBody(model)
    assert isinstance(fast, WindowBody)
    d_rows = np.random.default_rng(0).normal(size=(len(rows), 8)).astype("f")
    results = []
    for body in (plain, fast):
        vectors, backprop = body(docs, words, where, True)
        backprop(d_rows)
        results.append((vectors, gradients(model)))
    (vectors, theirs), (ours, mine) = results
    np.testing.assert_allclose(ours, vectors, atol=1e-5)
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        # A bit or two of fp32, which are all that the order of additions changes.
        np.testing.assert_allclose(a, b, rtol=5e-7, atol=1e-4)


def test_an_embedding_whose_gradient_depends_on_the_docs_is_computed_as_it_is():
    model = built(CharacterEmbed(8, 50, 4, 4, include_static_vectors=False), maxout(1))
    assert isinstance(body_of(model, NLP.vocab), PlainBody)


def test_an_embedding_that_knows_spaces_is_computed_everywhere():
    model = built(hashed(("NORM", "SPACY")), maxout(1))
    assert isinstance(body_of(model, NLP.vocab), PlainBody)


def test_another_encoder_is_computed_everywhere():
    model = built(hashed(), maxout(1))
    model.set_ref("encode", None)
    assert isinstance(body_of(model, NLP.vocab), PlainBody)


def test_plain_bodies_read_the_words_given_with_the_spaces_of_the_docs():
    model = built(hashed(), maxout(1))
    doc = NLP.make_doc("Ada didn't go")
    vectors, _ = PlainBody(model)([doc], [["X", "did", "n't", "go"]], np.arange(4), False)
    other = Doc(NLP.vocab, words=["X", "did", "n't", "go"], spaces=[1, 0, 1, 0])
    np.testing.assert_array_equal(vectors, model.predict([other])[0])


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.2)])
def test_the_faster_products_are_the_same_products(precision, tolerance):
    model = built(hashed(), maxout(2))
    docs = [NLP.make_doc(text) for text in TEXTS if text]
    before = model.predict(docs)
    saved = model.to_bytes()
    accelerate(model, precision)
    for a, b in zip(before, model.predict(docs), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)
    assert model.to_bytes() == saved


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="expected one of"):
        accelerate(built(hashed(), maxout(1)), "fp8")
