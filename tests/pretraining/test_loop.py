import csv
import json
import logging
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import spacy
from small_runs import BODY, config, text
from spacy.util import load_config

from trfnb.pretraining import load_weights, pretrain
from trfnb.pretraining.checkpoints import Checkpoints
from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.loop import Run


def rows(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def without_times(folder):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(folder)]


@contextmanager
def said(caplog):
    """Let the log of spaCy's logger, which hands nothing on, be seen."""
    logger = logging.getLogger("spacy")
    logger.addHandler(caplog.handler)
    try:
        yield
    finally:
        logger.removeHandler(caplog.handler)


def test_a_run_leaves_log_weights_and_checkpoints(lines, tmp_path):
    out = tmp_path / "out"
    path = pretrain(config(lines, keep=2), out, progress=False)
    assert path == out / "model-last.bin"
    found = rows(out)
    assert list(found[0]) == ["step", "words", "seconds", "loss", "dev_loss", "learn_rate"]
    assert [int(row["step"]) for row in found] == [5, 10, 15, 20]
    dev = [float(row["dev_loss"]) for row in found]
    assert dev[-1] < dev[0]
    assert [p.name for p in Checkpoints(out).found()] == ["checkpoint-16", "checkpoint-20"]
    assert not list(out.glob(".*"))
    assert load_config(out / "config.cfg")["pretraining"]["max_epochs"] == 50
    assert (out / "model-best.bin").exists()


def test_the_result_loads_as_spacys_does(lines, tmp_path):
    path = pretrain(config(lines), tmp_path / "out", progress=False)
    nlp = spacy.util.load_model_from_config(
        load_config(tmp_path / "out/config.cfg"), auto_fill=True
    )
    nlp.config["initialize"]["init_tok2vec"] = str(path)
    nlp.initialize()
    by_spacy = nlp.get_pipe("tok2vec").model.to_bytes()
    fresh = spacy.util.load_model_from_config(nlp.config, auto_fill=True)
    fresh.config["initialize"]["init_tok2vec"] = None
    fresh.initialize()
    before = fresh.get_pipe("tok2vec").model.to_bytes()
    report = load_weights(fresh, path)
    assert report.whole
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
    assert [p.name for p in Checkpoints(tmp_path / "out").found()] == [
        "checkpoint-4",
        "checkpoint-8",
    ]


def test_a_schedule_of_batch_sizes_cannot_be_resumed(lines, tmp_path):
    given = config(lines, max_steps=4)
    size = {"@schedules": "compounding.v1", "start": 50, "stop": 150, "compound": 1.1}
    given["pretraining"]["batcher"]["size"] = size
    pretrain(given, tmp_path / "out", progress=False)
    with pytest.raises(PretrainingError, match="got a schedule"):
        pretrain(given, tmp_path / "out", resume=True, progress=False)


def test_a_checkpoint_half_written_is_not_used(lines, tmp_path):
    given = config(lines, max_steps=8)
    whole = pretrain(given, tmp_path / "out", progress=False).read_bytes()
    (tmp_path / "out/.checkpoint-12.part").mkdir()
    (tmp_path / "out/.checkpoint-12.part/arrays").write_bytes(b"half")
    shutil.rmtree(tmp_path / "out/checkpoint-8")
    again = pretrain(given, tmp_path / "out", resume=True, progress=False)
    assert again.read_bytes() == whole


def test_resuming_a_finished_run_changes_nothing(lines, tmp_path):
    given = config(lines, max_steps=8)
    whole = pretrain(given, tmp_path / "out", progress=False).read_bytes()
    assert pretrain(given, tmp_path / "out", resume=True, progress=False).read_bytes() == whole


def test_an_interrupted_run_resumes_exactly(lines, tmp_path, monkeypatch):
    given = config(lines, max_steps=12, save_every=100)
    whole = pretrain(given, tmp_path / "whole", progress=False)
    update = Run.update

    def interrupted(run, docs):
        update(run, docs)
        if run.progress.step == 7:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(given, tmp_path / "part", progress=False)
    assert [p.name for p in Checkpoints(tmp_path / "part").found()] == ["checkpoint-7"]
    monkeypatch.undo()
    again = pretrain(given, tmp_path / "part", resume=True, progress=False)
    assert again.read_bytes() == whole.read_bytes()


