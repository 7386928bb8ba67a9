"""The loop: as ``spacy pretrain``, faster, with a dev loss, and resumable to the byte.

Masks and dropout of an update follow from the seed and the update's number, its batch from the
place in the text. A run that was killed therefore ends, once resumed, with the weights of one that
was not.
"""

import csv
import errno
import json
import logging
import math
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spacy.tokens import Doc
from spacy.util import dict_to_dot
from thinc.api import Config, Model, Optimizer, fix_random_seed
from tqdm.auto import tqdm

from trfnb.files import atomic_write
from trfnb.flow.weights import EncoderShim
from trfnb.pretraining.config import SECTION, Setup, set_up
from trfnb.pretraining.text import Position, PretrainingError, refuse, text_files
from trfnb.pretraining.weights import (
    checkpoint_state,
    checkpoints,
    export,
    load_checkpoint,
    parameters,
    save_checkpoint,
)

logger = logging.getLogger("spacy")

COLUMNS = ("step", "words", "seconds", "loss", "dev_loss", "learn_rate")
Batches = Iterable[tuple[Position, list[Doc]]]
# Settings that may change when a run is resumed: its ends and its pace.
_FREE = {"pretraining.max_epochs"} | {
    f"{SECTION}.{name}" for name in ("max_steps", "max_seconds", "patience", "keep", "save_every")
}


def pretrain(
    config: Config, out: str | Path, *, resume: bool = False, progress: bool = True
) -> Path:
    """Pretrain the layer that a config names, and leave its weights in a folder.

    Args:
        config: What ``spacy pretrain`` takes; ``[pretraining_loop]`` may hold `LoopSettings`.
        out: The folder: log.csv, config.cfg, checkpoints, model-last.bin, and
            model-best.bin where there is a dev loss.
        resume: Go on from the last checkpoint in ``out``; from the start where there is none.
        progress: Show a bar.

    Returns:
        The path of model-last.bin.

    Raises:
        ValueError: config, text or folder cannot be used.
        OSError: the disk is full; the run can be resumed.
    """
    folder = Path(out)
    refuse(folder_problems(folder, resume))
    run = Run(set_up(config), folder)
    try:
        run.train(run.start(resume), progress)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"{folder}: the disk is full ({error.strerror}). Make room, and go on from the "
            "last checkpoint with --resume (resume=True)",
        ) from error
    return folder / "model-last.bin"


@dataclass
class Progress:
    """Where a run is; all of it is in a checkpoint.

    Attributes:
        step: Updates made.
        position: In the text.
        words: Words trained on.
        seconds: Of training, of all processes that took part one after another.
        loss: Summed since the last row of log.csv.
        targets: Counted since then.
        learn_rate: Of the last update.
        best: The lowest dev loss.
        since_best: Dev losses since then.
    """

    step: int = 0
    position: Position = field(default_factory=Position)
    words: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    targets: int = 0
    learn_rate: float = 0.0
    best: float | None = None
    since_best: int = 0


