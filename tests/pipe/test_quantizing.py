"""`trfnb quantize`: an encoder in int8, kept only where its vectors stay."""

import numpy as np
import pytest
import spacy
from small_pipelines import examples, transformer_pipeline
from thinc.api import Adam

from trfnb import token_vectors
from trfnb.cli import main
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


def test_a_quantised_pipeline_runs_in_int8_until_its_weights_change(tiny, tmp_path, texts, capsys):
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
