"""The loop: as ``spacy pretrain``, faster, with a dev loss, and resumable to the byte.

Masks and dropout of an update follow from the seed and the update's number, its batch from the
place in the text. A run that was killed therefore ends, once resumed, with the weights of one that
was not. Several processes may train one model, started by torchrun: each draws the same masks for
the whole batch, computes every n-th doc, and divides by the whole batch's targets; the sum of
their gradients is the single process's gradient.
"""

import csv
import errno
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from spacy.cli._util import import_code
from spacy.tokens import Doc
from thinc.api import Config, Model, fix_random_seed
from tqdm.auto import tqdm

from trfnb.files import atomic_write
from trfnb.pretraining.checkpoint import (
    Checkpoints,
    check_identity,
    folder_problems,
    identity,
    parameters,
    replay_schedules,
    room_problems,
    to_numpy,
)
from trfnb.pretraining.config import Setup, set_up
from trfnb.pretraining.text import Position, PretrainingError, RawText, refuse
from trfnb.pretraining.weights import export

logger = logging.getLogger("spacy")

COLUMNS = ("step", "words", "seconds", "loss", "dev_loss", "learn_rate")
# A process's number and how many there are.
Share = tuple[int, int]
Batches = Iterable[tuple[Position, list[Doc]]]


def pretrain(
    config: Config,
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    code: str | Path | None = None,
) -> Path:
    """Pretrain the layer that a config names, and leave its weights in a folder.

    Args:
        config: What ``spacy pretrain`` takes; ``[pretraining_loop]`` may hold `LoopSettings`.
        out: The folder: log.csv, config.cfg, run.json, checkpoints, model-last.bin, and
            model-best.bin where there is a dev loss.
        resume: Go on from the last checkpoint in ``out``; from the start where there is none.
        progress: Show a bar.
        code: A Python file whose registered functions the config uses, here and in workers.

    Returns:
        The path of model-last.bin.

    Raises:
        ValueError: config, text or folder cannot be used.
        OSError: the disk is full; the run can be resumed.
    """
    folder = Path(out)
    with processes() as share:
        if share[0] == 0:
            refuse(folder_problems(folder, resume))
        import_code(code)
        run = Run(set_up(config, code), folder, share)
        try:
            batches = run.start(resume)
            run.train(batches, progress and share[0] == 0)
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

    def __init__(self, setup: Setup, folder: Path, share: Share = (0, 1)) -> None:
        self.setup, self.folder, self.share = setup, folder, share
        self.writes = share[0] == 0
        self.progress = Progress()
        self.checkpoints = Checkpoints(folder, setup.settings.keep)
        text = setup.stream.text
        path = text.path if isinstance(text, RawText) else None
        self.identity = identity(setup.config.interpolate(), path, share[1])

    def start(self, resume: bool = False) -> Batches:
        """Begin, or go on from the last checkpoint, and return the batches that follow.

        Raises:
            PretrainingError: there is nothing to read, no room to write, or another run to resume.
        """
        setup, state = self.setup, self.checkpoints.state() if resume else None
        if state is not None:
            self._resume(state)
        elif self.writes:
            refuse(room_problems(self.folder, setup.model, setup.settings.keep))
        # The first batch comes before anything is written: whatever fails in the text fails here.
        batches = setup.stream.batches(self.progress.position, setup.max_epochs)
        first = next(batches, None) if not self._without_gain else None
        if first is None:
            batches = iter(())
        elif "text_problems" in setup.model.attrs:
            refuse(setup.model.attrs["text_problems"]([*first[1], *setup.dev]))
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._begin_log()
            if state is None:
                with atomic_write(self.folder / "config.cfg") as file:
                    file.write(setup.config.to_str(interpolate=False))
        return chain([first] if first is not None else [], batches)

    def train(self, batches: Batches, shown: bool = False) -> None:
        """Make updates until the config ends them; Ctrl-C leaves the last checkpoint."""
        settings, now = self.setup.settings, self.progress
        before, began = now.seconds, time.perf_counter()
        total = settings.max_steps or None
        bar = tqdm(total=total, initial=now.step, unit=" updates", disable=not shown)
        with bar:
            for position, docs in batches:
                if self._over():
                    break
                if position.epoch != now.position.epoch:
                    # Only a whole pass tells how long the text is.
                    bar.total = total or round(now.step * self.setup.max_epochs / position.epoch)
                    self._end_epoch()
                self.update(docs)
                now.position, now.seconds = position, before + time.perf_counter() - began
                bar.update()
                if now.step % settings.eval_every == 0 or now.step % settings.log_every == 0:
                    bar.set_postfix(self._log())
                if now.step % settings.save_every == 0:
                    self._save_checkpoint()
                if self._without_gain:
                    break
            else:
                if not self._without_gain:
                    self._end_epoch(last=True)
        self._finish()

    def update(self, docs: list[Doc]) -> None:
        """Make one update; all that is random in it follows from the seed and its number."""
        setup, now = self.setup, self.progress
        model, optimizer = setup.model, setup.optimizer
        now.step += 1
        model.attrs["share"] = self.share
        fix_random_seed(_seed(setup.seed, now.step))
        prediction, backprop = model.begin_update(docs)
        loss, gradient = model.attrs["loss"](model.ops, docs, prediction)
        backprop(gradient)
        if self.share[1] > 1:
            sum_gradients(model)
        now.learn_rate = float(optimizer.learn_rate)
        model.finish_update(optimizer)
        optimizer.step_schedules()
        words = sum(map(len, docs))
        now.words += words
        now.loss += float(loss)
        now.targets += getattr(prediction, "total", words)

    @property
    def _without_gain(self) -> bool:
        return 0 < self.setup.settings.patience <= self.progress.since_best

    def _over(self) -> bool:
        settings = self.setup.settings
        late = 0 < settings.max_seconds <= self.progress.seconds
        if self.share[1] > 1 and settings.max_seconds:
            # Time runs out for each process at another moment.
            late = bool(_summed(np.array([float(late)], dtype="f"))[0])
        return late or 0 < settings.max_steps <= self.progress.step

    def _log(self) -> dict[str, str]:
        """Write a row of log.csv, with a dev loss where one is due, and return what a bar shows."""
        settings, now = self.setup.settings, self.progress
        dev = dev_loss(self.setup) if now.step % settings.eval_every == 0 else None
        loss = now.loss / max(now.targets, 1)
        now.loss, now.targets = 0.0, 0
        if self.writes:
            row = (now.step, now.words, round(now.seconds, 3), loss, dev, now.learn_rate)
            with (self.folder / "log.csv").open("a", newline="", encoding="utf8") as file:
                csv.writer(file).writerow(["" if value is None else value for value in row])
        if dev is not None:
            now.since_best += 1
            if now.best is None or dev < now.best:
                now.best, now.since_best = dev, 0
                self._export("model-best.bin")
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
        if self.writes:
            state = {
                "progress": asdict(self.progress),
                "identity": self.identity,
                "skipped": self.setup.stream.skipped,
            }
            model, optimizer = self.setup.model, self.setup.optimizer
            self.checkpoints.save(self.progress.step, model, optimizer, state)

    def _resume(self, state: dict[str, Any]) -> None:
        setup = self.setup
        size = getattr(setup.stream.batcher, "keywords", {}).get("size", 0)
        if not isinstance(size, int):
            raise PretrainingError(
                f"{self.folder}: [pretraining.batcher] size expected a whole number in a run that "
                "is resumed, got a schedule, whose place is not known. Start again elsewhere."
            )
        check_identity(state["identity"], self.identity, self.folder)
        self.checkpoints.load(setup.model, setup.optimizer, state["updates"])
        saved = state["progress"]
        self.progress = Progress(**saved | {"position": Position(**saved["position"])})
        setup.stream.skipped |= Counter(state["skipped"])
        replay_schedules(setup.model, setup.optimizer, self.progress.step)

    def _export(self, name: str) -> None:
        if self.writes:
            export(self.setup.model, self.setup.optimizer, self.folder / name)

    def _end_epoch(self, last: bool = False) -> None:
        """Keep the model of the epoch that ends, where the config asks for it."""
        epoch, every = self.progress.position.epoch, self.setup.n_save_epoch
        if every and (last or epoch % every == 0):
            self._export(f"model{epoch}.bin")
            old = self.folder / f"model{epoch - every * self.setup.settings.keep}.bin"
            if self.writes:
                old.unlink(missing_ok=True)

    def _finish(self) -> None:
        if not self.writes:
            return
        self._save_checkpoint()
        self._export("model-last.bin")
        now, stream = self.progress, self.setup.stream
        for reason, count in stream.skipped.items():
            logger.warning("%s: left out %d: %s", stream.text.path, count, reason)
        told = {
            "steps": now.step,
            "words": now.words,
            "seconds": round(now.seconds, 3),
            "best_dev_loss": now.best,
            "skipped": stream.skipped,
        }
        with atomic_write(self.folder / "run.json") as file:
            json.dump(told, file, indent=1)


