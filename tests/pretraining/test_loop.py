import csv
import multiprocessing
import os
import random
import time

import numpy as np
import pytest
from small_runs import CHARACTERS, config
from spacy.util import load_config, load_model_from_config
from thinc.api import Model

from trfnb.files import locked
from trfnb.pretraining import PretrainingError, load_weights, pretrain
from trfnb.pretraining.weights import checkpoints


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
    assert [p.stem for p in checkpoints(out)] == ["checkpoint-16", "checkpoint-20"]
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


def test_resuming_ends_with_the_same_bytes(lines, tmp_path):
    schedule = {"@schedules": "warmup_linear.v1", "warmup_steps": 5, "total_steps": 40,
                "initial_rate": 0.01}  # fmt: skip
    given = config(lines, max_steps=16)
    given["pretraining"]["optimizer"] = {"@optimizers": "Adam.v1", "learn_rate": schedule}
    whole = pretrain(given, tmp_path / "whole", progress=False)
    expected = without_times(tmp_path / "whole")
    for stop in (1, 5, 7):
        part, out = given.copy(), tmp_path / str(stop)
        part["pretraining_loop"] |= {"max_steps": stop, "save_every": 3}
        pretrain(part, out, progress=False)
        resumed = pretrain(given, out, resume=True, progress=False)
        assert resumed.read_bytes() == whole.read_bytes()
        assert without_times(out) == expected


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
    assert [p.stem for p in checkpoints(tmp_path / "out")] == [
        "checkpoint-4",
        "checkpoint-8",
    ]


def test_a_finished_run_stays_and_a_checkpoint_half_written_is_not_used(lines, tmp_path):
    given = config(lines, max_steps=8)
    whole = pretrain(given, tmp_path / "out", progress=False).read_bytes()
    assert pretrain(given, tmp_path / "out", resume=True, progress=False).read_bytes() == whole
    last = tmp_path / "out/checkpoint-8.safetensors"
    last.rename(tmp_path / f"out/.{last.name}.part").write_bytes(b"half")
    again = pretrain(given, tmp_path / "out", resume=True, progress=False)
    assert again.read_bytes() == whole
    assert not list((tmp_path / "out").glob(".*"))


def test_a_run_that_ended_early_goes_on_with_more_patience(lines, tmp_path):
    given = config(lines, max_steps=30, patience=2, eval_every=2)
    given["pretraining"]["optimizer"] = {"@optimizers": "SGD.v1", "learn_rate": 1e-9}
    pretrain(given, tmp_path / "out", progress=False)
    ended = int(rows(tmp_path / "out")[-1]["step"])
    given["pretraining_loop"]["patience"] = 4
    pretrain(given, tmp_path / "out", resume=True, progress=False)
    assert ended < int(rows(tmp_path / "out")[-1]["step"]) < 30


def test_a_loss_that_is_no_number_ends_the_run(lines, tmp_path):
    given = config(lines, max_steps=30)
    given["pretraining"]["optimizer"] = {"@optimizers": "SGD.v1", "learn_rate": 1e20}
    with pytest.raises(PretrainingError, match=r"finite loss, got (nan|inf) in update \d+\. Lower"):
        pretrain(given, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "model-last.bin").exists()


def test_a_text_of_words_that_changed_is_another_run(lines, tmp_path):
    counted = tmp_path / "counted.txt"
    counted.write_text("the ships of the banks\n")
    words = {"@architectures": "trfnb.PretrainWords.v1", "text": str(counted), "hidden_size": 8}
    given = config(lines, words, max_steps=2)
    pretrain(given, tmp_path / "out", progress=False)
    counted.write_text("the games of the plans, again\n")
    with pytest.raises(PretrainingError, match=r"got another words .*counted\.txt"):
        pretrain(given, tmp_path / "out", resume=True, progress=False)


def test_two_runs_do_not_share_a_folder_and_a_dead_ones_lock_is_none(lines, tmp_path):
    given, out = config(lines, max_steps=2), tmp_path / "out"
    pretrain(given, out, progress=False)
    for name in (".lock", ".holder"):  # left by a process that was killed
        (out / name).write_text("process 1")
    with (
        locked(out, "pretraining"),
        pytest.raises(BlockingIOError, match=rf"Another pretraining .*out: process {os.getpid()} "),
    ):
        pretrain(given, out, resume=True, progress=False)
    pretrain(given, out, resume=True, progress=False)
    assert not list(out.glob(".*"))


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


def test_spacys_own_objectives_and_others_train_too(lines, tmp_path):
    mapped = {"@architectures": "spacy.PretrainCharacters.v1", "hidden_size": 16,
              "maxout_pieces": 2, "n_characters": 4}  # fmt: skip
    pretrain(config(lines, mapped, max_steps=10), tmp_path / "out", progress=False)
    found = (tmp_path / "out/config.cfg").read_text()
    assert 'loss = "squared"' in found
    losses = [float(row["dev_loss"]) for row in rows(tmp_path / "out")]
    assert losses[-1] < losses[0]


def test_ctrl_c_leaves_a_checkpoint_of_the_last_whole_update(lines, tmp_path, monkeypatch):
    given = config(lines, max_steps=12, save_every=3)
    whole = pretrain(given, tmp_path / "whole", progress=False)
    began, step = Model.begin_update, Model.finish_update

    def interrupted(model, *args):
        if model.name == "pretraining" and interrupted.counted == 7:
            raise KeyboardInterrupt  # a real signal may reach a garbage collector's callback
        interrupted.counted += model.name == "pretraining"
        return interrupted.calls(model, *args)

    # Before the eighth update's gradient, and in the middle of its change.
    for name, calls, left in (
        ("begin_update", began, "checkpoint-7"),
        ("finish_update", step, "checkpoint-6"),
    ):
        interrupted.counted, interrupted.calls = 0, calls
        out = tmp_path / name
        with monkeypatch.context() as patched:
            patched.setattr(Model, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                pretrain(given, out, progress=False)
        assert checkpoints(out)[-1].stem == left
        again = pretrain(given, out, resume=True, progress=False)
        assert again.read_bytes() == whole.read_bytes()
        assert without_times(out) == without_times(tmp_path / "whole")


def test_killed_three_times_and_resumed_the_weights_are_the_same(lines, tmp_path):
    given = config(lines, max_steps=90, save_every=7, eval_every=20, log_every=20)
    whole = pretrain(given, tmp_path / "whole", progress=False)
    out, rng = tmp_path / "killed", random.Random(os.getpid())
    fork = multiprocessing.get_context("fork")
    for _ in range(3):
        start = checkpoints(out)[-1:]
        process = fork.Process(
            target=pretrain, args=(given, out), kwargs={"resume": True, "progress": False}
        )
        process.start()
        while process.is_alive() and checkpoints(out)[-1:] == start:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.2)
        process.kill()
        process.join()
        assert checkpoints(out)[-1:] != start
    again = pretrain(given, out, resume=True, progress=False)
    assert again.read_bytes() == whole.read_bytes()
    assert without_times(out) == without_times(tmp_path / "whole")


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
