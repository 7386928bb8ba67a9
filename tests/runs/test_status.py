"""Files written whole or not at all, on a full disk too."""

import errno
import os
from pathlib import Path

import pytest

from trfnb.runs import status as module
from trfnb.runs.reserve import FILE, set_aside, write_despite_full_disk
from trfnb.runs.status import State, Status, read_status, write_text


def test_a_status_comes_back_as_it_was(tmp_path: Path) -> None:
    written = Status("r", "id", {"seed": 1}, state=State.TIMED_OUT, started=1.0, ended=3.5)
    written.write(tmp_path)
    assert read_status(tmp_path) == written
    assert written.seconds == 2.5
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]
    (tmp_path / "status.json").write_text("{")
    assert read_status(tmp_path) is None


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    write_text(tmp_path / "x", "old")
    monkeypatch.setattr(module.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "")))
    with pytest.raises(OSError, match="Errno 5"):
        write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_takes_the_reserve(tmp_path: Path, monkeypatch) -> None:
    set_aside(tmp_path)
    real = os.fsync

    def full_while_reserved(handle: int) -> None:
        if (tmp_path / FILE).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(module.os, "fsync", full_while_reserved)
    write_despite_full_disk(tmp_path / "x", "how it ended")
    assert (tmp_path / "x").read_text() == "how it ended"