def test_lines_left_out_are_told_once(tmp_path):
    path = tmp_path / "text.txt"
    good = text(tmp_path, 30, "good.txt").read_bytes()
    path.write_bytes(good + b"\xff\xfe\n" + good)
    given = config(path, max_steps=0, shard_size=300)
    given["pretraining"]["max_epochs"] = 3
    pretrain(given, tmp_path / "out", progress=False)
    assert json.loads((tmp_path / "out/run.json").read_text())["skipped"] == {"not UTF-8": 1}


def test_lines_left_out_are_told_in_the_middle_of_a_later_pass(tmp_path):
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


def test_patience_needs_a_dev_loss(tmp_path):
    refused(config(text(tmp_path, lines=5), patience=2), tmp_path, "dev_words", "patience to 0")


def test_a_row_half_written_comes_again(lines, tmp_path):
    given = config(lines, max_steps=20, log_every=1)
    pretrain(given, tmp_path / "whole", progress=False)
    part = config(lines, max_steps=12, log_every=1)
    pretrain(part, tmp_path / "part", progress=False)
    with (tmp_path / "part/log.csv").open("a") as file:
        file.write("1")
    pretrain(given, tmp_path / "part", resume=True, progress=False)
    assert without_times(tmp_path / "part") == without_times(tmp_path / "whole")


def test_a_process_killed_while_it_removes_checkpoints(lines, tmp_path, monkeypatch):
    given = config(lines, max_steps=12, save_every=1, keep=1)
    whole = pretrain(given, tmp_path / "whole", progress=False).read_bytes()

    def killed(path, **options):
        if "checkpoint-" in str(path) and list(Path(path).glob("state.json")):
            (Path(path) / "state.json").unlink()
            raise SystemError("killed")

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(SystemError):
        pretrain(given, tmp_path / "part", progress=False)
    monkeypatch.undo()
    assert pretrain(given, tmp_path / "part", resume=True, progress=False).read_bytes() == whole
    assert not list((tmp_path / "part").glob(".*"))


def test_another_body_is_told_by_its_settings(lines, tmp_path):
    pretrain(config(lines, max_steps=4), tmp_path / "out", progress=False)
    wide = config(lines, body=BODY | {"width": 24}, max_steps=8)
    with pytest.raises(PretrainingError, match=r"got another components\.tok2vec\.model\.width"):
        pretrain(wide, tmp_path / "out", resume=True, progress=False)


def test_another_text_is_not_gone_on_with(lines, tmp_path):
    pretrain(config(lines, max_steps=4), tmp_path / "out", progress=False)
    lines.write_text(lines.read_text() + "one line more\n")
    with pytest.raises(PretrainingError, match=r"other names or sizes \(text\.txt\)"):
        pretrain(config(lines, max_steps=8), tmp_path / "out", resume=True, progress=False)


def test_another_number_of_threads_is_told(lines, tmp_path, caplog):
    pretrain(config(lines, max_steps=4), tmp_path / "out", progress=False)
    (path,) = Checkpoints(tmp_path / "out").found()
    state = json.loads((path / "state.json").read_text())
    state["identity"]["threads"] = [64, 1]
    (path / "state.json").write_text(json.dumps(state))
    with said(caplog):
        pretrain(config(lines, max_steps=8), tmp_path / "out", resume=True, progress=False)
    assert "threads and processes [64, 1]" in caplog.text


def test_a_config_for_both_commands_does_not_load_what_is_made_here(lines, tmp_path):
    given = config(lines, max_steps=4)
    plain = pretrain(given, tmp_path / "plain", progress=False).read_bytes()
    for name in ("nowhere.bin", str(tmp_path / "plain/model-last.bin")):
        given["initialize"] = {
            "init_tok2vec": name,
            "after_init": {"@callbacks": "trfnb.LoadPretrained.v1", "path": name},
        }
        out = tmp_path / Path(name).stem
        assert pretrain(given, out, progress=False).read_bytes() == plain


def test_a_run_ends_when_the_dev_loss_does_not_fall(lines, tmp_path):
    given = config(lines, max_steps=0, patience=2, eval_every=2)
    given["pretraining"]["optimizer"] = {"@optimizers": "SGD.v1", "learn_rate": 1e-9}
    pretrain(given, tmp_path / "out", progress=False)
    assert int(rows(tmp_path / "out")[-1]["step"]) < 20


