import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from first_gradients import save
from small_runs import CHARACTERS, config, text
from spacy.util import load_config, load_model_from_config

from trfnb.pretraining import load_weights, pretrain
from trfnb.pretraining.checkpoint import Checkpoints
from trfnb.pretraining.config import set_up
from trfnb.pretraining.loop import Run

HERE = Path(__file__).parent
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def rows(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def without_times(folder):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(folder)]


def test_a_run_leaves_log_weights_and_checkpoints(lines, tmp_path):
    out = tmp_path / "out"
    path = pretrain(config(lines, keep=2), out, progress=False)
    assert path == out / "model-last.bin"
    found = rows(out)
    assert list(found[0]) == ["step", "words", "seconds", "loss", "dev_loss", "learn_rate"]
    assert [int(row["step"]) for row in found] == [5, 10, 15, 20]
    dev = [float(row["dev_loss"]) for row in found]
    assert dev[-1] < dev[0]
    assert [p.stem for p in Checkpoints(out).found()] == ["checkpoint-16", "checkpoint-20"]
    assert not list(out.glob(".*"))
    assert load_config(out / "config.cfg")["pretraining"]["max_epochs"] == 50
    assert (out / "model-best.bin").exists()


def test_the_result_loads_as_spacys_does(lines, tmp_path):
    path = pretrain(config(lines), tmp_path / "out", progress=False)
    nlp = load_model_from_config(load_config(tmp_path / "out/config.cfg"), auto_fill=True)
    nlp.config["initialize"]["init_tok2vec"] = str(path)
    nlp.initialize()
    by_spacy = nlp.get_pipe("tok2vec").model.to_bytes()
    fresh = load_model_from_config(nlp.config, auto_fill=True)
    fresh.config["initialize"]["init_tok2vec"] = None
    fresh.initialize()
    before = fresh.get_pipe("tok2vec").model.to_bytes()
    load_weights(fresh, path)
    doc = nlp.make_doc("Ada left the ships")
    ours, theirs = (n.get_pipe("tok2vec").model.predict([doc])[0] for n in (fresh, nlp))
    np.testing.assert_array_equal(ours, theirs)
    assert before != by_spacy


@pytest.mark.parametrize("stop", [1, 5, 7, 12])
def test_resuming_ends_with_the_same_bytes(stop, lines, tmp_path):
    schedule = {"@schedules": "warmup_linear.v1", "warmup_steps": 5, "total_steps": 40,
                "initial_rate": 0.01}  # fmt: skip
    given = config(lines, max_steps=16)
    given["pretraining"]["optimizer"] = {"@optimizers": "Adam.v1", "learn_rate": schedule}
    whole = pretrain(given, tmp_path / "whole", progress=False)
    part = given.copy()
    part["pretraining_loop"]["max_steps"] = stop
    part["pretraining_loop"]["save_every"] = 3
    pretrain(part, tmp_path / "part", progress=False)
    resumed = pretrain(given, tmp_path / "part", resume=True, progress=False)
    assert resumed.read_bytes() == whole.read_bytes()
    expected = without_times(tmp_path / "whole")
    assert without_times(tmp_path / "part") == expected


def test_the_config_that_is_left_keeps_its_variables_and_resumes(lines, tmp_path):
    given = config(lines, max_steps=4)
    given["paths"] = {"raw_text": str(lines), "train": None}
    given["corpora"]["pretrain"]["path"] = "${paths.raw_text}"
    given["corpora"]["train"] = {"@readers": "spacy.Corpus.v1", "path": "${paths.train}"}
    pretrain(given, tmp_path / "out", progress=False)
    left = load_config(tmp_path / "out/config.cfg", interpolate=False)
    assert left["corpora"]["train"]["path"] == "${paths.train}"
    assert left["pretraining_loop"]["max_steps"] == 4
    left["pretraining_loop"]["max_steps"] = 8
    again = pretrain(left, tmp_path / "out", resume=True, progress=False)
    assert again.read_bytes() == (tmp_path / "out/model-last.bin").read_bytes()
    assert [p.stem for p in Checkpoints(tmp_path / "out").found()] == [
        "checkpoint-4",
        "checkpoint-8",
    ]


def test_a_checkpoint_half_written_is_not_used(lines, tmp_path):
    given = config(lines, max_steps=8)
    whole = pretrain(given, tmp_path / "out", progress=False).read_bytes()
    last = tmp_path / "out/checkpoint-8.safetensors"
    last.rename(tmp_path / f"out/.{last.name}.part").write_bytes(b"half")
    again = pretrain(given, tmp_path / "out", resume=True, progress=False)
    assert again.read_bytes() == whole
    assert not list((tmp_path / "out").glob(".*"))


def test_resuming_a_finished_run_changes_nothing(lines, tmp_path):
    given = config(lines, max_steps=8)
    whole = pretrain(given, tmp_path / "out", progress=False).read_bytes()
    assert pretrain(given, tmp_path / "out", resume=True, progress=False).read_bytes() == whole


