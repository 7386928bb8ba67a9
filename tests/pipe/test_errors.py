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


def test_settings_the_model_does_not_have(tiny):
    config = {"hidden_droput_prob": 0.9}
    with pytest.raises(ValueError, match=r"no 'hidden_droput_prob' \(did you mean 'hidden_dropout"):
        transformer_pipeline(tiny, transformer_config=config)


def test_a_model_with_a_decoder(tmp_path, tiny):
    from transformers import AutoTokenizer, BartConfig, BartModel

    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    BartModel(BartConfig(vocab_size=200, d_model=8, **sizes, **heads)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expected an encoder, got an encoder and a decoder"):
        transformer_pipeline(tmp_path)


def test_settings_made_at_run_time_are_checked_and_taken(tiny):
    transformer = transformer_pipeline(tiny).get_pipe("transformer")
    with pytest.raises(ValueError, match="storage"):
        transformer.storage = "nope"
    with pytest.raises(ValueError, match="max_batch_items"):
        transformer.max_batch_items = 0
    transformer.max_batch_items = 8
    assert transformer.model.layers[0].attrs["runtime"].max_batch_items == 8


@pytest.mark.parametrize("layers", [-1, -2.0])
def test_fewer_layers_than_none(tiny, layers):
    with pytest.raises(ValueError, match="trainable_layers expected 0 layers"):
        transformer_pipeline(tiny, trainable_layers=layers)


def test_layers_by_a_schedule(tiny):
    with pytest.raises(ValueError, match="layers"):
        transformer_pipeline(tiny, layers={"@schedules": "constant.v1", "rate": 1.0})
