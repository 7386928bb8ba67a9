"""Every embedding: config round trip, shapes, batches, gradients, saving, another table."""

import pickle
from collections import Counter

import numpy as np
import pytest
import spacy
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import registry
from spacy.vectors import Vectors
from thinc.api import Config, fix_random_seed

from trfnb.vectors import VectorsError, convert
from trfnb.vectors.embed import EMBEDDINGS, key_map, with_embedding

from .tables import write_text

WIDTH = 8
TEXTS = ["the cat sat on the Mat .", "dogs", "unheard things sat"]
KNOWN = ["the", "cat", "sat", "on", "mat", ".", "dogs", "dog", "thing"]

LAYERS = {
    "static": {"@architectures": "trfnb.StaticVectors.v1"},
    "added": {"@architectures": "trfnb.AddedVectors.v1", "rows": 5},
    "concatenated": {"@architectures": "trfnb.ConcatenatedVectors.v1"},
    "multi hash": {
        "@architectures": "trfnb.MultiHashEmbed.v1",
        "rows": 50,
        "also_use_static_vectors": True,
    },
    "checked": {
        "@architectures": "trfnb.CheckedVectors.v1",
        "embed": {
            "@architectures": "spacy.MultiHashEmbed.v2",
            "width": WIDTH,
            "attrs": ["NORM"],
            "rows": [50],
            "include_static_vectors": True,
        },
    },
}
# spaCy's own layer, under other arguments or behind a check: its gradients are spaCy's to check.
SPACYS = ("multi hash", "checked")


def vocabulary(seed: int = 0):
    nlp = spacy.blank("en")
    data = np.random.default_rng(seed).normal(size=(len(KNOWN), 6)).astype("f4")
    for word in KNOWN:
        nlp.vocab.strings.add(word)
    nlp.vocab.vectors = Vectors(strings=nlp.vocab.strings, data=data, keys=KNOWN)
    return nlp


def block(name):
    return LAYERS[name] if "embed" in LAYERS[name] else {**LAYERS[name], "width": WIDTH}


def build(name):
    fix_random_seed(0)
    config = Config({"layer": block(name)})
    again = Config().from_str(config.to_str())
    return registry.resolve(again)["layer"]


@pytest.fixture
def nlp():
    return vocabulary()


@pytest.fixture
def docs(nlp):
    return [Doc(nlp.vocab, words=text.split()) for text in TEXTS]


def test_every_registered_layer_is_listed():
    ours = {name for name in registry.architectures.get_all() if name.startswith("trfnb.")}
    ours = {name for name in ours if not name.startswith("trfnb.Pretrain")}
    vectors = {name for name in ours if "Vectors" in name or "HashEmbed" in name}
    assert vectors == {layer["@architectures"] for layer in LAYERS.values()}


@pytest.mark.parametrize("name", LAYERS)
def test_shapes_batches_and_empty_docs(name, nlp, docs):
    layer = build(name).initialize(X=docs)
    assert layer.get_dim("nO") == WIDTH
    together = layer.predict(docs)
    assert [Y.shape for Y in together] == [(len(doc), WIDTH) for doc in docs]
    assert all(Y.dtype == np.float32 for Y in together)
    for doc, Y in zip(docs, together, strict=True):
        np.testing.assert_allclose(layer.predict([doc])[0], Y, atol=1e-6)
    empty = layer.predict([Doc(nlp.vocab), docs[0]])
    assert [len(Y) for Y in empty] == [0, len(docs[0])]


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in SPACYS])
def test_gradients_by_finite_differences(name, docs):
    layer = build(name).initialize(X=docs)
    rng = np.random.default_rng(0)
    for node in layer.walk():
        for param in node.param_names:
            if node.has_param(param):
                values = node.get_param(param)
                node.set_param(param, rng.normal(0, 0.3, values.shape).astype("f4"))
    weights = [rng.normal(size=Y.shape).astype("f4") for Y in layer.predict(docs)]

    def loss() -> float:
        return sum(
            float((Y.astype("f8") * w).sum())
            for Y, w in zip(layer.predict(docs), weights, strict=True)
        )

    _, backprop = layer.begin_update(docs)
    given = [w.copy() for w in weights]
    backprop(given)
    for before, after in zip(weights, given, strict=True):
        assert np.array_equal(before, after)
    checked = 0
    for node in layer.walk():
        for param in node.param_names:
            if not node.has_param(param) or not node.has_grad(param):
                continue
            if node.name in ("maxout", "hashembed"):
                continue  # Thinc's own; a maxout has kinks that differences trip over
            values, gradient = node.get_param(param), node.get_grad(param)
            places = np.argsort(-np.abs(gradient).reshape(-1))[:5]
            for place in [*places.tolist(), int(rng.integers(values.size))]:
                index = np.unravel_index(place, values.shape)
                old, step = values[index], 1e-2
                values[index] = old + step
                upper = loss()
                values[index] = old - step
                lower = loss()
                values[index] = old
                numeric = (upper - lower) / (2 * step)
                assert numeric == pytest.approx(gradient[index], rel=3e-2, abs=3e-3), (
                    node.name,
                    param,
                )
                checked += 1
    assert checked


@pytest.mark.parametrize("name", LAYERS)
def test_survives_bytes_and_pickles_once_it_predicted(name, docs):
    """As `nlp.pipe(n_process=2)` does where processes are spawned."""
    layer = build(name).initialize(X=docs)
    before = layer.predict(docs)
    for again in (build(name).from_bytes(layer.to_bytes()), pickle.loads(pickle.dumps(layer))):
        for Y, Z in zip(before, again.predict(docs), strict=True):
            assert Y.tobytes() == Z.tobytes()


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "multi hash"])
def test_another_table_is_an_error(name, docs):
    layer = build(name).initialize(X=docs)
    other = vocabulary(seed=1)
    with pytest.raises(VectorsError, match="was trained with the vector table"):
        layer.predict([Doc(other.vocab, words=["the"])])
    docs[0].vocab.vectors = other.vocab.vectors
    with pytest.raises(VectorsError, match="train it again"):
        layer.predict(docs)