def test_an_interrupted_run_resumes_from_its_last_checkpoint(lines, tmp_path, monkeypatch):
    given = config(lines, max_steps=12, save_every=3)
    whole = pretrain(given, tmp_path / "whole", progress=False)
    update = Run.update

    def interrupted(run, docs):
        update(run, docs)
        if run.progress.step == 7:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(given, tmp_path / "part", progress=False)
    assert [p.stem for p in Checkpoints(tmp_path / "part").found()][-1] == "checkpoint-6"
    monkeypatch.undo()
    again = pretrain(given, tmp_path / "part", resume=True, progress=False)
    assert again.read_bytes() == whole.read_bytes()


def test_lines_left_out_are_told_once_however_often_they_are_read(tmp_path):
    path = tmp_path / "text.txt"
    good = text(tmp_path, 30, "good.txt").read_bytes()
    path.write_bytes(good + b"\xff\xfe\n" + good)
    given = config(path, max_steps=0, shard_size=300, save_every=1, dev_words=0)
    given["pretraining"]["max_epochs"] = 2
    pretrain(given, tmp_path / "out", progress=False)
    steps = json.loads((tmp_path / "out/run.json").read_text())["steps"]
    for stop in (steps // 2 + 1, steps // 2 + 2):
        # The second time, one process reads the bad line and another goes on.
        given["pretraining_loop"]["max_steps"] = stop
        pretrain(given, tmp_path / "part", resume=True, progress=False)
        told = json.loads((tmp_path / "part/run.json").read_text())["skipped"]
        assert told == {"not UTF-8": 1}


def test_a_run_that_ended_early_goes_on_with_more_patience(lines, tmp_path):
    given = config(lines, max_steps=30, patience=2, eval_every=2)
    given["pretraining"]["optimizer"] = {"@optimizers": "SGD.v1", "learn_rate": 1e-9}
    pretrain(given, tmp_path / "out", progress=False)
    ended = int(rows(tmp_path / "out")[-1]["step"])
    given["pretraining_loop"]["patience"] = 4
    pretrain(given, tmp_path / "out", resume=True, progress=False)
    assert ended < int(rows(tmp_path / "out")[-1]["step"]) < 30


def test_a_row_half_written_comes_again(lines, tmp_path):
    given = config(lines, max_steps=20, log_every=1)
    pretrain(given, tmp_path / "whole", progress=False)
    part = config(lines, max_steps=12, log_every=1)
    pretrain(part, tmp_path / "part", progress=False)
    with (tmp_path / "part/log.csv").open("a") as file:
        file.write("1")
    pretrain(given, tmp_path / "part", resume=True, progress=False)
    assert without_times(tmp_path / "part") == without_times(tmp_path / "whole")


def test_a_run_ends_when_the_dev_loss_does_not_fall(lines, tmp_path):
    given = config(lines, max_steps=0, patience=2, eval_every=2)
    given["pretraining"]["optimizer"] = {"@optimizers": "SGD.v1", "learn_rate": 1e-9}
    pretrain(given, tmp_path / "out", progress=False)
    assert int(rows(tmp_path / "out")[-1]["step"]) < 20


def test_the_learning_rate_follows_its_schedule(lines, tmp_path):
    given = config(lines, log_every=1, max_steps=12, eval_every=100)
    warmup = {"@schedules": "warmup_linear.v1", "warmup_steps": 10, "total_steps": 1000,
              "initial_rate": 0.001}  # fmt: skip
    given["pretraining"]["optimizer"] = {"@optimizers": "Adam.v1", "learn_rate": warmup}
    pretrain(given, tmp_path / "out", progress=False)
    rates = [float(row["learn_rate"]) for row in rows(tmp_path / "out")]
    assert rates[:10] == pytest.approx([0.001 * i / 10 for i in range(10)])


def test_epochs_end_a_run_and_keep_their_models(tmp_path):
    path = text(tmp_path, lines=30)
    given = config(path, max_steps=0, keep=2)
    given["pretraining"] |= {"max_epochs": 3, "n_save_epoch": 1}
    last = pretrain(given, tmp_path / "out", progress=False).read_bytes()
    found = sorted((tmp_path / "out").glob("model[0-9]*"))
    assert [path.name for path in found] == ["model1.bin", "model2.bin"]
    assert found[1].read_bytes() == last
    # An epoch's model holds its updates and none of the next epoch's.
    given["pretraining"]["max_epochs"] = 2
    until = pretrain(given, tmp_path / "until", progress=False).read_bytes()
    assert found[0].read_bytes() == until


def test_spacys_own_objectives_and_others_train_too(lines, tmp_path):
    mapped = {"@architectures": "spacy.PretrainCharacters.v1", "hidden_size": 16,
              "maxout_pieces": 2, "n_characters": 4}  # fmt: skip
    pretrain(config(lines, mapped, max_steps=10), tmp_path / "out", progress=False)
    found = (tmp_path / "out/config.cfg").read_text()
    assert 'loss = "squared"' in found
    losses = [float(row["dev_loss"]) for row in rows(tmp_path / "out")]
    assert losses[-1] < losses[0]


@pytest.fixture
def of_wordpieces(lines, tiny):
    made = config(lines, {"@architectures": "trfnb.PretrainWordpieces.v1"}, max_steps=10)
    made["components"]["tok2vec"] = {
        "factory": "trfnb_transformer",
        "model": {"@architectures": "trfnb.TransformerModel.v1", "name": tiny},
    }
    made["pretraining"]["optimizer"] = {"@optimizers": "Adam.v1", "learn_rate": 0.005}
    return made


@pytest.mark.parametrize("layers", [None, "unfreezing"])
def test_resuming_a_transformer_ends_with_the_same_bytes(layers, of_wordpieces, tmp_path):
    if layers == "unfreezing":
        of_wordpieces["components"]["tok2vec"]["model"]["trainable_layers"] = {
            "@schedules": "compounding.v1", "start": 1.0, "stop": 3.0, "compound": 1.2
        }  # fmt: skip
    whole = pretrain(of_wordpieces, tmp_path / "whole", progress=False)
    part = of_wordpieces.copy()
    part["pretraining_loop"]["max_steps"] = 5
    pretrain(part, tmp_path / "part", progress=False)
    again = pretrain(of_wordpieces, tmp_path / "part", resume=True, progress=False)
    assert again.with_suffix("").joinpath("model.safetensors").read_bytes() == (
        whole.with_suffix("").joinpath("model.safetensors").read_bytes()
    )


def test_a_transformer_learns_characters_too(of_wordpieces, tmp_path):
    of_wordpieces["pretraining"]["objective"] = CHARACTERS
    pretrain(of_wordpieces, tmp_path / "out", progress=False)
    lines = (tmp_path / "out/log.csv").read_text().splitlines()
    assert float(lines[2].split(",")[4]) < float(lines[1].split(",")[4])


@pytest.mark.slow
def test_killed_at_three_moments_and_resumed_the_weights_are_the_same(lines, tmp_path):
    given = config(lines, max_steps=250, save_every=7, eval_every=20, log_every=20)
    given["pretraining"]["max_epochs"] = 1000
    given.to_disk(tmp_path / "config.cfg")

    def command(out, *more):
        paths = map(str, (HERE / "command.py", "pretrain", tmp_path / "config.cfg", tmp_path / out))
        return [sys.executable, *paths, "--quiet", *more]

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
        if process.poll() is None and kills < 3:
            process.kill()
            kills += 1
        process.wait(timeout=120)
        reached.append(Checkpoints(tmp_path / "killed").found()[-1].name)
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert kills == 3, reached
    last = "model-last.bin"
    assert (tmp_path / "killed" / last).read_bytes() == (tmp_path / "whole" / last).read_bytes()


def torchrun(processes, *arguments, cwd):
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={processes}", *map(str, arguments)]  # fmt: skip
    done = subprocess.run(call, env=ENV, capture_output=True, text=True, timeout=200, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_gradients_of_two_processes_are_those_of_one(of_wordpieces, tmp_path):
    given = without_dropout(of_wordpieces)
    given.to_disk(tmp_path / "config.cfg")
    save(tmp_path / "config.cfg", tmp_path / "one")
    torchrun(2, HERE / "first_gradients.py", "config.cfg", "two", cwd=tmp_path)
    one, first, second = (
        dict(np.load(tmp_path / f"{name}.npz")) for name in ("one-0", "two-0", "two-1")
    )
    assert sum(gradient.any() for gradient in one.values()) > 10
    for name, gradient in first.items():
        np.testing.assert_array_equal(gradient, second[name])
        # What nothing reaches has no gradient in one process, and zeros among several.
        expected = one.get(name, np.zeros_like(gradient))
        np.testing.assert_allclose(gradient, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_the_command_under_torchrun_ends_with_the_weights_of_one(lines, tmp_path):
    given = without_dropout(config(lines, max_steps=6))
    given["pretraining"]["optimizer"] = {"@optimizers": "SGD.v1", "learn_rate": 0.1}
    given.to_disk(tmp_path / "config.cfg")
    torchrun(2, HERE / "command.py", "pretrain", "config.cfg", "two", "--quiet", cwd=tmp_path)
    pretrain(load_config(tmp_path / "config.cfg"), tmp_path / "one", progress=False)
    loaded = []
    for name in ("one", "two"):
        setup = set_up(given)
        load_weights(setup.nlp, tmp_path / name / "model-last.bin")
        nodes = setup.model.get_ref("tok2vec").walk()
        loaded.append([node.get_param(name) for node in nodes for name in node.param_names])
    for a, b in zip(*loaded, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert (tmp_path / "two/log.csv").read_text().count("\n") > 1


def without_dropout(given):
    given["pretraining"]["dropout"] = 0.0
    return given
