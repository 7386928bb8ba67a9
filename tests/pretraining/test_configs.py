import numpy as np
import pytest
import spacy
from small_runs import BODY

from trfnb.pretraining import pretrain
from trfnb.pretraining.configs import OBJECTIVES, pretraining_config, with_pretrained, write_text
from trfnb.pretraining.errors import PretrainingError


def pipeline():
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec", config={"model": BODY})
    return nlp


def arrays(nlp):
    nodes = nlp.get_pipe("tok2vec").model.walk()
    return [node.get_param(name) for node in nodes for name in node.param_names]


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "distillation"])
def test_from_a_pipeline_to_its_pretrained_start(objective, lines, tmp_path):
    config = pipeline().config
    made = pretraining_config(config, lines, objective, batch_words=100, max_steps=3)
    weights = pretrain(made, tmp_path / "out", progress=False)
    nlp = spacy.util.load_model_from_config(with_pretrained(config, weights))
    nlp.initialize()
    # All arrays; the file also keeps the dropout of pretraining, which is not taken over.
    other = pipeline()
    other.initialize()
    other.get_pipe("tok2vec").model.from_bytes(weights.read_bytes())
    for a, b in zip(arrays(nlp), arrays(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert with_pretrained(config, None) == config


def test_unknown_objectives_are_refused(lines):
    with pytest.raises(PretrainingError, match="characters, words, replaced"):
        pretraining_config(pipeline().config, lines, "rhymes")


def test_texts_are_written_one_a_line(tmp_path):
    nlp = spacy.blank("en")
    path = write_text([nlp.make_doc(text) for text in ("two\nlines", " ", "one")], tmp_path / "t")
    assert path.read_text() == "two lines\none\n"
