"""Checkpoints: all that the next update depends on, and the identity of the run it belongs to.

A checkpoint is one safetensors file, ``checkpoint-STEP.safetensors``, written atomically: weights
and the optimiser's moments by name, and a few numbers as JSON in its metadata. Masks and dropout
follow from the seed and the update's number, so that no random state is needed.
"""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save
from spacy.util import dict_to_dot
from thinc.api import Config, Model, Optimizer

from trfnb.files import atomic_write
from trfnb.flow.encoder import EncoderShim
from trfnb.pretraining.config import SECTION
from trfnb.pretraining.text import PretrainingError, text_files

logger = logging.getLogger("spacy")

_MOMENTS = ("mom1", "mom2", "averages")
# Settings that may change when a run is resumed: its ends and its pace.
_FREE = {
    "pretraining.max_epochs",
    *(f"{SECTION}.{n}" for n in ("max_steps", "max_seconds", "patience")),
    *(f"{SECTION}.{n}" for n in ("keep", "save_every", "workers")),
}


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
        """Return the checkpoints, oldest first."""
        paths = self.folder.glob("checkpoint-*.safetensors")
        return sorted(paths, key=lambda path: int(path.stem.partition("-")[2]))

    def save(self, step: int, model: Model, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Write a checkpoint, and remove the oldest ones."""
        arrays: dict[str, NDArray[Any]] = {}
        updates: dict[str, int] = {}
        for name, key, value, _ in parameters(model):
            arrays[f"weights/{name}"] = to_numpy(value)
            for moment in _MOMENTS:
                held = getattr(optimizer, moment) or {}
                if key in held:
                    arrays[f"{moment}/{name}"] = to_numpy(held[key])
            if key in optimizer.nr_update:
                updates[name] = optimizer.nr_update[key]
        metadata = {"state": json.dumps(state | {"updates": updates})}
        with atomic_write(self.folder / f"checkpoint-{step}.safetensors", "wb") as file:
            file.write(save(arrays, metadata))
        for old in self.found()[: -self.keep]:
            old.unlink()

    def state(self) -> dict[str, Any] | None:
        """Return what the latest checkpoint tells of its run, or None where there is none."""
        if not self.found():
            return None
        with safe_open(self.found()[-1], framework="np") as file:
            state: dict[str, Any] = json.loads(file.metadata()["state"])
        return state

    def load(self, model: Model, optimizer: Optimizer, updates: dict[str, int]) -> None:
        """Put back the weights and moments of the latest checkpoint.

        Raises:
            PretrainingError: it is of another model.
        """
        path = self.found()[-1]
        arrays = load_file(path)
        ops: Any = model.ops
        shapes = {f"weights/{n}": tuple(value.shape) for n, _, value, _ in parameters(model)}
        saved = {n: one.shape for n, one in arrays.items() if n.startswith("weights/")}
        if different := sorted(n for n, _ in shapes.items() ^ saved.items()):
            raise PretrainingError(
                f"{path}: expected the parameters of the model that the config builds, got others: "
                f"{', '.join(different[:5])}. Resume with the config of the first run."
            )
        for name, key, value, _ in parameters(model):
            if isinstance(value, torch.Tensor):
                value.data.copy_(torch.from_numpy(arrays[f"weights/{name}"]))
            else:
                value[...] = ops.asarray(arrays[f"weights/{name}"])
            for moment in _MOMENTS:
                held = getattr(optimizer, moment)
                if f"{moment}/{name}" in arrays and held is not None:
                    held[key] = ops.asarray(arrays[f"{moment}/{name}"])
            if name in updates:
                optimizer.nr_update[key] = updates[name]


def parameters(model: Model) -> Iterator[tuple[str, tuple[int, str], Any, Any]]:
    """Yield each parameter's name, its key in an optimiser, its value and gradient.

    Names are places in the model: they hold in another process, where Thinc's keys, which count
    the layers that a process made, do not. Value and gradient are Thinc's or torch's, live.
    """
    for place, node in enumerate(model.walk()):
        for name in node.param_names:
            if node.has_param(name):
                gradient = node.get_grad(name) if node.has_grad(name) else None
                yield f"{place}.{name}", (node.id, name), node.get_param(name), gradient
        for number, shim in enumerate(node.shims):
            if isinstance(getattr(shim, "_model", None), torch.nn.Module):
                for name, value in shim._model.named_parameters():
                    yield f"{place}.{number}.{name}", (shim.id, name), value, value.grad


def to_numpy(value: Any) -> NDArray[Any]:
    """Return a copy of an array of any library."""
    if isinstance(value, torch.Tensor):
        return np.array(value.detach().cpu().numpy())
    return np.array(value.get() if hasattr(value, "get") else value)


def replay_schedules(model: Model, optimizer: Optimizer, updates: int) -> None:
    """Step all that follows a schedule as often as the updates before did."""
    scheduled = [node.attrs["factor"] for node in model.walk() if "factor" in node.attrs]
    shims = [shim for node in model.walk() for shim in node.shims]
    scheduled += [shim.trainable for shim in shims if isinstance(shim, EncoderShim)]
    for _ in range(updates):
        optimizer.step_schedules()
        for one in scheduled:
            one.step()


def identity(config: Config, text: Path | None, processes: int) -> dict[str, Any]:
    """Return what must be the same when a run is resumed: settings, text, and threads.

    Args:
        config: The whole config, with values in the place of variables.
        text: A file or folder; None where a user's own reader gives the text.
        processes: Of torchrun.
    """
    settings = {name: one for name, one in dict_to_dot(config).items() if name not in _FREE}
    sizes: dict[str, int] = {}
    if text is not None:
        root = text if text.is_dir() else text.parent
        sizes = {str(file.relative_to(root)): file.stat().st_size for file in text_files(text)}
    found = {"settings": settings, "text": sizes, "threads": [torch.get_num_threads(), processes]}
    # As JSON gives it back: numbers as keys become text, tuples lists.
    return dict(json.loads(json.dumps(found, default=str)))


def check_identity(first: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Compare with the run that began in a folder.

    Raises:
        PretrainingError: the config or the text is another one.
    """
    if changed := _different(first["settings"], now["settings"]):
        raise PretrainingError(
            f"{folder}: expected the config of the first run, got another "
            f"{', '.join(changed[:6])}. Give {folder / 'config.cfg'}, or pretrain into another "
            "folder."
        )
    if changed := _different(first["text"], now["text"]):
        raise PretrainingError(
            f"{folder}: expected the text of the first run, got files of other names or sizes "
            f"({', '.join(changed[:3])}). Give that text, or pretrain into another folder."
        )
    if first["threads"] != now["threads"]:
        logger.warning(
            "%s: the first run had threads and processes %s, this one has %s: sums are rounded "
            "in another order, and the weights will differ a little from an unbroken run's.",
            folder,
            first["threads"],
            now["threads"],
        )


def folder_problems(folder: Path, resume: bool) -> list[str]:
    """Return why a folder cannot take a run; empty if it can."""
    there = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return [
            f"{folder} expected a folder to write in, got {there}, which cannot take files "
            f"({error.strerror}). Name another."
        ]
    ours = bool(Checkpoints(folder).found()) or (folder / "log.csv").exists()
    if ours and not resume:
        return [
            f"{folder} expected a new or empty folder, got one with a run in it. Resume that run "
            "(--resume), or name another folder."
        ]
    traces = ("log.jsonl", "model[0-9]*.bin", "model-last*", "model-best*")
    found = sorted(path.name for trace in traces for path in folder.glob(trace))
    if found and not ours:
        return [
            f"{folder} expected a new folder or a run to resume, got what another program left "
            f"({', '.join(found[:3])}). Name another folder."
        ]
    return []


def room_problems(folder: Path, model: Model, keep: int) -> list[str]:
    """Return whether a disk is too full for a run that keeps so many checkpoints."""
    weights = sum(int(np.prod(value.shape)) * 4 for _, _, value, _ in parameters(model))
    # Adam keeps two moments and an average of each weight; one checkpoint more while writing, and
    # two models, each written aside first.
    need, free = weights * (4 * (keep + 1) + 3), shutil.disk_usage(_existing(folder)).free
    if free >= need:
        return []
    return [
        f"{folder} expected room for about {need / 1e6:,.0f} MB of checkpoints and weights, got "
        f"{free / 1e6:,.0f} MB. Make room, name another folder, or lower [{SECTION}] keep."
    ]


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _different(first: dict[str, Any], now: dict[str, Any]) -> list[str]:
    missing = object()
    names = sorted({*first, *now})
    return [name for name in names if first.get(name, missing) != now.get(name, missing)]
