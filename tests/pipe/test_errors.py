"""What a user can get wrong, and that the error says what to do."""

import numpy as np
import pytest
import spacy
import torch
from small_pipelines import LISTENER, examples, initialized, transformer_pipeline
from spacy.vocab import Vocab
from thinc.api import Model

import trfnb
from trfnb.pipe.data import FullTransformerBatch


def build(tiny, **listener):
    nlp = spacy.blank("en")
    nlp.add_pipe("trfnb_transformer", name="transformer", config={"model": {"name": str(tiny)}})
    nlp.add_pipe("tagger", config={"model": {"tok2vec": {**LISTENER, **listener}}})
    return nlp


def test_missing_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OSError, match=r"expected a local directory with .* Download the model"):
        initialized(build(tmp_path / "absent"))


def test_no_weights_yet(tiny):
    with pytest.raises(ValueError, match=r"has no weights yet: call nlp\.initialize\(\)"):
        build(tiny)("the bank")


def test_training_where_torch_records_nothing(tiny):
    nlp = transformer_pipeline(tiny)
    optimizer, before = nlp.resume_training(), nlp.get_pipe("transformer").to_bytes()
    with (
        torch.inference_mode(),
        pytest.raises(RuntimeError, match=r"Train outside of it\.") as error,
    ):
        nlp.update(examples(nlp), sgd=optimizer)
    assert "torch.inference_mode()" in str(error.value)
    assert nlp.get_pipe("transformer").to_bytes() == before
    with torch.inference_mode():
        nlp("the bank")
    with torch.no_grad():  # in which torch may be told to record
        nlp.update(examples(nlp), sgd=optimizer)
    assert nlp.get_pipe("transformer").to_bytes() != before


def test_wrong_upstream(tiny):
    with pytest.raises(ValueError, match=r"component named 'transfomer' .* connected to none"):
        initialized(build(tiny, upstream="transfomer"))


def test_another_width(tiny):
    nlp = transformer_pipeline(tiny)
    listener = nlp.get_pipe("tagger").model.get_ref("tok2vec")
    with pytest.raises(ValueError, match=r"expected vectors of width 16, .* got 32"):
        listener.listen_to(32, 3)


def test_a_schedule_where_a_number_belongs(tiny):
    schedule = {"@schedules": "constant.v1", "rate": 1.0}
    for key in ("layer",):
        with pytest.raises(ValueError, match=key):
            build(tiny, **{key: schedule})
    nlp = spacy.blank("en")
    with pytest.raises(ValueError, match="max_batch_items"):
        nlp.add_pipe("trfnb_transformer", config={"max_batch_items": schedule})


def test_a_custom_models_vectors(tiny):
    docs = [spacy.blank("en")("the bank")]
    with pytest.raises(ValueError, match=r"tokens = \[2\] .* got the shapes \[\(3, 4\)\]"):
        FullTransformerBatch.of_vectors(docs, [np.zeros((3, 4), "f")])
    assert FullTransformerBatch.of_vectors([], []).doc_data == []


def test_a_model_without_an_encoder_has_no_engine():
    transformer = trfnb.Transformer(Vocab(), Model("mine", lambda model, docs, is_train: None))
    transformer.max_batch_items = 32
    for ask in (
        lambda: transformer.engine,
        lambda: setattr(transformer, "engine", "torch"),
        lambda: transformer.engine_report,
    ):
        with pytest.raises(ValueError, match="the model 'mine' has none"):
            ask()


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


def seq2seq(folder, tiny, hf_model):
    """Save a model with an encoder and a decoder, or a part of it, and a tokenizer."""
    from transformers import AutoTokenizer

    hf_model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return folder


def bart():
    from transformers import BartConfig, BartModel

    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    return BartModel(BartConfig(vocab_size=200, d_model=8, **sizes, **heads))


def t5(kind):
    import transformers

    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    return getattr(transformers, kind)(transformers.T5Config(vocab_size=200, **sizes))


def test_a_model_with_a_decoder_and_the_advice_that_works(tmp_path, tiny, monkeypatch):
    folder = seq2seq(tmp_path / "whole", tiny, bart())
    with pytest.raises(ValueError, match="got an encoder and a decoder") as caught:
        transformer_pipeline(folder)
    monkeypatch.chdir(tmp_path)
    exec(str(caught.value).partition("\n")[2], {})  # what the message says to write
    assert trfnb.token_vectors(transformer_pipeline("encoder")("the river")).shape == (2, 8)


@pytest.mark.parametrize("kind", ["T5EncoderModel", "T5Model"])
def test_encoders_saved_alone_load(tmp_path, tiny, kind):
    hf_model = t5(kind)
    hf_model = hf_model if kind == "T5EncoderModel" else hf_model.get_encoder()
    nlp = transformer_pipeline(seq2seq(tmp_path / "alone", tiny, hf_model))
    expected = trfnb.token_vectors(nlp("the river"))
    again = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    np.testing.assert_array_equal(trfnb.token_vectors(again("the river")), expected)


def test_settings_made_at_run_time_are_checked_and_taken(tiny):
    nlp = transformer_pipeline(tiny)
    transformer = nlp.get_pipe("transformer")
    transformer.storage = "nope"
    with pytest.raises(ValueError, match="storage expected one of keep"):
        nlp("the river")
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


def test_a_vector_table_that_nothing_reads(tiny, recwarn):
    embed = {"@architectures": "spacy.HashEmbedCNN.v2", "pretrained_vectors": True, "width": 16,
             "depth": 1, "embed_size": 50, "window_size": 1, "maxout_pieces": 2,
             "subword_features": False}  # fmt: skip
    for reads in (False, True):
        nlp = build(tiny)
        if reads:
            nlp.add_pipe("ner", config={"model": {"tok2vec": embed}})
        nlp.vocab.set_vector("river", np.ones(4, "float32"))
        recwarn.clear()
        initialized(nlp)
        said = [str(one.message) for one in recwarn if "no component reads" in str(one.message)]
        assert len(said) == (not reads)
        assert reads or "what listens to 'transformer' sees the transformer alone" in said[0]
