"""The fast ways compute what the layer computes: outputs and every gradient."""

import numpy as np
import pytest
import spacy
from small_runs import TOK2VEC
from spacy.ml.models.tok2vec import (
    CharacterEmbed,
    MaxoutWindowEncoder,
    MultiHashEmbed,
    build_Tok2Vec_model,
)
from spacy.tokens import Doc
from spacy.training import Example

from trfnb.pretraining import PretrainingError
from trfnb.pretraining.layers import (
    FullEncoder,
    WindowEncoder,
    pretrained_layer,
    row_encoder,
    use_fast_gemm,
)
from trfnb.pretraining.masking import words_of

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
    ],
)
@pytest.mark.parametrize("rows", [[0], [1, 7, 8, 12], list(range(17))])
def test_windows_compute_what_the_layer_computes(embed, encode, rows):
    model = built(embed, encode)
    docs = [NLP.make_doc(text) for text in TEXTS]
    words, where = [words_of(doc) for doc in docs], np.array(rows)
    fast, plain = row_encoder(model, NLP.vocab), FullEncoder(model)
    assert isinstance(fast, WindowEncoder)
    d_rows = np.random.default_rng(0).normal(size=(len(rows), 8)).astype("f")
    results = []
    for way in (plain, fast):
        vectors, backprop = way(docs, words, where, True)
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
    assert isinstance(row_encoder(model, NLP.vocab), FullEncoder)


def test_an_embedding_that_knows_spaces_is_computed_everywhere():
    model = built(hashed(("NORM", "SPACY")), maxout(1))
    assert isinstance(row_encoder(model, NLP.vocab), FullEncoder)


def test_another_encoder_is_computed_everywhere():
    model = built(hashed(), maxout(1))
    model.set_ref("encode", None)
    assert isinstance(row_encoder(model, NLP.vocab), FullEncoder)


def test_any_layer_reads_the_words_given_with_the_spaces_of_the_docs():
    model = built(hashed(), maxout(1))
    doc = NLP.make_doc("Ada didn't go")
    vectors, _ = FullEncoder(model)([doc], [["X", "did", "n't", "go"]], np.arange(4), False)
    other = Doc(NLP.vocab, words=["X", "did", "n't", "go"], spaces=[1, 0, 1, 0])
    np.testing.assert_array_equal(vectors, model.predict([other])[0])


def test_the_faster_products_are_the_same_products():
    model = built(hashed(), maxout(2))
    docs = [NLP.make_doc(text) for text in TEXTS if text]
    before = model.predict(docs)
    saved = model.to_bytes()
    use_fast_gemm(model)
    for a, b in zip(before, model.predict(docs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert model.to_bytes() == saved


def refused(nlp, component, layer, said):
    with pytest.raises(PretrainingError) as caught:
        pretrained_layer(nlp, component, layer)
    assert said in str(caught.value)


def test_layers_without_vectors_of_tokens_are_refused():
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("textcat")
    for label in ("X", "Y"):
        nlp.get_pipe("textcat").add_label(label)
    refused(nlp, "ner", "", "that have a model (textcat), got 'ner'")
    refused(nlp, "sentencizer", "", "got 'sentencizer'")
    refused(nlp, "textcat", "body", "layer expected one of those that 'textcat' names ('tok2vec', ")
    refused(nlp, "textcat", "", "expected a layer that reads a doc by itself, got: ")
    nlp.initialize(lambda: [Example.from_dict(nlp.make_doc("a b"), {"cats": {"X": 1, "Y": 0}})])
    refused(nlp, "textcat", "", "maps docs to one array of token vectors for each doc, got")


def test_static_vectors_without_a_table_are_named_as_the_cause():
    nlp = spacy.blank("en")
    embed = {"@architectures": "spacy.MultiHashEmbed.v2", "width": 8, "attrs": ["NORM"],
             "rows": [50], "include_static_vectors": True}  # fmt: skip
    encode = {"@architectures": "spacy.MaxoutWindowEncoder.v2", "width": 8, "depth": 1,
              "window_size": 1, "maxout_pieces": 2}  # fmt: skip
    model = {"@architectures": "spacy.Tok2Vec.v2", "embed": embed, "encode": encode}
    nlp.add_pipe("tok2vec", config={"model": model})
    refused(nlp, "tok2vec", "", "include_static_vectors = true, got a vocabulary without")


def test_the_layer_inside_a_task_is_found():
    nlp = spacy.blank("en")
    model = {"@architectures": "spacy.Tagger.v2", "tok2vec": TOK2VEC}
    nlp.add_pipe("tagger", config={"model": model})
    found = pretrained_layer(nlp, "tagger", "tok2vec")
    assert found is nlp.get_pipe("tagger").model.get_ref("tok2vec")
    assert found.predict([nlp.make_doc("two words")])[0].shape == (2, 16)


def test_a_listener_has_no_weights_to_pretrain():
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec", config={"model": TOK2VEC})
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 16, "upstream": "*"}
    model = {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}
    nlp.add_pipe("tagger", config={"model": model})
    refused(nlp, "tagger", "tok2vec", "expected a layer with weights, got a listener to '*'")