def test_no_table_is_a_clear_error():
    doc = Doc(spacy.blank("en").vocab, words=["the"])
    with pytest.raises(VectorsError, match=r"\[initialize\] vectors"):
        build("static").initialize(X=[doc])


def test_unknown_words(nlp):
    doc = Doc(nlp.vocab, words=["cat", "Cat", "dogsx"])
    layer = build("static").initialize(X=[doc])
    assert layer.predict([doc])[0].any(axis=1).tolist() == [True, False, False]


def test_static_vectors_match_spacys(nlp, docs):
    """By hand: the same matrix gives what spaCy's own layer gives."""
    from spacy.ml.staticvectors import StaticVectors

    ours = build("static").initialize(X=docs)
    theirs = StaticVectors(nO=WIDTH).initialize(X=docs)
    (projection,) = [node for node in ours.walk() if node.has_param("W")]
    theirs.set_param("W", projection.get_param("W"))
    np.testing.assert_allclose(
        np.concatenate(ours.predict(docs)), theirs.predict(docs).data, atol=1e-6
    )


def test_key_map_counts_words(nlp):
    counts = Counter({"Mat": 2, "mat": 2, "cat": 3})
    assert key_map(counts, nlp.vocab, 3) == {nlp.vocab.strings[w]: i for w, i in
                                             [("cat", 1), ("Mat", 2)]}  # fmt: skip
    assert key_map(counts, nlp.vocab, 2, attr="LOWER") == {nlp.vocab.strings["mat"]: 1}


@pytest.mark.parametrize("name", LAYERS)
def test_in_a_component_by_config(name, tmp_path):
    """Trained, saved and opened again, on a memory-mapped table."""
    table = np.random.default_rng(0).normal(size=(len(KNOWN), 6)).astype("f4")
    convert(write_text(tmp_path / "v.vec", KNOWN, table), tmp_path / "table")
    tok2vec = {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": block(name),
        "encode": {
            "@architectures": "spacy.MaxoutWindowEncoder.v2",
            "width": WIDTH, "depth": 1, "window_size": 1, "maxout_pieces": 2,
        },
    }  # fmt: skip
    nlp = spacy.blank("en", config={"nlp": {"vectors": {"@vectors": "trfnb.Vectors.v1"}}})
    nlp.config["initialize"]["vectors"] = str(tmp_path / "table")
    model = {"@architectures": "spacy.Tagger.v2", "tok2vec": tok2vec}
    nlp.add_pipe("tagger", config={"model": model})
    examples = []
    for text in TEXTS:
        tags = ["T" if len(word) > 3 else "S" for word in text.split()]
        gold = Doc(nlp.vocab, words=text.split(), tags=tags)
        examples.append(Example(Doc(nlp.vocab, words=text.split()), gold))
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.01
    losses = []
    for _ in range(25):
        step: dict[str, float] = {}
        nlp.update(examples, sgd=optimizer, losses=step)
        losses.append(step["tagger"])
    assert losses[-1] < 0.6 * losses[0]
    nlp.to_disk(tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    for text in TEXTS:
        ours, theirs = nlp(text), again(text)
        assert [t.tag_ for t in ours] == [t.tag_ for t in theirs]
    assert again("the dogs")[1].has_vector


def test_in_a_config_by_name():
    components = {"tok2vec": {"factory": "tok2vec", "model": {"width": 64}}}
    base = Config({"nlp": {"lang": "en"}, "components": components})
    for name in EMBEDDINGS:
        config = with_embedding(base, name, "somewhere", corpus="newsroom", depth=1)
        assert base["components"]["tok2vec"] == components["tok2vec"]
        model = registry.resolve(config["components"]["tok2vec"])["model"]
        assert model.get_dim("nO") == 64
        assert config["initialize"]["vectors"] == (None if name == "none" else "somewhere")


def test_a_config_that_does_not_fit():
    with pytest.raises(VectorsError, match=r"embedding: expected one of none.*table.*'tok2vec'"):
        with_embedding(Config({"components": {}}), "best")
    both = {"tok2vec": {"model": {}}, "trf": {"factory": "transformer"}}
    with pytest.warns(UserWarning, match="does not see the vector table"):
        with_embedding(Config({"nlp": {}, "components": both}), "static", "somewhere")


def test_word_features_stand_beside_any_encoder(nlp, docs):
    block = {
        "@architectures": "trfnb.WordFeatures.v1",
        "tok2vec": {
            "@architectures": "spacy.HashEmbedCNN.v2",
            "width": 16,
            "depth": 1,
            "embed_size": 50,
            "window_size": 1,
            "maxout_pieces": 2,
            "subword_features": False,
            "pretrained_vectors": None,
        },
        "width": 4,
    }
    layer = registry.resolve(Config({"layer": block}))["layer"].initialize(X=docs)
    assert layer.get_dim("nO") == 16 + 4 * 4
    low, high = layer.predict([Doc(nlp.vocab, words=["may"]), Doc(nlp.vocab, words=["May"])])
    # The encoder reads NORM, in which both are one; only the shape tells them apart.
    np.testing.assert_array_equal(low[:, :16], high[:, :16])
    assert not np.allclose(low[:, 16:], high[:, 16:])
    Y, backprop = layer.begin_update(docs)
    backprop([np.ones_like(y) for y in Y])
    assert all(node.has_grad("E") for node in layer.walk() if node.has_param("E"))
