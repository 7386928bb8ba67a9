"""Checkpoints: all that the next update depends on, and the identity of the run it belongs to.

A checkpoint is one safetensors file, ``checkpoint-STEP.safetensors``, written atomically: weights
and the optimiser's moments by name, and a few numbers as JSON in its metadata. Masks and dropout
follow from the seed and the update's number, so that no random state is needed.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save
from spacy.util import dict_to_dot
from thinc.api import Config, Model, Optimizer

from trfnb.files import atomic_write
from trfnb.flow.weights import EncoderShim
from trfnb.pretraining.config import SECTION
from trfnb.pretraining.text import PretrainingError, text_files

logger = logging.getLogger("spacy")

_MOMENTS = ("mom1", "mom2", "averages")
# Settings that may change when a run is resumed: its ends and its pace.
_FREE = {"pretraining.max_epochs"} | {
    f"{SECTION}.{name}" for name in ("max_steps", "max_seconds", "patience", "keep", "save_every")
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
        for name, key, value in parameters(model):
            arrays[f"weights/{name}"] = _to_numpy(value)
            for moment in _MOMENTS:
                held = getattr(optimizer, moment) or {}
                if key in held:
                    arrays[f"{moment}/{name}"] = _to_numpy(held[key])
            if key in optimizer.nr_update:
                updates[name] = optimizer.nr_update[key]
        metadata = {"state": json.dumps(state | {"updates": updates})}
        with atomic_write(self.folder / f"checkpoint-{step}.safetensors", "wb") as file:
            file.write(save(arrays, metadata))
        # Hidden ones are what a killed process wrote aside.
        for old in [*self.found()[: -self.keep], *self.folder.glob(".checkpoint-*")]:
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
        shapes = {f"weights/{name}": tuple(value.shape) for name, _, value in parameters(model)}
        saved = {n: one.shape for n, one in arrays.items() if n.startswith("weights/")}
        if different := sorted({n for n, _ in shapes.items() ^ saved.items()}):
            raise PretrainingError(
                f"{path}: expected the parameters of the model that the config builds, got others: "
                f"{', '.join(different[:5])}. Resume with the config of the first run."
            )
        ops: Any = model.ops
        for name, key, value in parameters(model):
            if isinstance(value, torch.Tensor):
                value.data.copy_(torch.from_numpy(arrays[f"weights/{name}"]))
            else:
                value[...] = ops.asarray(arrays[f"weights/{name}"])
            for moment in _MOMENTS:
                if f"{moment}/{name}" in arrays:
                    getattr(optimizer, moment)[key] = ops.asarray(arrays[f"{moment}/{name}"])
            if name in updates:
                optimizer.nr_update[key] = updates[name]


def parameters(model: Model) -> Iterator[tuple[str, tuple[int, str], Any]]:
    """Yield each parameter's name, its key in an optimiser, and its value, Thinc's or torch's.

    Names are places in the model: they hold in another process, where Thinc's keys, which count
    the layers that a process made, do not.
    """
    for place, node in enumerate(model.walk()):
        for name in node.param_names:
            if node.has_param(name):
                yield f"{place}.{name}", (node.id, name), node.get_param(name)
        for number, shim in enumerate(node.shims):
            if isinstance(getattr(shim, "_model", None), torch.nn.Module):
                for name, value in shim._model.named_parameters():
                    yield f"{place}.{number}.{name}", (shim.id, name), value


def replay_schedules(model: Model, optimizer: Optimizer, updates: int) -> None:
    """Step all that follows a schedule as often as the updates before did."""
    scheduled = [node.attrs["factor"] for node in model.walk() if "factor" in node.attrs]
    shims = [shim for node in model.walk() for shim in node.shims]
    scheduled += [shim.trainable for shim in shims if isinstance(shim, EncoderShim)]
    for _ in range(updates):
        optimizer.step_schedules()
        for one in scheduled:
            one.step()


def identity(config: Config, text: Path) -> dict[str, Any]:
    """Return what must be the same when a run is resumed: settings, text, and threads.

    Args:
        config: The whole config, with values in the place of variables.
        text: A file or folder.
    """
    found = {name: one for name, one in dict_to_dot(config).items() if name not in _FREE}
    root = text if text.is_dir() else text.parent
    found |= {f"text {p.relative_to(root)}": p.stat().st_size for p in text_files(text)}
    found["threads"] = torch.get_num_threads()
    # As JSON gives it back: numbers as keys become text, tuples lists.
    return dict(json.loads(json.dumps(found, default=str)))


def check_identity(first: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Compare with the run that began in a folder.

    Raises:
        PretrainingError: the config or the text is another one.
    """
    changed = sorted(name for name in {*first, *now} if first.get(name) != now.get(name))
    if changed == ["threads"]:
        logger.warning(
            "%s: the first run had %d threads, this one has %d: sums are rounded in another order, "
            "and the weights will differ a little from an unbroken run's.",
            folder,
            first["threads"],
            now["threads"],
        )
    elif changed:
        raise PretrainingError(
            f"{folder}: expected the settings and the text of the first run, got another "
            f"{', '.join(changed[:6])}. Give {folder / 'config.cfg'} and files of the same names "
            "and sizes, or pretrain into another folder."
        )


def folder_problems(folder: Path, resume: bool) -> list[str]:
    """Return why a folder cannot take a run; empty if it can."""
    # What a killed process wrote aside is hidden.
    there = sorted(path.name for path in folder.glob("[!.]*"))
    if not there or (resume and "log.csv" in there):
        return []
    wanted = "a run to resume" if resume else "a new or empty folder"
    return [
        f"{folder} expected {wanted}, got a folder with {', '.join(there[:3])}. Name another"
        + ("." if resume else ", or resume the run that is in it (--resume).")
    ]


def room_problems(folder: Path, model: Model, keep: int) -> list[str]:
    """Return whether a disk is too full for a run that keeps so many checkpoints."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    weights = sum(_to_numpy(value).nbytes for _, _, value in parameters(model))
    # Adam keeps two moments and an average of each weight; one checkpoint more while writing, and
    # two models, each written aside first.
    need, free = weights * (4 * (keep + 1) + 3), shutil.disk_usage(there).free
    if free >= need:
        return []
    return [
        f"{folder} expected room for about {need / 1e6:,.0f} MB of checkpoints and weights, got "
        f"{free / 1e6:,.0f} MB. Make room, name another folder, or lower [{SECTION}] keep."
    ]


def _to_numpy(value: Any) -> NDArray[Any]:
    """Return an array of any library as NumPy's."""
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
    return array.get() if hasattr(array, "get") else array
