"""`trfnb import-pipeline`: spacy-transformers' names become trfnb's, predictions stay."""

from importlib.util import find_spec

import pytest
import spacy
from small_pipelines import LISTENER, examples, initialized
from thinc.api import Adam

from trfnb.cli import main

pytestmark = [
    pytest.mark.filterwarnings("ignore:The transformer 'transformer' reads fewer"),
    pytest.mark.skipif(find_spec("spacy_transformers"), reason="spacy-transformers has the names"),
]
TEXTS = ["Paris meets April in the bank .", "", "the river " * 40]
THERE = "spacy-transformers"


def legacy_pipeline(tiny):
    nlp = spacy.blank("en")
    spans = {"@span_getters": f"{THERE}.doc_spans.v1"}
    model = {"@architectures": f"{THERE}.TransformerModel.v3", "name": tiny, "get_spans": spans}
    nlp.add_pipe("transformer", config={"model": model})
    pooling = {"@layers": "reduce_mean.v1"}
    listener = {"@architectures": f"{THERE}.TransformerListener.v1", "pooling": pooling}
    nlp.add_pipe("tagger", config={"model": {"tok2vec": listener}})
    nlp.add_pipe("ner", config={"model": {"tok2vec": listener}})
    initialized(nlp)
    nlp.update(examples(nlp), sgd=Adam(0.01))
    return nlp


def test_predictions_stay(tiny, tmp_path):
    nlp = legacy_pipeline(tiny)
    nlp.replace_listeners("transformer", "tagger", ["model.tok2vec"])
    nlp.meta["requirements"] = [f"{THERE}>=1.1,<1.2", "other"]
    labels = {"ner": {"labels": ["PER", "LOC"]}}
    nlp.config["initialize"]["components"] = labels
    expected = [doc.to_json() for doc in nlp.pipe(TEXTS)]
    nlp.to_disk(tmp_path / "there")
    assert [doc.to_json() for doc in spacy.load(tmp_path / "there").pipe(TEXTS)] == expected
    assert main(["import-pipeline", str(tmp_path / "there"), str(tmp_path / "here")]) == 0
    assert (
        spacy.util.load_config(tmp_path / "here/config.cfg")["initialize"]["components"] == labels
    )
    for file in ("config.cfg", "meta.json"):
        assert THERE not in (tmp_path / "here" / file).read_text()
    assert (tmp_path / "here/transformer/encoder/model.safetensors").exists()
    loaded = spacy.load(tmp_path / "here")
    assert loaded.meta["requirements"] == ["other", "trfnb"]
    assert [doc.to_json() for doc in loaded.pipe(TEXTS)] == expected
    loaded.update(examples(loaded), sgd=Adam(0.01))
    for source, target in (("here", "more"), ("there", "here"), ("absent", "more")):
        assert main(["import-pipeline", str(tmp_path / source), str(tmp_path / target)]) == 2


def test_a_listener_of_ours_to_their_transformer_is_replaced(tiny, tmp_path):
    nlp = spacy.blank("en")
    spans = {"@span_getters": f"{THERE}.doc_spans.v1"}
    model = {"@architectures": f"{THERE}.TransformerModel.v3", "name": tiny, "get_spans": spans}
    nlp.add_pipe("transformer", config={"model": model})
    nlp.add_pipe("tagger", config={"model": {"tok2vec": LISTENER}})
    initialized(nlp)
    nlp.replace_listeners("transformer", "tagger", ["model.tok2vec"])
    expected = [doc.to_json() for doc in nlp.pipe(TEXTS)]
    nlp.to_disk(tmp_path / "saved")
    assert [doc.to_json() for doc in spacy.load(tmp_path / "saved").pipe(TEXTS)] == expected
