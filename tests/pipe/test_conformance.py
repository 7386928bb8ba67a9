"""One table of every function that trfnb.pipe registers: a missing row fails."""

import pickle
from functools import partial

import numpy as np
import pytest
import spacy
import torch
from small_pipelines import SENTENCES, examples, initialized
from spacy.tokens import Doc, Span
from thinc.api import Config, Model
from transformers import AutoTokenizer

import trfnb.registration  # noqa: F401  registers
from trfnb.flow.spans import TokenWindows, WordpieceSpans
from trfnb.pipe.architectures import registry
from trfnb.pipe.component import Transformer
from trfnb.pipe.data import FullTransformerBatch

# Any text a user may have: parts of words, whitespace, nothing, more than one sentence.
TEXTS = [SENTENCES[0][0], "the river", "", "  ", "unable plans . of the river bank ."]

MODELS = {
    "trfnb.TransformerModel.v1": [
        {},
        {"get_spans": {"@span_getters": "trfnb.strided_spans.v1", "window": 3, "stride": 2}},
        {"get_spans": {"@span_getters": "trfnb.token_windows.v1", "window": 6, "stride": 4}},
        {"layers": [0, 1]},
        {"precision": "bf16"},
        {"trainable_layers": 1},
        {"attentions": True},
    ],
    "trfnb.Tok2VecTransformer.v1": [
        {},
        {"layer": 1, "grad_factor": 0.5},
        {"pooling": {"@layers": "reduce_max.v1"}},
        {"get_spans": {"@span_getters": "trfnb.wordpiece_spans.v1", "window": 6, "stride": 3}},
    ],
    "trfnb.TransformerListener.v1": [
        {},
        {"grad_factor": 0.5},
        {"layer": 1},
        {"layer": "mix"},
        {"pooling": {"@layers": "reduce_last.v1"}, "upstream": "transformer"},
        {"pooling": {"@layers": "reduce_sum.v1"}},
        {"pooling": {"@layers": "reduce_first.v1"}},
    ],
    "trfnb.Tok2VecListener.v1": [{"width": 8}, {"width": 8, "grad_factor": 0.5}],
}
SPAN_GETTERS = {
    "trfnb.doc_spans.v1": [{}],
    "trfnb.sent_spans.v1": [{}],
    "trfnb.strided_spans.v1": [{}, {"window": 3, "stride": 2}],
    "trfnb.wordpiece_spans.v1": [{}, {"window": 6}, {"window": 6, "stride": 3}],
    "trfnb.token_windows.v1": [{}, {"window": 6, "stride": 3}],
}
SETTERS = {
    "trfnb.null_annotation_setter.v1": [{}],
    "trfnb.tensor_setter.v1": [{}, {"layer": 1}],
    "trfnb.vector_setter.v1": [{}, {"layer": 1}],
}
TABLES = {"architectures": MODELS, "span_getters": SPAN_GETTERS, "annotation_setters": SETTERS}


def rows(kind, *names):
    table = TABLES[kind]
    return [
        pytest.param(name, row, id=f"{name}-{i}")
        for name in names or table
        for i, row in enumerate(table[name])
    ]


def resolved(kind, name, settings):
    """Build a registered function from a config that was written and read again."""
    config = Config({"it": {f"@{kind}": name, **settings}})
    again = Config().from_str(config.to_str())
    assert again == config
    return registry.resolve(again)["it"]


@pytest.mark.parametrize("kind", TABLES)
def test_every_function_has_a_row(kind):
    ours = {
        name
        for name, function in getattr(registry, kind).get_all().items()
        if name.startswith("trfnb.")
        and function.__module__.startswith(("trfnb.pipe", "trfnb.flow"))
    }
    assert ours == set(TABLES[kind])


@pytest.mark.parametrize(
    ("kind", "name", "row"), [(kind, *one.values) for kind in TABLES for one in rows(kind)]
)
def test_everything_is_made_from_a_config_and_pickled(tiny, kind, name, row):
    """Where processes are not forked (macOS, Windows) a pipeline travels pickled."""
    made = resolved(kind, name, settings_of(tiny, name, row) if kind == "architectures" else row)
    assert isinstance(made, Model) or kind != "architectures"
    assert type(pickle.loads(pickle.dumps(made))) is type(made)


def settings_of(tiny, name, row):
    return row if "Listener" in name else {"name": tiny, **row}


SENTENCIZED = spacy.blank("en")
SENTENCIZED.add_pipe("sentencizer")


def made_docs(texts=TEXTS, nlp=SENTENCIZED):
    return [nlp(text) for text in texts]


