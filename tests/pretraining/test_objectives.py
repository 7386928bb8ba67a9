"""What holds for every objective, and for each."""

import pickle
import random

import numpy as np
import pytest
import spacy
from small_runs import TOK2VEC, config, sentence, text
from spacy.training.pretrain import make_update
from spacy.vectors import Vectors
from thinc.api import Adam, Config, ConfigValidationError, fix_random_seed, set_dropout_rate

import trfnb
from trfnb.pipe.architectures import registry
from trfnb.pretraining import PretrainingError, pretrain
from trfnb.pretraining.masking import RandomMask, words_of
from trfnb.pretraining.objectives import (
    character_targets,
    check_vectors,
    pretrain_distillation,
    vector_targets,
)
from trfnb.pretraining.weights import parameters

OBJECTIVES = [
    ("trfnb.PretrainCharacters.v1", {"hidden_size": 16}),
    ("trfnb.PretrainCharacters.v1", {"hidden_size": 16, "loss": "squared"}),
    ("trfnb.PretrainVectors.v1", {"hidden_size": 16}),
    ("trfnb.PretrainVectors.v1", {"hidden_size": 16, "loss": "L2"}),
    ("trfnb.PretrainWords.v1", {"hidden_size": 16, "text": "TEXT"}),
    ("trfnb.PretrainReplaced.v1", {"hidden_size": 16}),
    ("trfnb.PretrainDistillation.v1", {"teacher": "TINY"}),
]


def test_every_objective_has_a_row_here():
    registered = {name for name in registry.architectures.get_all() if "trfnb.Pretrain" in name}
    # Wordpieces are of a transformer alone: tested below.
    assert registered - {"trfnb.PretrainWordpieces.v1"} == {name for name, _ in OBJECTIVES}


def test_objectives_and_their_models_pickle(made):
    nlp, model = made
    docs = docs_of(nlp, 4)
    found = []
    for one in (model, pickle.loads(pickle.dumps(model))):
        fix_random_seed(0)
        found.append(one.predict(docs))
    np.testing.assert_array_equal(found[0].output, found[1].output)
    np.testing.assert_array_equal(found[0].targets, found[1].targets)


def test_masks_combine_in_a_config():
    block = {
        "@architectures": "trfnb.PretrainCharacters.v1",
        "masking": {
            "@misc": "trfnb.MixedMask.v1",
            "*": {
                "words": {"@misc": "trfnb.WholeWordMask.v1"},
                "spans": {"@misc": "trfnb.SpanMask.v1", "probability": 0.3},
                "single": {"@misc": "trfnb.RandomMask.v1"},
            },
        },
    }
    config = Config().from_str(Config({"objective": block}).to_str())
    assert callable(registry.resolve(config)["objective"])


def nlp_with_vectors():
    nlp = spacy.blank("en")
    noise = np.random.default_rng(0)
    for word in ("Ada", "Grace", "left", "won", "the", "ships", "games", "of", "Oslo", "Lima"):
        nlp.vocab.set_vector(word, noise.normal(size=5).astype("f"))
    return nlp


def docs_of(nlp, n=20):
    rng = random.Random(1)
    return [nlp.make_doc(sentence(rng)) for _ in range(n)]


def built(name, settings, nlp, folder, tiny, layer=TOK2VEC):
    values = {"TEXT": lambda: text(folder), "TINY": lambda: tiny}
    given = {k: values[v]() if v in values else v for k, v in settings.items()}
    make = registry.architectures.get(name)(**given)
    tok2vec = registry.resolve({"model": layer})["model"]
    tok2vec.initialize(X=[nlp.make_doc("a few words")])
    fix_random_seed(0)
    model = make(nlp.vocab, tok2vec)
    model.initialize(X=[nlp.make_doc("a few words")])
    set_dropout_rate(model, 0.0)
    return model