def test_the_rate_warms_up(lines, tmp_path):
    given = config(lines, log_every=1, warmup_steps=10, max_steps=12, eval_every=100)
    pretrain(given, tmp_path / "out", progress=False)
    rates = [float(row["learn_rate"]) for row in rows(tmp_path / "out")]
    assert rates == pytest.approx([0.001 * min(1, i / 10) for i in range(1, 13)])


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


def refused(given, folder, *said):
    with pytest.raises(PretrainingError) as caught:
        pretrain(given, folder / "out", progress=False)
    for one in said:
        assert one in str(caught.value)
    assert not (folder / "out").exists()


def test_all_bad_settings_are_named_at_once(lines, tmp_path):
    given = config(lines, steps=3, keep=0, precision="fp8", shuffle="yes", max_seconds=-1)
    refused(given, tmp_path, "steps", "keep", "precision", "shuffle", "max_seconds")


@pytest.mark.parametrize(
    ("section", "changes", "said"),
    [
        ("pretraining", {"component": "ner"}, "component expected one of the pipeline's (tok2vec)"),
        ("pretraining", {"component": "sentencizer"}, "got 'sentencizer'"),
        ("pretraining", {"layer": "tok2vec"}, "layer expected one of"),
        ("corpora.pretrain", {"path": "nowhere.txt"}, "no such path"),
        ("corpora.pretrain", {"min_length": 1000}, "got no batch"),
        ("pretraining", {"corpus": "corpora.novels"}, "got 'corpora.novels'"),
        ("pretraining", {"max_epohcs": 3}, "got max_epohcs"),
    ],
)
def test_what_cannot_be_pretrained_is_said_first(section, changes, said, lines, tmp_path):
    given = config(lines)
    block = given
    for name in section.split("."):
        block = block[name]
    block |= changes
    refused(given, tmp_path, said)


def test_components_without_vectors_of_tokens(lines, tmp_path):
    given = config(lines)
    given["nlp"]["pipeline"] = ["textcat", "sentencizer"]
    given["components"] = {
        "textcat": {"factory": "textcat"},
        "sentencizer": {"factory": "sentencizer"},
    }
    given["pretraining"]["component"] = "sentencizer"
    refused(given, tmp_path, "has no model")
    given["pretraining"]["component"] = "textcat"
    refused(given, tmp_path, "expected a layer that maps docs to one array of token vectors")


def test_the_body_inside_a_task_is_found(lines, tmp_path):
    given = config(lines, max_steps=2)
    given["nlp"]["pipeline"] = ["tagger"]
    given["components"] = {
        "tagger": {
            "factory": "tagger",
            "model": {"@architectures": "spacy.Tagger.v2", "tok2vec": dict(BODY)},
        }
    }
    given["pretraining"] |= {"component": "tagger", "layer": "tok2vec"}
    assert pretrain(given, tmp_path / "out", progress=False).exists()


def test_a_listener_stands_for_what_it_listens_to(lines, tmp_path):
    given = config(lines, max_steps=2)
    given["nlp"]["pipeline"] = ["tok2vec", "tagger"]
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 16, "upstream": "*"}
    given["components"]["tagger"] = {
        "factory": "tagger", "model": {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}
    }  # fmt: skip
    given["pretraining"] |= {"component": "tagger", "layer": "tok2vec"}
    by_listener = pretrain(given, tmp_path / "out", progress=False).read_bytes()
    given["pretraining"] |= {"component": "tok2vec", "layer": ""}
    assert pretrain(given, tmp_path / "out2", progress=False).read_bytes() == by_listener


def test_a_folder_in_use_is_not_overwritten(lines, tmp_path):
    pretrain(config(lines, max_steps=4), tmp_path / "out", progress=False)
    with pytest.raises(PretrainingError, match="--resume"):
        pretrain(config(lines), tmp_path / "out", progress=False)
    other = config(lines, max_steps=8)
    other["pretraining"]["dropout"] = 0.5
    with pytest.raises(PretrainingError, match=r"first run, got another pretraining\.dropout"):
        pretrain(other, tmp_path / "out", resume=True, progress=False)