@pytest.mark.parametrize(("name", "row"), rows("architectures", "trfnb.TransformerModel.v1"))
def test_transformer_models(tiny, name, row):
    model = resolved("architectures", name, {"name": tiny, **row})
    model.initialize()
    docs = made_docs()
    batch = model.predict(docs)
    assert isinstance(batch, FullTransformerBatch)
    assert sorted(batch.rows) == sorted({*row.get("layers", []), 3})
    tolerance = 0.2 if row.get("precision") == "bf16" else 1e-5
    for doc, data in zip(docs, batch.doc_data, strict=True):
        assert len(data.row_align.lengths) == len(doc)
        assert data.layer(-1).shape == (data.wordpieces.lengths.sum(), 16)
        assert data.layer(-1).dtype == np.float32
        single = model.predict([doc]).doc_data[0]
        np.testing.assert_allclose(single.layer(-1), data.layer(-1), atol=tolerance)
        assert single.row_align.dataXd.tolist() == data.row_align.dataXd.tolist()
    empty = model.predict([])
    assert empty.doc_data == []
    assert empty.layer(-1).shape == (0, 16)


def independent(tiny, name, row):
    model = resolved("architectures", name, {"name": tiny, **row})
    model.initialize()
    return model


def shim_of(model):
    return next(shim for node in model.walk() for shim in node.shims)


def slopes(predict, weights, parameter, places, move=1e-2):
    """Return how `weights · predict()` changes with entries of a parameter."""
    found = []
    for place in places:
        ends = []
        for step in (move, -move):
            with torch.no_grad():
                parameter[place] += step
            ends.append(
                sum(
                    float((w.astype("float64") * v).sum())
                    for w, v in zip(weights, predict(), strict=True)
                )
            )
            with torch.no_grad():
                parameter[place] -= step
        found.append((ends[0] - ends[1]) / (2 * move))
    return found


def random_like(arrays):
    noise = np.random.default_rng(3)
    return [noise.normal(size=array.shape).astype("float32") for array in arrays]


@pytest.mark.parametrize(("name", "row"), rows("architectures", "trfnb.Tok2VecTransformer.v1"))
def test_independent_transformers(tiny, name, row):
    model = independent(tiny, name, row)
    docs = made_docs()
    for doc, vectors in zip(docs, model.predict(docs), strict=True):
        assert vectors.shape == (len(doc), model.get_dim("nO"))
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(model.predict([doc])[0], vectors, atol=1e-5)
    assert model.predict([]) == []
    hf_model = shim_of(model).loaded().double()
    vectors, backprop = model.begin_update(docs)
    weights = random_like(vectors)
    assert backprop([w.copy() for w in weights]) == []
    bias = hf_model.encoder.layer[0].output.dense.bias
    gradient = bias.grad[:4].tolist()
    expected = slopes(lambda: model.predict(docs), weights, bias, range(4), 1e-3)
    factor = row.get("grad_factor", 1.0)
    np.testing.assert_allclose(gradient, [factor * s for s in expected], rtol=2e-2, atol=2e-2)
    assert np.abs(expected).max() > 0.1


def listening(tiny, row):
    """Return a pipeline, its transformer, and a tagger's listener."""
    nlp = spacy.blank("en")
    nlp.add_pipe("trfnb_transformer", name="transformer", config={"model": {"name": tiny}})
    settings = {"@architectures": "trfnb.TransformerListener.v1", **row}
    nlp.add_pipe("tagger", config={"model": {"tok2vec": settings}})
    initialized(nlp)
    return nlp, nlp.get_pipe("transformer"), nlp.get_pipe("tagger").model.get_ref("tok2vec")


