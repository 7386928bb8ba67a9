"""Whether a folder can take a run, asked before anything is loaded."""

import shutil
import tempfile
from pathlib import Path

from trfnb.pretraining.checkpoints import Checkpoints

# What a run, or spacy pretrain, leaves.
_TRACES = ("log.csv", "log.jsonl", "model[0-9]*.bin", "model-last*", "model-best*")


def folder_problems(folder: Path, resume: bool) -> list[str]:
    """Return why a folder cannot take a run; empty if it can."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        return [f"{folder} expected a folder, got {there}, which is a file. Name another."]
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return [
            f"{folder} expected a folder to write in, got none in {there} ({error.strerror}). "
            "Name another."
        ]
    found = sorted(path.name for trace in _TRACES for path in folder.glob(trace))
    ours = bool(Checkpoints(folder).found()) or "log.csv" in found
    if (ours or found) and not resume:
        return [
            f"{folder} expected a new or empty folder, got one with a run in it. "
            + ("Resume that run (--resume), or name" if ours else "Name")
            + " another folder."
        ]
    if found and not ours:
        return [
            f"{folder} expected a run to resume, got what another program left "
            f"({', '.join(found[:3])}). Name another folder."
        ]
    return []


def room_problems(folder: Path, weights: int, keep: int) -> list[str]:
    """Return whether a disk is too full for a run.

    Args:
        folder: Where the run writes.
        weights: Bytes of the weights.
        keep: How many checkpoints are kept.
    """
    # Adam keeps two moments and an average of each weight; one checkpoint more while writing, and
    # two models, each written aside first.
    need = weights * (4 * (keep + 1) + 3)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free >= need:
        return []
    return [
        f"{folder} expected room for about {need / 1e6:,.0f} MB of checkpoints and weights, got "
        f"{free / 1e6:,.0f} MB. Make room, name another folder, or lower [pretraining_loop] keep."
    ]