@pytest.fixture(params=OBJECTIVES, ids=lambda o: "-".join([o[0], str(o[1].get("loss", ""))]))
def made(request, tmp_path, tiny):
    nlp = nlp_with_vectors()
    return nlp, built(*request.param, nlp, tmp_path, tiny)


def collected(model, docs):
    fix_random_seed(7)
    prediction, backprop = model.begin_update(docs)
    loss, gradient = model.attrs["loss"](model.ops, docs, prediction)
    backprop(gradient)
    found = {}
    for place, node in enumerate(model.walk()):
        for name in node.grad_names:
            found[f"{place}.{name}"] = node.get_grad(name).copy()
            node.get_grad(name)[...] = 0
    return loss, len(prediction.targets), found


def test_spacys_own_update_lowers_the_loss(made):
    nlp, model = made
    docs, optimizer = docs_of(nlp), Adam(0.01)
    losses = []
    for _ in range(30):
        fix_random_seed(0)
        losses.append(make_update(model, docs, optimizer, model.attrs["loss"]))
    assert losses[-1] < 0.9 * losses[0]


def test_every_weight_of_the_layer_learns(made):
    nlp, model = made
    make_update(model, docs_of(nlp), Adam(0.01), model.attrs["loss"])  # heads begin at zero
    _, _, gradients = collected(model, docs_of(nlp))
    assert all(gradient.any() for gradient in gradients.values())


def test_gradients_are_slopes(made):
    nlp, model = made
    make_update(model, docs_of(nlp), Adam(0.01), model.attrs["loss"])
    docs = docs_of(nlp, 4)
    _, total, gradients = collected(model, docs)
    rng, checked = np.random.default_rng(0), 0
    for name, _, value in list(parameters(model)):
        if name.endswith(".E"):
            continue
        for at in rng.integers(value.size, size=2):
            before, step = value.flat[at], 5e-3
            value.flat[at] = before + step
            up = collected(model, docs)[0]
            value.flat[at] = before - step
            down = collected(model, docs)[0]
            value.flat[at] = before
            slope = (up - down) / (2 * step) / total
            # Maxout has kinks: a step over one is not a fault.
            checked += abs(slope - gradients[name].flat[at]) < 0.02 + 0.05 * abs(slope)
    assert checked >= 0.9 * 2 * sum(not name.endswith(".E") for name in gradients)


def test_the_output_layer_sees_hidden_words_alone(tmp_path, tiny):
    nlp = nlp_with_vectors()
    model = built(*OBJECTIVES[0], nlp, tmp_path, tiny)
    docs = docs_of(nlp, 40)
    prediction = model.predict(docs)
    words = sum(map(len, docs))
    assert len(prediction.output) == len(prediction.targets) < 0.3 * words


def test_replaced_words_are_told_by_comparing(tmp_path, tiny):
    nlp = nlp_with_vectors()
    model = built("trfnb.PretrainReplaced.v1", {}, nlp, tmp_path, tiny)
    docs = docs_of(nlp, 40)
    prediction = model.predict(docs)
    words = sum(map(len, docs))
    assert len(prediction.targets) == words
    assert 0.05 < prediction.targets.mean() < 0.15


def test_words_without_a_vector_have_no_target_and_teach_nothing(tmp_path, tiny):
    nlp = spacy.blank("en")
    nlp.vocab.vectors = Vectors(
        data=np.array([[1, 0], [5, 7]], "f"), keys=["cat", "zzlast"], strings=nlp.vocab.strings
    )
    docs = [nlp.make_doc("cat barks")]
    found = vector_targets(docs, [["cat", "barks"]], np.arange(2))
    assert found.tolist() == [[1, 0], [0, 0]]
    assert nlp.vocab.vectors.data.tolist() == [[1, 0], [5, 7]]
    check_vectors(docs)
    model = built("trfnb.PretrainVectors.v1", {"hidden_size": 16}, nlp, tmp_path, tiny)
    unknown = [nlp.make_doc("nothing known here") for _ in range(9)]
    loss, _, gradients = collected(model, unknown)
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients.values())
    with pytest.raises(PretrainingError, match="without any of its first 27 words"):
        check_vectors(unknown)


