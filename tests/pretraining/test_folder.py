"""Folders that cannot take a run are refused before anything is loaded."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from safetensors import SafetensorError
from small_runs import config

from trfnb.pretraining import checkpoints, pretrain
from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.folder import folder_problems, room_problems


def test_a_new_or_empty_folder_is_fine(tmp_path):
    assert folder_problems(tmp_path, False) == []
    assert folder_problems(tmp_path / "new/below", False) == []
    assert folder_problems(tmp_path / "new", True) == []
    assert not (tmp_path / "new").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        (problem,) = folder_problems(tmp_path / name, False)
        assert "which is a file" in problem


def test_a_folder_that_nobody_can_write_in():
    (problem,) = folder_problems(Path("/proc/run"), False)
    assert "folder to write in" in problem


def test_what_spacy_left_is_not_overwritten(lines, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/model0.bin").write_bytes(b"spaCy's")
    for resume, said in ((False, "a run in it. Name another"), (True, "another program left")):
        with pytest.raises(PretrainingError, match=said):
            pretrain(config(lines), tmp_path / "out", resume=resume, progress=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model0.bin"]


def test_a_full_disk_is_seen_first(lines, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10_000))
    assert "expected room" in room_problems(tmp_path / "new", 1_000_000, 3)[0]
    assert room_problems(tmp_path / "new", 100, 3) == []
    with pytest.raises(PretrainingError, match="Make room"):
        pretrain(config(lines), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_later_leaves_no_half_checkpoint(lines, tmp_path, monkeypatch):
    given = config(lines, max_steps=9, save_every=4)
    whole = pretrain(given, tmp_path / "whole", progress=False).read_bytes()
    save, calls = checkpoints.save_file, []

    def full(arrays, path):
        calls.append(path)
        if len(calls) > 1:
            raise SafetensorError("No space left on device")
        save(arrays, path)

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match=r"checkpoint-8.*No space left.*--resume"):
        pretrain(given, tmp_path / "part", progress=False)
    assert not list((tmp_path / "part").glob(".*"))
    monkeypatch.undo()
    assert pretrain(given, tmp_path / "part", resume=True, progress=False).read_bytes() == whole
