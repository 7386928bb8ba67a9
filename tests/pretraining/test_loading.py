import numpy as np
import pytest
from small_runs import BODY, config
from spacy.util import load_model_from_config

from trfnb.pretraining import load_weights
from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.setup import filled


def pipeline(**body):
    given = filled(config("unused", body=BODY | body))
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
    report = load_weights(nlp, saved)
    assert report.whole
    assert f"{len(report.loaded)} arrays loaded" in str(report)
    assert weights(nlp) == saved.read_bytes()


@pytest.mark.parametrize(
    ("body", "said"),
    [({"width": 24}, "different"), ({"depth": 1}, "unused"), ({"depth": 3}, "missing")],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(body, said, saved):
    nlp = pipeline(**body)
    before = weights(nlp)
    with pytest.raises(PretrainingError, match=said):
        load_weights(nlp, saved)
    assert weights(nlp) == before


def test_parts_are_loaded_when_asked_for(saved):
    nlp = pipeline(embed_size=200)
    report = load_weights(nlp, saved, partial=True)
    assert report.different
    assert report.loaded
    assert not report.whole


def test_nothing_in_common_is_refused_always(saved):
    nlp = pipeline()
    nlp.get_pipe("tok2vec").model.name = "x"
    for node in nlp.get_pipe("tok2vec").model.walk():
        node.name = f"other {node.name}"
    with pytest.raises(PretrainingError, match="0 arrays loaded"):
        load_weights(nlp, saved, partial=True)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"no weights")
    with pytest.raises(PretrainingError, match=r"Give model-last\.bin"):
        load_weights(pipeline(), tmp_path / "x.bin")
    with pytest.raises(PretrainingError, match="no such file"):
        load_weights(pipeline(), tmp_path / "y.bin")
