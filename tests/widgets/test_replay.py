"""What the tuner exports, trained again by ``trfnb run``."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from trfnb import corpora
from trfnb.experiments.pipelines import build_config
from trfnb.experiments.weights import fingerprint
from trfnb.widgets import GradFactorTuner

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_notebook_replays_an_export_to_equal_weights(tmp_path):
    # As the notebook builds it in a smoke run.
    data = corpora.load("newsroom", limit=60, dev_limit=20)
    config = build_config(
        ("tagger", "parser", "ner"),
        max_steps=8,
        eval_frequency=8,
        patience=0,
        batch_words=200,
        lang=data.lang,
    )
    view = GradFactorTuner(config, data, exports=tmp_path)
    view.sliders["parser"].value = 0.35
    view.tuner.run()
    (tuned,) = view.tuner.export_parameters().values()
    command = [
        sys.executable, "-m", "trfnb", "run", str(ROOT / "notebooks/02_grad_factor.ipynb"),
        "-p", "smoke", "true", "-p", "tuned", json.dumps(tuned),
        "--out", str(tmp_path / "out"), "--no-report", "--quiet",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert results["tuned_weights"].tolist() == [fingerprint(view.tuner.trained.nlp)]