@pytest.mark.parametrize(("name", "row"), rows("architectures", "trfnb.TransformerListener.v1"))
def test_transformer_listeners(tiny, name, row):
    nlp, transformer, listener = listening(tiny, row)
    docs = list(transformer.pipe(made_docs()))
    for doc, vectors in zip(docs, listener.predict(docs), strict=True):
        assert vectors.shape == (len(doc), 16)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(listener.predict([doc])[0], vectors, atol=1e-5)
        alone = next(transformer.pipe(made_docs([doc.text])))
        np.testing.assert_allclose(listener.predict([alone])[0], vectors, atol=1e-5)
    batch = examples(nlp)
    docs = [example.predicted for example in batch]
    transformer.update(batch)
    vectors, backprop = listener.begin_update(docs)
    weights = random_like(vectors)
    sent = [w.copy() for w in weights]
    backprop(sent)
    assert all((a == b).all() for a, b in zip(sent, weights, strict=True)), "changed its argument"
    transformer.send_back()

    def predict():
        transformer.set_annotations(docs, transformer.predict(docs))
        return listener.predict(docs)

    bias = shim_of(transformer.model).loaded().encoder.layer[0].output.dense.bias
    gradient = bias.grad[:4].tolist()
    expected = slopes(predict, weights, bias, range(4))
    factor = row.get("grad_factor", 1.0)
    np.testing.assert_allclose(gradient, [factor * s for s in expected], rtol=3e-2, atol=3e-2)
    assert np.abs(expected).max() > 0.1
    if row.get("layer") == "mix":
        for param in ("mix", "gamma"):
            values, found = listener.get_param(param), listener.get_grad(param)
            expected = slopes(predict, weights, values, range(len(values)))
            np.testing.assert_allclose(found, expected, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize(("name", "row"), rows("architectures", "trfnb.Tok2VecListener.v1"))
def test_tok2vec_listeners(name, row):
    nlp = spacy.blank("en")
    hf_model = {"@architectures": "spacy.HashEmbedCNN.v2", "width": 8, "depth": 1, "embed_size": 50}
    hf_model |= {"window_size": 1, "maxout_pieces": 2, "subword_features": True}
    hf_model["pretrained_vectors"] = None
    nlp.add_pipe("trfnb_tok2vec", name="tok2vec", config={"model": hf_model})
    nlp.add_pipe("tagger", config={"model": {"tok2vec": {"@architectures": name, **row}}})
    initialized(nlp)
    tok2vec, listener = nlp.get_pipe("tok2vec"), nlp.get_pipe("tagger").model.get_ref("tok2vec")
    docs = list(tok2vec.pipe(made_docs()))
    for doc, vectors in zip(docs, listener.predict(docs), strict=True):
        assert vectors.shape == (len(doc), 8)
        np.testing.assert_allclose(listener.predict([doc])[0], vectors, atol=1e-5)
    batch = examples(nlp)
    docs = [example.predicted for example in batch]
    tok2vec.update(batch)
    vectors, backprop = listener.begin_update(docs)
    weights = random_like(vectors)
    backprop(weights)
    tok2vec.send_back()
    node = next(n for n in tok2vec.model.walk() if n.has_param("b"))
    bias = node.get_param("b")

    def predict():
        return tok2vec.model.predict(docs)

    flat, gradient = bias.reshape(-1), node.get_grad("b").reshape(-1)
    expected = slopes(predict, weights, flat, range(4), 1e-3)
    factor = row.get("grad_factor", 1.0)
    np.testing.assert_allclose(gradient[:4], [factor * s for s in expected], rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize(("name", "row"), rows("span_getters"))
def test_span_getters(tiny, name, row):
    get_spans = resolved("span_getters", name, row)
    docs = made_docs()
    if isinstance(get_spans, WordpieceSpans):
        with pytest.raises(ValueError, match="lends it the tokenizer"):
            get_spans(docs)
        tokenizer = AutoTokenizer.from_pretrained(tiny)
        get_spans = partial(get_spans, tokenizer=tokenizer, limit=48)
    elif isinstance(get_spans, TokenWindows):
        with pytest.raises(ValueError, match="whose tokenizer it needs"):
            get_spans(docs)
        windows, tokenizer = get_spans, AutoTokenizer.from_pretrained(tiny)

        def get_spans(docs):
            return windows.tokenise(docs, tokenizer)[0]

    spans = get_spans(docs)
    assert len(spans) == len(docs)
    assert get_spans([]) == []
    for doc, its in zip(docs, spans, strict=True):
        assert all(isinstance(span, Span) and span.doc is doc for span in its)
        covered = {token.i for span in its for token in span}
        assert covered == set(range(len(doc))), "every token is in a span"
        single = get_spans([doc])[0]
        assert [(s.start, s.end) for s in single] == [(s.start, s.end) for s in its]


def left_by(name, row, doc):
    """Return what a setter left on a doc, as a list of arrays."""
    kind = name.split(".")[1]
    if kind == "null_annotation_setter":
        assert doc.tensor.size == 0
        return []
    if kind == "tensor_setter":
        assert doc.tensor.shape == (len(doc), 16)
        return [doc.tensor]
    assert doc.vector.shape == (16,)
    assert all(token.vector.shape == (16,) for token in doc)
    assert doc[:].vector.shape == (16,)
    if doc.vector.any():
        assert doc.similarity(doc) == pytest.approx(1.0)
        assert doc[:1].similarity(doc[:1]) == pytest.approx(1.0)
        assert doc[0].similarity(doc[0]) == pytest.approx(1.0)
        np.testing.assert_array_equal(doc[0].vector, doc.tensor[0])
    return [doc.vector]


@pytest.mark.parametrize(("name", "row"), rows("annotation_setters"))
def test_annotation_setters(tiny, name, row):
    setter = resolved("annotation_setters", name, row)
    settings = {"name": tiny, "layers": [1]}
    model = resolved("architectures", "trfnb.TransformerModel.v1", settings)
    model.initialize()
    transformer = Transformer(spacy.blank("en").vocab, model, setter)
    together = list(transformer.pipe(made_docs()))
    for doc in together:
        assert isinstance(doc, Doc)
        alone = transformer(made_docs([doc.text])[0])
        for a, b in zip(left_by(name, row, doc), left_by(name, row, alone), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    assert setter([], model.predict([])) is None