def dev_loss(setup: Setup) -> float | None:
    """Return the mean loss on the text held out, always with the same masks; None without it."""
    model = setup.model
    if not setup.dev:
        return None
    model.attrs["share"] = (0, 1)
    total, targets = 0.0, 0
    with model.use_params(setup.optimizer.averages or {}):
        for number, batch in enumerate(setup.stream.batcher(setup.dev)):
            docs = list(batch)
            fix_random_seed(_seed(setup.seed, -number))
            prediction = model.predict(docs)
            loss, _ = model.attrs["loss"](model.ops, docs, prediction)
            total += float(loss)
            targets += getattr(prediction, "total", sum(map(len, docs)))
    return total / max(targets, 1)


def sum_gradients(model: Model) -> None:
    """Replace every gradient by the sum over all processes, in one exchange."""
    found, nodes = list(parameters(model)), {node.id: node for node in model.walk()}
    ops: Any = model.ops
    parts = [
        np.zeros(tuple(value.shape), dtype="f") if gradient is None else to_numpy(gradient)
        for _, _, value, gradient in found
    ]
    summed = _summed(np.concatenate([part.ravel() for part in parts]))
    ends = np.cumsum([part.size for part in parts])[:-1]
    for (_, (number, name), value, gradient), flat in zip(
        found, np.split(summed, ends), strict=True
    ):
        part = flat.reshape(tuple(value.shape)).copy()
        if isinstance(value, torch.Tensor):
            value.grad = torch.from_numpy(part).to(value.device)
        elif gradient is not None or part.any():
            nodes[number].set_grad(name, ops.asarray(part))
    for shim in [shim for node in nodes.values() for shim in node.shims]:
        if hasattr(shim, "has_gradient"):
            shim.has_gradient = True


@contextmanager
def processes() -> Iterator[Share]:
    """Join the other processes that torchrun started; alone without it."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield 0, 1
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank(), count
    finally:
        dist.destroy_process_group()


def _summed(values: NDArray[Any]) -> NDArray[Any]:
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    tensor = tensor.cuda() if dist.get_backend() == "nccl" else tensor
    dist.all_reduce(tensor)
    return tensor.cpu().numpy()


def _seed(seed: int, number: int) -> int:
    """Return a seed for one update (or, below 1, one batch of the dev text)."""
    given = [seed, abs(number), int(number < 1)]
    return int(np.random.SeedSequence(given).generate_state(1)[0])
