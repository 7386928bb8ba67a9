"""Checkpoints: written aside, renamed when whole, the last few kept."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from thinc.api import Model, Optimizer

from trfnb.pretraining.state import capture, restore

_PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run.

    Attributes:
        folder: The run's.
        keep: How many to keep.
    """

    folder: Path
    keep: int = 3

    def found(self) -> list[Path]:
        """Return the whole checkpoints, oldest first."""
        there = [p for p in self.folder.glob(f"{_PREFIX}*") if p.name[len(_PREFIX) :].isdigit()]
        return sorted(there, key=lambda path: int(path.name[len(_PREFIX) :]))

    def save(self, step: int, model: Model, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Write a checkpoint; a process that dies while writing leaves the ones before as is.

        One of the same step is left: the same run wrote it, so it holds the same.

        Raises:
            OSError: the disk is full, or cannot be written for another reason.
        """
        final, aside = self.folder / f"{_PREFIX}{step}", self.folder / f".{_PREFIX}{step}.part"
        if final.exists():
            return
        for left in self.folder.glob(f".{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        aside.mkdir(parents=True)
        arrays, updates = capture(model, optimizer)
        try:
            save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, aside / "arrays")
            (aside / "state.json").write_text(json.dumps(state | {"updates": updates}))
            for path in aside.iterdir():
                _flush(path)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise OSError(
                f"{final}: a checkpoint cannot be written ({error}). Make room, and go on with "
                "--resume."
            ) from error
        os.replace(aside, final)
        for old in self.found()[: -self.keep]:
            _remove(old)

    def state(self) -> dict[str, Any] | None:
        """Return what the latest checkpoint tells of its run, or None where there is none."""
        found = self.found()
        if not found:
            return None
        state: dict[str, Any] = json.loads((found[-1] / "state.json").read_text())
        return state

    def load(self, model: Model, optimizer: Optimizer) -> None:
        """Restore the latest checkpoint.

        Raises:
            ValueError: it is of another model.
        """
        updates = json.loads((self.found()[-1] / "state.json").read_text())["updates"]
        restore(model, optimizer, load_file(self.found()[-1] / "arrays"), updates)


def _remove(path: Path) -> None:
    """Remove a folder under another name: it is never there in part."""
    hidden = path.with_name(f".{path.name}.old")
    os.replace(path, hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def write_aside(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(content)
    _flush(aside)
    os.replace(aside, path)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
