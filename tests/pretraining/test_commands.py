"""The commands, as a user calls them."""

import os
import random
import subprocess
import sys
import time

import pytest
import spacy
from small_runs import BATCHER, BODY, CHARACTERS, config
from spacy.util import load_config, load_model_from_config

from trfnb.cli import main
from trfnb.pretraining.checkpoints import Checkpoints

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_the_command_makes_a_run(lines, tmp_path, capsys):
    given = config("nowhere")
    given["paths"] = {"raw_text": "nowhere"}
    given["corpora"]["pretrain"]["path"] = "${paths.raw_text}"
    del given["pretraining_loop"]
    given.to_disk(tmp_path / "config.cfg")
    call = ["pretrain", str(tmp_path / "config.cfg"), str(tmp_path / "out"), "--quiet"]
    assert main(call) == 2
    assert "no such path" in capsys.readouterr().err
    call += ["-p", "paths.raw_text", str(lines), "-p", "pretraining_loop.max_steps", "3"]
    assert main(call) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out/model-last.bin")
    assert main(call) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*call, "--resume"]) == 0


def test_settings_as_spacys_commands_take_them(lines, tmp_path, capsys):
    given = config("nowhere")
    given["paths"] = {"raw_text": "nowhere"}
    given["corpora"]["pretrain"]["path"] = "${paths.raw_text}"
    given.to_disk(tmp_path / "config.cfg")
    call = ["pretrain", str(tmp_path / "config.cfg"), str(tmp_path / "out"), "--quiet"]
    call += ["--paths.raw_text", str(lines), "--pretraining_loop.max_steps=3"]
    assert main([*call, "--pretraining_loop.shuffle"]) == 0
    made = load_config(tmp_path / "out/config.cfg")
    assert made["paths"]["raw_text"] == str(lines)
    assert made["pretraining_loop"]["max_steps"] == 3
    assert made["pretraining_loop"]["shuffle"] is True
    capsys.readouterr()
    for wrong, told in (
        ("--pretraning.max_epochs", "one of the config's sections"),
        ("--paths.raw_texts", "one of the config's paths"),
        ("--pretraining.corpus.path", "to be a section"),
    ):
        assert main([*call, wrong, "3"]) == 2
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*call, "--rsum"])


CODE = """
import spacy
from spacy.tokens import Doc

@spacy.registry.tokenizers("test.Spaces.v1")
def make():
    return lambda nlp: lambda text: Doc(nlp.vocab, words=text.split())
"""


@pytest.mark.slow
def test_workers_know_a_users_own_functions(lines, tmp_path, capsys):
    (tmp_path / "code.py").write_text(CODE)
    given = config(lines, max_steps=3)
    given["nlp"]["tokenizer"] = {"@tokenizers": "test.Spaces.v1"}
    given.to_disk(tmp_path / "config.cfg")
    made = []
    for workers in ("0", "1"):
        out = tmp_path / workers
        call = ["pretrain", str(tmp_path / "config.cfg"), str(out), "--quiet"]
        call += ["--code", str(tmp_path / "code.py"), "-p", "pretraining_loop.workers", workers]
        assert main(call) == 0, capsys.readouterr().err
        made.append((out / "model-last.bin").read_bytes())
    assert made[0] == made[1]
    call[2] = str(tmp_path / "none")
    del call[4:6]
    assert main(call) == 2
    assert "workers expected processes" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_workers_end_with_the_process_that_was_killed(lines, tmp_path):
    config(lines, max_steps=100_000, workers=2, save_every=5).to_disk(tmp_path / "config.cfg")
    call = [sys.executable, "-m", "trfnb", "pretrain", "config.cfg", "out", "--quiet"]
    process = subprocess.Popen(call, cwd=tmp_path, env=ENV, stderr=subprocess.PIPE)
    while process.poll() is None and not Checkpoints(tmp_path / "out").found():
        time.sleep(0.05)
    process.kill()
    # The pipe closes when the last process that holds it is gone.
    process.communicate(timeout=30)


@pytest.mark.slow
def test_killed_at_five_moments_and_resumed_the_weights_are_the_same(lines, tmp_path):
    given = config(lines, max_steps=400, save_every=7, eval_every=20, log_every=20)
    given["pretraining"]["max_epochs"] = 1000
    given.to_disk(tmp_path / "config.cfg")

    def command(out, *more):
        call = ["pretrain", tmp_path / "config.cfg", tmp_path / out, "--quiet", *more]
        return [sys.executable, "-m", "trfnb", *map(str, call)]

    subprocess.run(command("whole"), env=ENV, check=True, timeout=120, capture_output=True)
    rng, kills, reached = random.Random(os.getpid()), 0, []
    for _ in range(20):
        process = subprocess.Popen(
            command("killed", "--resume"), env=ENV, stdout=subprocess.DEVNULL
        )
        start = Checkpoints(tmp_path / "killed").found()[-1:]
        while process.poll() is None and Checkpoints(tmp_path / "killed").found()[-1:] == start:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.5)
        if process.poll() is None and kills < 5:
            process.kill()
            kills += 1
        process.wait(timeout=120)
        reached.append(Checkpoints(tmp_path / "killed").found()[-1].name)
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert kills == 5, reached
    last = "model-last.bin"
    assert (tmp_path / "killed" / last).read_bytes() == (tmp_path / "whole" / last).read_bytes()


@pytest.mark.slow
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
    nlp.add_pipe("tok2vec", config={"model": BODY})
    whole = nlp.config
    given = config(path, objective)
    given["pretraining"] |= {"max_epochs": 2, "batcher": BATCHER}
    given["corpora"]["pretrain"] = {"@readers": "spacy.JsonlCorpus.v1", "path": str(path),
                                    "min_length": 1, "max_length": 100, "limit": 0}  # fmt: skip
    from trfnb.pretraining.setup import filled

    filled(whole.merge(given)).to_disk(tmp_path / "config.cfg")
    call = [sys.executable, "-m", "spacy", "pretrain", "config.cfg", "out"]
    done = subprocess.run(call, cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    other = load_model_from_config(load_config(tmp_path / "config.cfg"), auto_fill=True)
    other.config["initialize"]["init_tok2vec"] = str(tmp_path / "out/model-last.bin")
    other.initialize()