class Run:
    """One run in one process."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        self.setup, self.folder = setup, folder
        self.progress = Progress()
        self.identity = identity(setup.config.interpolate(), setup.stream.text.path)
        # False from the change of the weights on until all of that update is noted.
        self.whole = True

    def start(self, resume: bool = False) -> Batches:
        """Begin, or go on from the last checkpoint, and return the batches that follow.

        Raises:
            PretrainingError: there is nothing to read, no room to write, or another run to resume.
        """
        setup, found = self.setup, checkpoints(self.folder)
        if found and resume:
            self._resume(found[-1])
        else:
            refuse(room_problems(self.folder, setup.model, setup.settings.keep))
        # The first batch comes before anything is written: whatever fails in the text fails here.
        batches = setup.stream.batches(self.progress.position, setup.max_epochs)
        first = list(islice(batches, 1))
        if "text_problems" in setup.model.attrs:
            docs = [doc for _, batch in first for doc in batch]
            refuse(setup.model.attrs["text_problems"]([*docs, *setup.dev]))
        self.folder.mkdir(parents=True, exist_ok=True)
        self._begin_log()
        if not found:
            with atomic_write(self.folder / "config.cfg") as file:
                file.write(setup.config.to_str(interpolate=False))
        return chain(first, batches)

    def train(self, batches: Batches, shown: bool = False) -> None:
        """Make updates until the config ends them; Ctrl-C leaves a checkpoint of the last one."""
        settings, now = self.setup.settings, self.progress
        before, began = now.seconds, time.perf_counter()
        total = settings.max_steps or None
        with tqdm(total=total, initial=now.step, unit=" updates", disable=not shown) as bar:
            try:
                for position, docs in batches:
                    if self._over():
                        break
                    self.update(docs)
                    now.position, now.seconds = position, before + time.perf_counter() - began
                    bar.update()
                    if now.step % settings.eval_every == 0 or now.step % settings.log_every == 0:
                        bar.set_postfix(self._log())
                    if now.step % settings.save_every == 0:
                        self._save_checkpoint()
                    self.whole = True
            except KeyboardInterrupt:
                # In the middle of a change the last checkpoint is what there is.
                if self.whole:
                    self._save_checkpoint()
                raise
        self._save_checkpoint()
        export(self.setup.model, self.setup.optimizer, self.folder / "model-last.bin")

    def update(self, docs: list[Doc]) -> None:
        """Make one update; all that is random in it follows from the seed and its number."""
        setup, now = self.setup, self.progress
        model, optimizer = setup.model, setup.optimizer
        fix_random_seed(_seed(setup.seed, now.step + 1))
        prediction, backprop = model.begin_update(docs)
        loss, gradient = model.attrs["loss"](model.ops, docs, prediction)
        backprop(gradient)
        self.whole = False
        now.learn_rate = float(optimizer.learn_rate)
        model.finish_update(optimizer)
        optimizer.step_schedules()
        now.step += 1
        now.words += sum(map(len, docs))
        now.loss += float(loss)
        now.targets += len(getattr(prediction, "targets", docs))

    def _over(self) -> bool:
        settings, now = self.setup.settings, self.progress
        return (
            0 < settings.max_steps <= now.step
            or 0 < settings.max_seconds <= now.seconds
            or 0 < settings.patience <= now.since_best
        )

    def _log(self) -> dict[str, str]:
        """Write a row of log.csv, with a dev loss where one is due, and return what a bar shows."""
        settings, now = self.setup.settings, self.progress
        dev = dev_loss(self.setup) if now.step % settings.eval_every == 0 else None
        loss = now.loss / max(now.targets, 1)
        now.loss, now.targets = 0.0, 0
        row = (now.step, now.words, round(now.seconds, 3), loss, dev, now.learn_rate)
        with (self.folder / "log.csv").open("a", newline="", encoding="utf8") as file:
            csv.writer(file).writerow(row)
        if dev is not None:
            now.since_best += 1
            if now.best is None or dev < now.best:
                now.best, now.since_best = dev, 0
                export(self.setup.model, self.setup.optimizer, self.folder / "model-best.bin")
        shown = {"loss": f"{loss:.4g}", "words_s": f"{now.words / max(now.seconds, 1e-9):,.0f}"}
        return shown if now.best is None else shown | {"best_dev": f"{now.best:.4g}"}

    def _begin_log(self) -> None:
        """Write the header of log.csv, and the rows up to the step that a run resumes at."""
        path, rows = self.folder / "log.csv", []
        if path.exists():
            # A process that dies may leave its last row unfinished, without an end of line.
            whole = path.read_text(encoding="utf8").rpartition("\n")[0].splitlines()
            rows = [row for row in csv.reader(whole[1:]) if int(row[0]) <= self.progress.step]
        with atomic_write(path) as file:
            csv.writer(file).writerows([COLUMNS, *rows])

    def _save_checkpoint(self) -> None:
        setup, now = self.setup, self.progress
        path = self.folder / f"checkpoint-{now.step}.safetensors"
        state = {"progress": asdict(now), "identity": self.identity}
        save_checkpoint(path, setup.model, setup.optimizer, state, setup.settings.keep)

    def _resume(self, checkpoint: Path) -> None:
        setup, state = self.setup, checkpoint_state(checkpoint)
        if not isinstance(getattr(setup.stream.batcher, "keywords", {}).get("size", 0), int):
            raise PretrainingError(
                f"{self.folder}: [pretraining.batcher] size expected a whole number in a run that "
                "is resumed, got a schedule, whose place is not known. Start again elsewhere."
            )
        check_identity(state["identity"], self.identity, self.folder)
        load_checkpoint(checkpoint, setup.model, setup.optimizer)
        saved = state["progress"]
        self.progress = Progress(**saved | {"position": Position(**saved["position"])})
        replay_schedules(setup.model, setup.optimizer, self.progress.step)


def dev_loss(setup: Setup) -> float | None:
    """Return the mean loss on the text held out, always with the same masks; None without it."""
    model = setup.model
    if not setup.dev:
        return None
    total, targets = 0.0, 0
    with model.use_params(setup.optimizer.averages or {}):
        for number, batch in enumerate(setup.stream.batcher(setup.dev)):
            docs = list(batch)
            fix_random_seed(_seed(setup.seed, -number))
            prediction = model.predict(docs)
            loss, _ = model.attrs["loss"](model.ops, docs, prediction)
            total += float(loss)
            targets += len(getattr(prediction, "targets", docs))
    return total / max(targets, 1)


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
    weights = sum(4 * math.prod(value.shape) for _, _, value in parameters(model))
    # Adam keeps two moments and an average of each weight; one checkpoint more while writing, and
    # two models, each written aside first.
    need, free = weights * (4 * (keep + 1) + 3), shutil.disk_usage(there).free
    if free >= need:
        return []
    return [
        f"{folder} expected room for about {need / 1e6:,.0f} MB of checkpoints and weights, got "
        f"{free / 1e6:,.0f} MB. Make room, name another folder, or lower [{SECTION}] keep."
    ]


def _seed(seed: int, number: int) -> int:
    """Return a seed for one update (or, below 1, one batch of the dev text)."""
    given = [seed, abs(number), int(number < 1)]
    return int(np.random.SeedSequence(given).generate_state(1)[0])
