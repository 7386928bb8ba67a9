import json
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from trfnb.vectors import VectorsError, distill, load
from trfnb.vectors.distillation import (
    embed_words,
    frequency_weights,
    principal_components,
    wordpiece_words,
)


def test_a_word_is_the_mean_of_its_pieces(tiny):
    tokenizer, model = AutoTokenizer.from_pretrained(tiny), AutoModel.from_pretrained(tiny).eval()
    words = ["paris", "unable", "a", "bank"]
    got = embed_words(words, model, tokenizer)
    for word, row in zip(words, got, strict=True):
        with torch.inference_mode():
            states = model(**tokenizer(word, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(row, states[1:-1].mean(dim=0).numpy(), atol=1e-5)


def test_vocabulary_leaves_pieces_and_marks_out(tiny):
    words = wordpiece_words(AutoTokenizer.from_pretrained(tiny))
    assert "paris" in words
    assert not any(word.startswith(("##", "[CLS")) for word in words)


def test_distilled_table(tiny, tmp_path):
    docs = [["the", "unusual", "bank", "in", "paris"]] * 3
    report = distill(tiny, tmp_path / "out", corpus=docs, width=12)
    vectors = load(tmp_path / "out")
    assert vectors.shape == (report.rows, 12)
    assert {"unusual", "paris"} <= {vectors.strings[key] for key in vectors.key2row}
    assert 0.5 < report.measures["variance_kept"] < 1
    distill(tiny, tmp_path / "whole", width=None, weight=False)
    model, tokenizer = AutoModel.from_pretrained(tiny).eval(), AutoTokenizer.from_pretrained(tiny)
    exact = embed_words(["paris"], model, tokenizer)[0]
    np.testing.assert_allclose(load(tmp_path / "whole")["paris"], exact, atol=1e-6)
    saved = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert saved == asdict(report)
    assert (saved["source"], saved["format"]) == (tiny, "distilled")
    assert "variance_kept" in saved["measures"]


def test_wrong_settings_are_told_before_the_work(tiny, tmp_path, monkeypatch):
    """A large vocabulary takes minutes to embed."""

    def embed(*arguments):
        raise AssertionError("nothing should be embedded")

    monkeypatch.setattr("trfnb.vectors.distillation.embed_words", embed)
    for width in (0, 99):
        with pytest.raises(VectorsError, match=f"from 1 to the model's 16, got {width}"):
            distill(tiny, tmp_path / "wide", width=width)
    (tmp_path / "there").mkdir()
    with pytest.raises(VectorsError, match="already there"):
        distill(tiny, tmp_path / "there", width=12)


def test_a_sign_without_a_wordpiece_gets_no_vector_and_few_words_no_components(tiny, tmp_path):
    words = ["paris", "\u200b", "bank", "river", "april"]
    options = {"words": words, "wordpieces": False, "weight": False}
    report = distill(tiny, tmp_path / "out", width=2, **options)
    assert report.rows == 4
    assert "\u200b" not in load(tmp_path / "out")
    with pytest.raises(VectorsError, match=r"more words than the width, 4, .* got 4"):
        distill(tiny, tmp_path / "more", width=4, **options)


def test_weights():
    weights = frequency_weights(["the", "rare"], Counter({"the": 999, "rare": 1}))
    assert weights[0] == pytest.approx(1e-3 / (1e-3 + 0.999))
    assert weights[1] == pytest.approx(0.5)
    assert (np.diff(frequency_weights(["a", "b", "c"], None)) > 0).all()


def test_principal_components_keep_what_lies_in_few_directions():
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(200, 3)) @ rng.normal(size=(3, 20)) + 1).astype("f4")
    slim, kept = principal_components(data, 3)
    assert slim.shape == (200, 3)
    assert kept == pytest.approx(1, abs=1e-5)
    centred = data - data.mean(axis=0)
    np.testing.assert_allclose(slim @ slim.T, centred @ centred.T, atol=1e-2)
