"""What a user can get wrong, and that the error says what to do."""

import pytest
import spacy
from small_pipelines import LISTENER, initialized, transformer_pipeline

from trfnb.flow.spans import checked_spans
from trfnb.pipe.data import FullTransformerBatch


def build(tiny, **listener):
    nlp = spacy.blank("en")
    nlp.add_pipe("trfnb_transformer", name="transformer", config={"model": {"name": str(tiny)}})
    nlp.add_pipe("tagger", config={"model": {"tok2vec": {**LISTENER, **listener}}})
    return nlp


def test_missing_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OSError, match=r"expected a local directory with .* Download it"):
        initialized(build(tmp_path / "absent"))


def test_no_weights_yet(tiny):
    with pytest.raises(ValueError, match=r"has no weights yet: call nlp\.initialize\(\)"):
        build(tiny)("the bank")


def test_wrong_upstream(tiny):
    with pytest.raises(ValueError, match=r"component named 'transfomer' .* connected to none"):
        initialized(build(tiny, upstream="transfomer"))


def test_another_width(tiny):
    nlp = transformer_pipeline(tiny)
    listener = nlp.get_pipe("tagger").model.get_ref("tok2vec")
    with pytest.raises(ValueError, match=r"expected vectors of width 16, .* got 32"):
        listener.listen_to(32, 3)


def test_span_getters():
    docs = [spacy.blank("en")("the bank"), spacy.blank("en")("a")]
    with pytest.raises(TypeError, match="expected a list of spans for each doc, got NoneType"):
        checked_spans(lambda docs: None, docs)
    with pytest.raises(ValueError, match="expected 2 lists, one a doc, got 1"):
        checked_spans(lambda docs: [[docs[0][:]]], docs)
    with pytest.raises(TypeError, match="expected Span objects, got Token"):
        checked_spans(lambda docs: [[doc[0]] for doc in docs], docs)
    with pytest.raises(ValueError, match="a span of another doc"):
        checked_spans(lambda docs: [[docs[0][:]] for _ in docs], docs)


def test_a_schedule_where_a_number_belongs(tiny):
    schedule = {"@schedules": "constant.v1", "rate": 1.0}
    for key in ("layer",):
        with pytest.raises(ValueError, match=key):
            build(tiny, **{key: schedule})
    nlp = spacy.blank("en")
    with pytest.raises(ValueError, match="max_batch_items"):
        nlp.add_pipe("trfnb_transformer", config={"max_batch_items": schedule})


def test_a_custom_models_vectors(tiny):
    import numpy as np

    docs = [spacy.blank("en")("the bank")]
    with pytest.raises(ValueError, match=r"tokens = \[2\] .* got the shapes \[\(3, 4\)\]"):
        FullTransformerBatch.of_vectors(docs, [np.zeros((3, 4), "f")])
    assert FullTransformerBatch.of_vectors([], []).doc_data == []


def test_a_layer_that_is_not_there(tiny):
    with pytest.raises(ValueError, match="from -4 to 3"):
        transformer_pipeline(tiny, tagger={"layer": 7})


def test_adapters_and_chosen_layers_exclude_each_other(tiny):
    with pytest.raises(ValueError, match="expected one of the two, got both"):
        transformer_pipeline(tiny, lora={"r": 2}, trainable_layers=1)
