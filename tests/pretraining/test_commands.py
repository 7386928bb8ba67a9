"""The commands, as a user calls them."""

import os
import subprocess
import sys

import pytest
import spacy
from command import app
from small_runs import BATCHER, CHARACTERS, TOK2VEC, config
from spacy.training.pretrain import pretrain as spacy_pretrain
from spacy.util import load_config, load_model_from_config
from typer.testing import CliRunner

from trfnb.pretraining.config import filled

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def call(*arguments):
    return CliRunner().invoke(app, ["pretrain", *map(str, arguments), "--quiet"])


@pytest.fixture
def given(tmp_path):
    made = config("nowhere")
    made["paths"] = {"raw_text": "nowhere"}
    made["corpora"]["pretrain"]["path"] = "${paths.raw_text}"
    del made["pretraining_loop"]
    made.to_disk(tmp_path / "config.cfg")
    return tmp_path / "config.cfg"


def test_the_command_makes_a_run_with_settings_as_spacys_commands_take_them(given, lines, tmp_path):
    out = tmp_path / "out"
    assert "no such path" in str(call(given, out).exception)
    settings = ["--paths.raw_text", lines, "--pretraining_loop.max_steps=3"]
    settings += ["--pretraining_loop.max_seconds=1000"]
    done = call(given, out, *settings)
    assert done.stdout.strip() == str(out / "model-last.bin")
    made = load_config(out / "config.cfg")
    assert made["paths"]["raw_text"] == str(lines)
    assert made["pretraining_loop"] == {"max_steps": 3, "max_seconds": 1000}
    assert "--resume" in str(call(given, out, *settings).exception)
    assert call(given, out, *settings, "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("--pretraning.max_epochs", "pretraning -> max_epochs\tnot a section value"),
        ("--paths.raw_texts", "one of the config's paths (paths.raw_text)"),
        ("--pretraining.corpus.path", "pretraining -> corpus -> path\tnot a section value"),
        ("--pretraining.max_epohcs", "got max_epohcs"),
        ("--rsum", "--rsum"),
    ],
)
def test_settings_that_nothing_reads_are_refused(wrong, said, given, lines, tmp_path):
    done = call(given, tmp_path / "out", "--paths.raw_text", lines, wrong, "3")
    assert done.exit_code != 0
    assert said in done.output + str(done.exception)
    assert not (tmp_path / "out").exists()


def test_naming_the_commands_loads_neither_spacy_nor_torch():
    code = "import sys, trfnb.pretraining.commands; print({'spacy', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENV)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize(
    "objective",
    [
        CHARACTERS | {"masking": {"@misc": "trfnb.SpanMask.v1", "probability": 0.2}},
        {"@architectures": "trfnb.PretrainReplaced.v1", "hidden_size": 16},
    ],
    ids=lambda o: o["@architectures"],
)
def test_spacys_own_command_trains_our_objectives(objective, tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "Ada left the ships of Oslo, didn\'t she?"}\n' * 40)
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec", config={"model": TOK2VEC})
    whole = nlp.config
    given = config(path, objective)
    given["pretraining"] |= {"max_epochs": 2, "batcher": BATCHER}
    given["corpora"]["pretrain"] = {"@readers": "spacy.JsonlCorpus.v1", "path": str(path),
                                    "min_length": 1, "max_length": 100, "limit": 0}  # fmt: skip
    whole = filled(whole.merge(given))
    (tmp_path / "out").mkdir()
    spacy_pretrain(whole.interpolate(), tmp_path / "out", silent=True)
    other = load_model_from_config(whole, auto_fill=True)
    other.config["initialize"]["init_tok2vec"] = str(tmp_path / "out/model-last.bin")
    other.initialize()
