"""What may be resumed, and where a run may write."""

import errno
import json
import logging
import shutil
from collections import namedtuple
from contextlib import contextmanager

import pytest
from safetensors.numpy import load_file, save_file
from small_runs import TOK2VEC, config

from trfnb.pretraining import PretrainingError, pretrain, weights
from trfnb.pretraining.weights import checkpoint_state, checkpoints


def test_what_spacy_left_is_not_overwritten(lines, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/model0.bin").write_bytes(b"spaCy's")
    for resume, said in (
        (False, "expected a new or empty folder, got a folder with model0.bin"),
        (True, "expected a run to resume"),
    ):
        with pytest.raises(PretrainingError, match=said):
            pretrain(config(lines), tmp_path / "out", resume=resume, progress=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model0.bin"]


def test_a_full_disk_is_seen_first(lines, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10_000))
    with pytest.raises(PretrainingError, match=r"expected room for about .* Make room"):
        pretrain(config(lines), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_later_is_told_with_path_and_resume(lines, tmp_path, monkeypatch):
    given = config(lines, max_steps=9, save_every=4)
    whole = pretrain(given, tmp_path / "whole", progress=False).read_bytes()
    save, calls = weights.save, []

    def full(arrays, metadata):
        calls.append(metadata)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(arrays, metadata)

    monkeypatch.setattr(weights, "save", full)
    with pytest.raises(OSError, match=r"part: the disk is full \(No space left.*--resume"):
        pretrain(given, tmp_path / "part", progress=False)
    assert not list((tmp_path / "part").glob(".*"))
    monkeypatch.undo()
    assert pretrain(given, tmp_path / "part", resume=True, progress=False).read_bytes() == whole


@contextmanager
def said(caplog):
    """Let the log of spaCy's logger, which hands nothing on, be seen."""
    logger = logging.getLogger("spacy")
    logger.addHandler(caplog.handler)
    try:
        yield
    finally:
        logger.removeHandler(caplog.handler)


def test_a_schedule_of_batch_sizes_cannot_be_resumed(lines, tmp_path):
    given = config(lines, max_steps=4)
    size = {"@schedules": "compounding.v1", "start": 50, "stop": 150, "compound": 1.1}
    given["pretraining"]["batcher"]["size"] = size
    pretrain(given, tmp_path / "out", progress=False)
    with pytest.raises(PretrainingError, match="got a schedule"):
        pretrain(given, tmp_path / "out", resume=True, progress=False)


def test_another_layer_is_told_by_its_settings(lines, tmp_path):
    pretrain(config(lines, max_steps=4), tmp_path / "out", progress=False)
    wide = config(lines, tok2vec=TOK2VEC | {"width": 24}, max_steps=8)
    with pytest.raises(PretrainingError, match=r"got another components\.tok2vec\.model\.width"):
        pretrain(wide, tmp_path / "out", resume=True, progress=False)


def test_another_text_is_not_gone_on_with(lines, tmp_path):
    pretrain(config(lines, max_steps=4), tmp_path / "out", progress=False)
    lines.write_text(lines.read_text() + "one line more\n")
    with pytest.raises(PretrainingError, match=r"got another text text\.txt"):
        pretrain(config(lines, max_steps=8), tmp_path / "out", resume=True, progress=False)


def test_another_number_of_threads_is_told(lines, tmp_path, caplog):
    pretrain(config(lines, max_steps=4), tmp_path / "out", progress=False)
    (path,) = checkpoints(tmp_path / "out")
    state = checkpoint_state(path)
    state["identity"]["threads"] = 64
    save_file(load_file(path), path, {"state": json.dumps(state)})
    with said(caplog):
        pretrain(config(lines, max_steps=8), tmp_path / "out", resume=True, progress=False)
    assert "had 64 threads" in caplog.text


def test_a_folder_in_use_is_not_overwritten(lines, tmp_path):
    pretrain(config(lines, max_steps=4), tmp_path / "out", progress=False)
    with pytest.raises(PretrainingError, match="--resume"):
        pretrain(config(lines), tmp_path / "out", progress=False)
    other = config(lines, max_steps=8)
    other["pretraining"]["dropout"] = 0.5
    with pytest.raises(PretrainingError, match=r"first run, got another pretraining\.dropout"):
        pretrain(other, tmp_path / "out", resume=True, progress=False)
