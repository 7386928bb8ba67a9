import pickle

import numpy as np
import pytest
from small_runs import TOK2VEC, config, text
from spacy.util import load_model_from_config

from trfnb.pretraining import PretrainingError, load_weights, pretrain
from trfnb.pretraining.config import filled
from trfnb.pretraining.weights import load_pretrained


def pipeline(**layer):
    given = filled(config("unused", tok2vec=TOK2VEC | layer))
    given.pop("pretraining_loop")
    nlp = load_model_from_config(given, auto_fill=True)
    nlp.initialize()
    return nlp


def weights(nlp):
    return nlp.get_pipe("tok2vec").model.to_bytes()


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model-last.bin"
    path.write_bytes(weights(pipeline()))
    return path


def test_everything_fits(saved):
    nlp = pipeline()
    for node in nlp.get_pipe("tok2vec").model.walk():
        for name in node.param_names:
            node.set_param(name, np.zeros_like(node.get_param(name)))
    names = load_weights(nlp, saved)
    assert len(names) == 16
    assert weights(nlp) == saved.read_bytes()


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"width": 24}, "from 24 to 16"),
        ({"depth": 1}, "mismatched structure"),
        ({"depth": 3}, "mismatched structure"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(layer, said, saved):
    nlp = pipeline(**layer)
    before = weights(nlp)
    with pytest.raises(PretrainingError, match=said):
        load_weights(nlp, saved)
    assert weights(nlp) == before


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"no weights")
    with pytest.raises(PretrainingError, match=r"Give model-last\.bin"):
        load_weights(pipeline(), tmp_path / "x.bin")
    with pytest.raises(PretrainingError, match="IsADirectoryError"):
        load_weights(pipeline(), tmp_path)
    with pytest.raises(PretrainingError, match="FileNotFoundError"):
        load_weights(pipeline(), tmp_path / "y.bin")


def test_the_callback_pickles(tmp_path):
    made = load_pretrained(tmp_path / "x.bin", layer="tok2vec")
    assert pickle.loads(pickle.dumps(made)).keywords == made.keywords


@pytest.fixture(scope="module")
def given(tmp_path_factory, tiny):
    path = text(tmp_path_factory.mktemp("text"))
    made = config(path, {"@architectures": "trfnb.PretrainWordpieces.v1"}, max_steps=10)
    made["components"]["tok2vec"] = {
        "factory": "trfnb_transformer",
        "model": {"@architectures": "trfnb.TransformerModel.v1", "name": tiny},
    }
    made["pretraining"]["optimizer"] = {"@optimizers": "Adam.v1", "learn_rate": 0.005}
    return made


@pytest.fixture(scope="module")
def out(given, tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("run") / "out"
    pretrain(given, folder, progress=False)
    return folder


def test_the_result_opens_everywhere(given, tiny, out):
    from transformers import AutoModel, AutoTokenizer

    lines = (out / "log.csv").read_text().splitlines()
    assert float(lines[2].split(",")[4]) < float(lines[1].split(",")[4])
    path, folder = out / "model-last.bin", out / "model-last"
    learnt = AutoModel.from_pretrained(folder)
    AutoTokenizer.from_pretrained(folder)
    before = AutoModel.from_pretrained(tiny)
    changed = [
        not bool((a == b).all())
        for a, b in zip(learnt.parameters(), before.parameters(), strict=True)
    ]
    assert sum(changed) > len(changed) / 2
    by_file = fresh(given)
    by_file.config["initialize"]["init_tok2vec"] = str(path)
    by_file.initialize()
    by_name = fresh(given, name=str(folder))
    by_name.initialize()
    by_report = fresh(given)
    by_report.initialize()
    load_weights(by_report, folder)
    doc = by_name.make_doc("paris meets april in the bank")
    vectors = [
        nlp.get_pipe("tok2vec").model.predict([doc]).layer(-1)
        for nlp in (by_file, by_name, by_report)
    ]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    np.testing.assert_array_equal(vectors[0], vectors[2])


def fresh(given, **model):
    copied = given.copy()
    copied["components"]["tok2vec"]["model"] |= model
    for name in ("pretraining_loop",):
        copied.pop(name)
    return load_model_from_config(filled(copied), auto_fill=True)


def test_a_transformer_of_another_size_is_refused(given, tmp_path, tiny, out):
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    nlp = fresh(given)
    nlp.initialize()
    assert len(load_weights(nlp, out / "model-last.bin")) > 20
    settings = AutoConfig.from_pretrained(tiny)
    settings.intermediate_size *= 2
    AutoModel.from_config(settings).save_pretrained(tmp_path / "wide")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "wide")
    other = fresh(given, name=str(tmp_path / "wide"))
    other.initialize()
    model = other.get_pipe("tok2vec").model
    before = model.to_bytes()
    for name in ("model-last.bin", "model-last"):
        with pytest.raises(PretrainingError, match=r"of other sizes: .*intermediate"):
            load_weights(other, out / name)
        assert model.to_bytes() == before


def test_the_component_gets_its_pretrained_weights_from_a_callback(given, out):
    nlp = fresh(given)
    nlp.config["initialize"]["after_init"] = {
        "@callbacks": "trfnb.LoadPretrained.v1",
        "path": str(out / "model-last"),
    }
    nlp.initialize()
    doc = nlp.make_doc("paris meets april")
    other = fresh(given, name=str(out / "model-last"))
    other.initialize()
    a, b = (n.get_pipe("tok2vec").model.predict([doc]).layer(-1) for n in (nlp, other))
    np.testing.assert_array_equal(a, b)
