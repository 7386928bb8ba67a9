import pytest
from spacy.util import load_model_from_config

from trfnb.experiments.configs import SHARINGS, build_config
from trfnb.experiments.training import initialize


@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_config_is_complete_and_survives_printing(sharing):
    config = build_config(["tagger", "ner"], sharing=sharing)
    again = type(config)().from_str(config.to_str())
    # auto_fill=False: raises on any missing value, as `spacy train` does
    nlp = load_model_from_config(again, auto_fill=False, validate=True)
    assert nlp.config.interpolate() == config.interpolate()
    assert config["paths"]["train"] is None


def test_the_body_sits_beside_the_tasks_or_inside_each():
    shared, alone = (build_config(["tagger", "ner"], sharing=s) for s in ("shared", "independent"))
    assert shared["nlp"]["pipeline"] == ["tok2vec", "tagger", "ner"]
    assert alone["nlp"]["pipeline"] == ["tagger", "ner"]
    listener = shared["components"]["ner"]["model"]["tok2vec"]
    own = alone["components"]["ner"]["model"]["tok2vec"]
    assert listener["upstream"] == "tok2vec"
    assert own == shared["components"]["tok2vec"]["model"]


def test_scores_are_weighed_alike_and_sum_to_one():
    weights = build_config(["tagger", "parser", "textcat", "ner"])["training"]["score_weights"]
    counted = {name: weight for name, weight in weights.items() if weight}
    assert counted == dict.fromkeys(["tag_acc", "dep_las", "cats_macro_f", "ents_f"], 0.25)


def test_a_frozen_body_is_initialised_annotates_and_keeps_its_seed(corpus):
    config = build_config(["tagger"], sharing="frozen", seed=3)
    assert config["training"]["frozen_components"] == ["tok2vec"]
    assert config["training"]["annotating_components"] == ["tok2vec"]
    first, second = (
        initialize(config, lambda vocab: corpus.examples("train", vocab)) for _ in range(2)
    )
    assert first.get_pipe("tok2vec").model.to_bytes() == second.get_pipe("tok2vec").model.to_bytes()
    (doc,) = first.pipe(["Ada left ships in Oslo ."])
    assert doc.tensor.shape == (6, 96)
    assert abs(doc.tensor).sum() > 0


def test_every_mistake_is_named_at_once():
    with pytest.raises(ValueError, match="Cannot build") as caught:
        build_config(["tagger", "nre"], sharing="both", grad_factor={"parser": 0.5})
    message = str(caught.value)
    assert "['nre']" in message
    assert "'both'" in message
    assert "['parser']" in message
    assert "'independent'" in message  # what would have been right


def test_a_grad_factor_where_no_gradient_returns_is_refused():
    with pytest.raises(ValueError, match="nothing to scale"):
        build_config(["tagger"], sharing="frozen", grad_factor=0.5)


def test_a_wrong_span_getter_is_named():
    with pytest.raises(ValueError, match="'paragraph'"):
        build_config(["tagger"], encoder="some/model", get_spans="paragraph")
