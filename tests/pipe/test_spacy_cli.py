"""spaCy's own commands on configs with trfnb in them, without `--code`."""

import os
import subprocess
import sys

import pytest
import spacy
from small_pipelines import LISTENER, examples, initialized
from spacy.tokens import DocBin

pytestmark = pytest.mark.slow


def command(*arguments, cwd):
    result = subprocess.run(
        [sys.executable, "-m", "spacy", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout


def test_train_from_a_config(tiny, tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("trfnb_transformer", name="transformer", config={"model": {"name": tiny}})
    nlp.add_pipe("tagger", config={"model": {"tok2vec": LISTENER}})
    initialized(nlp)
    nlp.config.to_disk(tmp_path / "base.cfg")
    DocBin(docs=[one.reference for one in examples(nlp)]).to_disk(tmp_path / "few.spacy")
    command("init", "fill-config", "base.cfg", "full.cfg", cwd=tmp_path)
    data = ("--paths.train", "few.spacy", "--paths.dev", "few.spacy")
    command("debug", "config", "full.cfg", *data, cwd=tmp_path)
    steps = ("--training.max_steps", "2", "--training.eval_frequency", "1")
    command("train", "full.cfg", "--output", "out", *data, *steps, cwd=tmp_path)
    assert spacy.load(tmp_path / "out/model-last")("the bank")[0].tag_