def test_places_without_a_target_do_not_lower_the_mean(tmp_path, tiny):
    nlp = spacy.blank("en")
    nlp.vocab.set_vector("cat", np.array([1, 2], "f"))
    chosen = {"hidden_size": 16, "masking": RandomMask(probability=1 - 1e-9)}
    model = built("trfnb.PretrainVectors.v1", chosen, nlp, tmp_path, tiny)
    doc = nlp.make_doc("a cat barks, the other cat does not")
    prediction = model.predict([doc])
    assert prediction.targets.tolist() == [[1, 2]] * 2
    assert len(prediction.output) == 2
    (tmp_path / "counted.txt").write_text("cat cat dog")
    chosen["text"] = tmp_path / "counted.txt"
    model = built("trfnb.PretrainWords.v1", chosen, nlp, tmp_path, tiny)
    assert model.predict([doc]).targets.tolist() == [[0]] * 2


def test_a_table_without_a_word_of_the_text_is_refused(lines, tmp_path):
    nlp = spacy.blank("en")
    nlp.vocab.set_vector("zzz", np.ones(3, "f"))
    nlp.to_disk(tmp_path / "table")
    given = config(lines, {"@architectures": "trfnb.PretrainVectors.v1"})
    given["initialize"] = {"vectors": str(tmp_path / "table")}
    with pytest.raises(PretrainingError, match="expected a table with words of the text"):
        pretrain(given, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_floret_tables_give_every_word_a_target(tmp_path, tiny):
    nlp = spacy.blank("en")
    data = np.random.default_rng(0).normal(size=(50, 4)).astype("f")
    nlp.vocab.vectors = Vectors(
        strings=nlp.vocab.strings, data=data, mode="floret", minn=2, maxn=3, hash_count=2
    )
    model = built("trfnb.PretrainVectors.v1", {"hidden_size": 16}, nlp, tmp_path, tiny)
    prediction = model.predict([nlp.make_doc("nothing known here")] * 9)
    assert prediction.targets.any(axis=1).all()


def test_what_an_objective_lacks_is_said_before_training(tmp_path, tiny):
    with pytest.raises(PretrainingError, match="expected a vocabulary with vectors"):
        built("trfnb.PretrainVectors.v1", {}, spacy.blank("en"), tmp_path, tiny)
    with pytest.raises(ConfigValidationError, match="missing required argument: 'text'"):
        registry.resolve({"objective": {"@architectures": "trfnb.PretrainWords.v1"}})


def test_bytes_are_those_of_spacys_array():
    doc = spacy.blank("en").make_doc("a jumping Ångström naïve 東京 tea")
    for n in (1, 4, 5):
        rows = np.array([0, 2, 4])
        ours = character_targets([doc], [words_of(doc)], rows, n)
        assert ours.tolist() == doc.to_utf8_array(nr_char=n)[rows].tolist()


WORDPIECES = {"@architectures": "trfnb.PretrainWordpieces.v1"}


def test_wordpieces_need_a_transformer(lines, tmp_path):
    with pytest.raises(PretrainingError, match="expected a transformer"):
        pretrain(config(lines, WORDPIECES), tmp_path / "out", progress=False)


def test_a_teachers_targets_are_the_means_of_its_wordpieces(tiny):
    nlp = spacy.blank("en")
    nlp.add_pipe("trfnb_transformer", config={"model": {"name": tiny}})
    nlp.initialize()
    doc = nlp("paris meets unable april")
    expected = trfnb.token_vectors(doc)[[0, 2, 3]]
    student = spacy.blank("en").add_pipe("tok2vec").model
    model = pretrain_distillation(nlp.vocab, student.initialize(), tiny)
    found = model.attrs["targets"]([doc], [], np.array([0, 2, 3]))
    np.testing.assert_allclose(found, expected, atol=1e-5)
