"""The model from docs to hidden states, its arguments, and the names that people use on it."""

import numpy as np
import pytest
import spacy
import torch
from small_pipelines import transformer_pipeline

import trfnb
from trfnb.pipe.model import encode_docs, tokenise

TEXTS = ["Paris meets April in the bank .", "the river", "", "unable plans of the river bank"]


def alone(path, **model):
    nlp = spacy.blank("en")
    nlp.add_pipe("trfnb_transformer", name="transformer", config={"model": {"name": path, **model}})
    nlp.initialize()
    return nlp


def test_layers_are_an_argument(tiny):
    model = transformer_pipeline(tiny, layers=[0]).get_pipe("transformer").model
    docs = [spacy.blank("en")(text) for text in TEXTS]
    every, _ = encode_docs(model, docs, False)
    assert sorted(every.rows) == [0, 3]
    some, _ = encode_docs(model, docs, False, layers=[1, -1], tokenised=tokenise(model, docs))
    assert sorted(some.rows) == [1, 3]
    np.testing.assert_array_equal(some.layer(-1), every.layer(-1))
    assert sorted(model.predict(docs).rows) == [0, 3]


def test_names_of_spacy_transformers(tiny):
    nlp = alone(tiny, transformer_config={"output_attentions": True, "output_hidden_states": True})
    model = nlp.get_pipe("transformer").model
    doc = nlp("the river")
    data, batch = doc._.trf_data, model.predict([doc])
    assert model.tokenizer.cls_token == "[CLS]"
    right = model.transformer(**model.tokenizer("the river", return_tensors="pt"))
    for one in (data, batch):
        assert one.tokens["input_texts"] == [["[CLS]", "the", "river", "[SEP]"]]
        assert one.tokens["input_ids"].shape == one.tokens["attention_mask"].shape == (1, 4)
        assert [tensor.shape for tensor in one.tensors] == [(1, 4, 16)] * 4
        output = one.model_output
        np.testing.assert_allclose(
            output.last_hidden_state, right.last_hidden_state.detach(), atol=1e-5
        )
        assert len(output.hidden_states) == 4
        assert [layer.shape for layer in output.attentions] == [(1, 4, 4, 4)] * 3
        np.testing.assert_allclose(output.attentions[0].sum(-1), 1, atol=1e-5)
        with pytest.raises(AttributeError, match=r"pooler_output, which is not computed. Apply"):
            _ = output.pooler_output


def test_another_default_dtype_changes_nothing(tiny):
    nlp = alone(tiny)
    expected = trfnb.token_vectors(nlp(TEXTS[0]))
    torch.set_default_dtype(torch.float64)
    try:
        for one in (nlp, alone(tiny)):
            found = trfnb.token_vectors(one(TEXTS[0]))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_name_may_begin_with_the_home_folder(tiny, monkeypatch):
    folder, _, name = tiny.rpartition("/")
    monkeypatch.setenv("HOME", folder)
    assert trfnb.token_vectors(alone(f"~/{name}")("the river")).shape == (2, 16)


@pytest.mark.parametrize("storage", ["cpu", "last"])
def test_a_kept_doc_holds_nothing_of_its_batch(tiny, storage):
    nlp = alone(tiny)
    nlp.get_pipe("transformer").storage = storage
    data = next(nlp.pipe(["the river"] + TEXTS * 8))._.trf_data
    pieces, align = data.wordpieces, data.row_align
    arrays = [data.layer(-1), pieces.ids, pieces.offsets, pieces.lengths, align.dataXd]
    assert all(array.base is None or array.base.nbytes == array.nbytes for array in arrays)
