"""`trfnb quantize`: an encoder in int8, kept only where its vectors stay."""

import numpy as np
import pytest
import spacy
from small_pipelines import examples, transformer_pipeline
from thinc.api import Adam

from trfnb import token_vectors
from trfnb.cli import main
from trfnb.flow import engines
from trfnb.flow.engines import EngineError
from trfnb.pipe.exporting import quantize

pytest.importorskip("nncf", reason="pip install 'trfnb[quantize]'")

WORDS = ["the", "bank", "of", "river", "plans", "a", "in", "paris", "and", "april", "meets"]


@pytest.fixture(scope="module")
def texts():
    """Return texts to calibrate on, and others."""
    rng = np.random.default_rng(0)
    made = [" ".join(rng.choice(WORDS, rng.integers(3, 15))) for _ in range(500)]
    return made[:400], made[400:]


def vectors(nlp, texts):
    return np.concatenate([token_vectors(doc) for doc in nlp.pipe(texts)])


def test_a_quantised_pipeline_runs_in_int8_until_its_weights_change(
    tiny, tmp_path, texts, capsys, monkeypatch
):
    calibration, others = texts
    nlp = transformer_pipeline(tiny)
    nlp.to_disk(tmp_path / "saved")
    (tmp_path / "texts.txt").write_text("\n".join(calibration))
    command = ["quantize", *(str(tmp_path / name) for name in ("saved", "texts.txt", "out"))]
    assert main([*command, "--least", "0.9"]) == 0
    assert "cosine 0.9" in capsys.readouterr().out

    loaded = spacy.load(tmp_path / "out")
    transformer = loaded.get_pipe("transformer")
    transformer.engine = "openvino"
    expected, found = vectors(nlp, others), vectors(loaded, others)
    assert transformer.engine_report == 'OpenVINO in int8 (engine = "openvino")'
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    assert np.percentile((expected * found).sum(axis=1) / lengths, 1) > 0.9
    assert np.abs(expected - found).max() > 1e-4, "it was rounded"
    again = spacy.blank("en").from_config(loaded.config).from_bytes(loaded.to_bytes())
    again.get_pipe("transformer").engine = "openvino"
    np.testing.assert_array_equal(vectors(again, others), found)

    trained = spacy.load(tmp_path / "out")
    trained.update(examples(trained), sgd=Adam(0.01))
    monkeypatch.setattr(engines, "_WORTH_COMPILING", 1)
    with pytest.warns(UserWarning, match=r"by torch: .* got other weights .* `trfnb quantize`"):
        assert np.isfinite(vectors(trained, others)).all(), "as an evaluation in training does"
    assert trained.get_pipe("transformer").engine_report.startswith("torch")

    loaded.update(examples(loaded), sgd=Adam(0.01))
    with pytest.raises(EngineError, match=r"got other weights .* `trfnb quantize`"):
        vectors(loaded, others)


def test_what_loses_too_much_is_not_written(tiny, tmp_path, texts):
    transformer_pipeline(tiny).to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"cosines of 0\.9999999 .* got 0\.9"):
        quantize(tmp_path / "saved", tmp_path / "out", texts[0], least=0.9999999)
    with pytest.raises(ValueError, match=r"wordpieces or more, got"):
        quantize(tmp_path / "saved", tmp_path / "out", texts[0][:2])
    assert not (tmp_path / "out").exists()


def test_a_part_of_the_layers_that_were_rounded_is_enough(tiny, tmp_path, texts):
    transformer_pipeline(tiny, ner={"layer": 1}).to_disk(tmp_path / "saved")
    quantize(tmp_path / "saved", tmp_path / "out", texts[0], least=0.5)
    both = spacy.load(tmp_path / "out")
    one = spacy.load(tmp_path / "out", exclude=["ner"])
    for pipeline in (both, one):
        pipeline.get_pipe("transformer").engine = "openvino"
    np.testing.assert_array_equal(vectors(one, texts[1]), vectors(both, texts[1]))


def test_what_cannot_run_in_int8_is_refused_before_the_work(tiny, tmp_path, monkeypatch):
    settings = {"torch": {"engine": "torch"}, "attentions": {"attentions": True}}
    for name, setting in settings.items():
        transformer_pipeline(tiny, **setting).to_disk(tmp_path / name)
        with pytest.raises(ValueError, match=rf"quantize expected .* got one with .*{name}"):
            quantize(tmp_path / name, tmp_path / "out", iter(()))
    nlp = transformer_pipeline(tiny)
    nlp.get_pipe_config("transformer")["model"]["@architectures"] = "my.Transformer.v1"
    monkeypatch.setattr(spacy, "load", lambda source: nlp)
    with pytest.raises(ValueError, match=r"got one with an architecture not of trfnb's"):
        quantize("a_pipeline", tmp_path / "out", iter(()))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file is a file"):
        quantize(tmp_path / "torch", tmp_path / "file" / "out", iter(()))
    assert not (tmp_path / "out").exists()


def test_texts_that_are_not_utf8_are_named(tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("héllo", encoding="utf-16")
    assert main(["quantize", "x", str(tmp_path / "texts.txt"), str(tmp_path / "out")]) == 2
    assert "texts.txt to be text in UTF-8" in capsys.readouterr().err
