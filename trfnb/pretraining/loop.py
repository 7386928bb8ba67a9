"""The loop: as ``spacy pretrain``, faster, with a dev loss, and resumable to the byte.

Masks and dropout of an update follow from the seed and the update's number, its batch from the
place in the text. A run that was killed therefore ends, once resumed, with the weights of one that
was not.
"""

import csv
import errno
import json
import math
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from spacy.schemas import ConfigSchemaPretrain
from spacy.tokens import Doc
from spacy.util import dict_to_dot, load_model_from_config, logger, registry
from thinc.api import Config, Model, Optimizer, fix_random_seed, set_dropout_rate
from tqdm.auto import tqdm

from trfnb.files import atomic_write, locked
from trfnb.flow.encoder import EncoderShim, encoders
from trfnb.pretraining.config import OURS, SECTION, corpus_text, filled, loop_settings
from trfnb.pretraining.layers import SAMPLE, pretrained_layer
from trfnb.pretraining.text import Position, PretrainingError, Stream, held_out, refuse, text_files
from trfnb.pretraining.weights import (
    checkpoint_state,
    checkpoints,
    export,
    load_checkpoint,
    parameters,
    save_checkpoint,
)
from trfnb.vectors.store import fingerprint

LOG = ["step", "words", "seconds", "loss", "dev_loss", "learn_rate"]
# Settings that may change when a run is resumed: its ends and its pace.
_FREE = {"pretraining.max_epochs", "nlp.disabled"} | {
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
        BlockingIOError: another run is at work in the folder.
        OSError: the disk is full; the run can be resumed.
    """
    folder = Path(out)
    _check_folder(folder, resume)
    run = PretrainingRun(config, folder)
    try:
        with locked(folder, "pretraining"):
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
        rows: Of log.csv so far.
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
    rows: list[list[float | None]] = field(default_factory=list)


class PretrainingRun:
    """One run in one process: what a config resolves to, and where training is.

    Args:
        config: As for `pretrain`.
        folder: Where to write.

    Attributes:
        config: The whole config, filled in, with variables as they were given.
        settings: Of the loop.
        nlp: The pipeline, of which one layer is pretrained.
        model: That layer, with the objective's head.
        optimizer: Fresh.
        stream: The text.
        dev: Docs for the dev loss.

    Raises:
        ValueError: settings, text, or component cannot be used.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        config = filled(config).copy()
        self.folder, self.settings = folder, loop_settings(config)
        objective = config["pretraining"]["objective"]
        objective.update(OURS.get(objective["@architectures"], {}))
        # What would load the weights that are made here: one config may serve both commands.
        initialize = config.setdefault("initialize", {})
        initialize["init_tok2vec"] = None
        if "trfnb.LoadPretrained.v1" in (initialize.get("after_init") or {}).values():
            initialize["after_init"] = None
        self.nlp = load_model_from_config(config, auto_fill=True)
        self.config, whole = self.nlp.config, self.nlp.config.interpolate()
        block: Any = registry.resolve(whole["pretraining"], schema=ConfigSchemaPretrain)
        self.optimizer, self.max_epochs = block["optimizer"], block["max_epochs"]
        self.seed = whole["training"]["seed"] or 0
        text = corpus_text(whole, block["corpus"])
        fix_random_seed(self.seed)
        with self.nlp.select_pipes(enable=[]):
            self.nlp.initialize()
        layer = pretrained_layer(self.nlp, block["component"], block["layer"])
        self.model: Model[list[Doc], Any] = block["objective"](self.nlp.vocab, layer)
        self.model.initialize(X=[self.nlp.make_doc(SAMPLE)])
        set_dropout_rate(self.model, block["dropout"])
        numbers, self.dev = held_out(self.nlp, text, self.settings.dev_words)
        if self.settings.dev_words and not self.dev:
            problem = (
                f"[{SECTION}] dev_words expected a text of ten usable lines or more, to hold out "
                "every tenth, got fewer: there is no dev loss. Put less on each line, or set "
                "dev_words and patience to 0."
            )
            refuse([problem] if self.settings.patience else [])
            logger.warning(problem)
        self.stream = Stream(
            self.nlp, text, block["batcher"], numbers, self.settings.shard_size, self.seed
        )
        self.identity = _identity(whole, text.path, fingerprint(self.nlp.vocab.vectors))
        self.progress = Progress()
        # False from the change of the weights on until all of that update is noted.
        self.whole = True

    def start(self, resume: bool = False) -> Iterator[tuple[Position, list[Doc]]]:
        """Begin, or go on from the last checkpoint, and return the batches that follow.

        The folder must exist.

        Raises:
            PretrainingError: there is nothing to read, no room to write, or another run to resume.
        """
        earlier = checkpoints(self.folder)
        if earlier and resume:
            self._resume(earlier[-1])
        else:
            _check_room(self.folder, self.model, self.settings.keep)
        # The first batch comes before anything is written: whatever fails in the text fails here.
        batches = self.stream.batches(self.progress.position, self.max_epochs)
        first = list(islice(batches, 1))
        if "check_text" in self.model.attrs:
            docs = [doc for _, batch in first for doc in batch]
            self.model.attrs["check_text"]([*docs, *self.dev])
        self._write_log()
        if not earlier:
            with atomic_write(self.folder / "config.cfg") as file:
                file.write(self.config.to_str(interpolate=False))
        return chain(first, batches)

    def train(self, batches: Iterable[tuple[Position, list[Doc]]], shown: bool = False) -> None:
        """Make updates until the config ends them; Ctrl-C leaves a checkpoint of the last one."""
        settings, now = self.settings, self.progress
        before, began = now.seconds, time.perf_counter()
        with tqdm(
            total=settings.max_steps or None, initial=now.step, unit=" updates", disable=not shown
        ) as bar:
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
        export(self.model, self.optimizer, self.folder / "model-last.bin")

    def update(self, docs: list[Doc]) -> None:
        """Make one update; all that is random in it follows from the seed and its number."""
        model, optimizer, now = self.model, self.optimizer, self.progress
        self._fix_seed(now.step + 1)
        prediction, backprop = model.begin_update(docs)
        loss, gradient = model.attrs["loss"](model.ops, docs, prediction)
        if not math.isfinite(float(loss)):
            raise PretrainingError(
                f"{self.folder}: expected a finite loss, got {float(loss)} in update "
                f"{now.step + 1}. Lower the optimizer's learn_rate; checkpoints are from before."
            )
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
        settings, now = self.settings, self.progress
        return (
            0 < settings.max_steps <= now.step
            or 0 < settings.max_seconds <= now.seconds
            or 0 < settings.patience <= now.since_best
        )

    # Adds a row to log.csv, with a dev loss where one is due, and returns what a bar shows.
    def _log(self) -> dict[str, Any]:
        settings, now = self.settings, self.progress
        dev = self._dev_loss() if now.step % settings.eval_every == 0 else None
        loss = now.loss / now.targets if now.targets else None
        now.loss, now.targets = 0.0, 0
        now.rows.append([now.step, now.words, round(now.seconds, 3), loss, dev, now.learn_rate])
        self._write_log()
        if dev is not None:
            now.since_best += 1
            if dev < (math.inf if now.best is None else now.best):  # not where it is NaN
                now.best, now.since_best = dev, 0
                export(self.model, self.optimizer, self.folder / "model-best.bin")
        return {"loss": loss, "best_dev": now.best, "words": now.words}

    def _write_log(self) -> None:
        with atomic_write(self.folder / "log.csv") as file:
            csv.writer(file).writerows([LOG, *self.progress.rows])

    def _save_checkpoint(self) -> None:
        path = self.folder / f"checkpoint-{self.progress.step}.safetensors"
        state = {"progress": asdict(self.progress), "identity": self.identity}
        save_checkpoint(path, self.model, self.optimizer, state, self.settings.keep)

    def _resume(self, checkpoint: Path) -> None:
        if not isinstance(getattr(self.stream.batcher, "keywords", {}).get("size", 0), int):
            raise PretrainingError(
                f"{self.folder}: [pretraining.batcher] size expected a whole number in a run that "
                "is resumed, got a schedule, whose place is not known. Start again elsewhere."
            )
        state = checkpoint_state(checkpoint)
        _check_identity(state["identity"], self.identity, self.folder)
        load_checkpoint(checkpoint, self.model, self.optimizer)
        saved = state["progress"]
        self.progress = Progress(**saved | {"position": Position(**saved["position"])})
        _replay_schedules(self.model, self.optimizer, self.progress.step)

    # The mean loss on the text held out, always with the same masks.
    def _dev_loss(self) -> float | None:
        total, targets = 0.0, 0
        with self.model.use_params(self.optimizer.averages or {}):
            for number, docs in enumerate(self.stream.batcher(self.dev)):
                self._fix_seed(-number)
                prediction = self.model.predict(docs)
                loss, _ = self.model.attrs["loss"](self.model.ops, docs, prediction)
                total += float(loss)
                targets += len(getattr(prediction, "targets", docs))
        return total / targets if targets else None

    # One seed for each update, and (below 1) for each batch of the dev text.
    def _fix_seed(self, number: int) -> None:
        sequence = np.random.SeedSequence([self.seed, abs(number), int(number < 1)])
        fix_random_seed(int(sequence.generate_state(1)[0]))


# Steps all that follows a schedule as often as the updates before did.
def _replay_schedules(model: Model, optimizer: Optimizer, updates: int) -> None:
    scheduled: list[Any] = [n.attrs["factor"] for n in model.walk() if "factor" in n.attrs]
    scheduled += [cast(EncoderShim, node.shims[0]).trainable for node in encoders(model)]
    for _ in range(updates):
        optimizer.step_schedules()
        for schedule in scheduled:
            schedule.step()


# What must be the same when a run is resumed: settings, texts (names and sizes), vectors, threads.
def _identity(config: Config, text: Path, vectors: str) -> dict[str, Any]:
    counted = config["pretraining"]["objective"].get("text")  # by an objective over words
    words = text_files(Path(counted)) if counted else []
    root = text if text.is_dir() else text.parent
    identity = {
        **{name: value for name, value in dict_to_dot(config).items() if name not in _FREE},
        **{f"text {file.relative_to(root)}": file.stat().st_size for file in text_files(text)},
        **{f"words {file}": file.stat().st_size for file in words},
        "vectors": vectors,
        "threads": torch.get_num_threads(),
    }
    # As JSON gives it back: numbers as keys become text, tuples lists.
    return dict(json.loads(json.dumps(identity, default=str)))


def _check_identity(first: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
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


def _check_folder(folder: Path, resume: bool) -> None:
    # What a killed process wrote aside is hidden.
    there = sorted(path.name for path in folder.glob("[!.]*"))
    if there and not (resume and "log.csv" in there):
        wanted = "a run to resume" if resume else "a new or empty folder"
        raise PretrainingError(
            f"{folder} expected {wanted}, got a folder with {', '.join(there[:3])}. Name another, "
            "or resume a run that is in it (--resume)."
        )


def _check_room(folder: Path, model: Model, keep: int) -> None:
    weights = sum(4 * np.prod(value.shape) for _, _, value in parameters(model))
    # Adam keeps two moments and an average of each weight; one checkpoint more while writing, and
    # two models, each written aside first.
    need, free = weights * (4 * (keep + 1) + 3), shutil.disk_usage(folder).free
    if free < need:
        raise PretrainingError(
            f"{folder} expected room for about {need / 1e6:,.0f} MB of checkpoints and weights, "
            f"got {free / 1e6:,.0f} MB. Make room, name another folder, or lower [{SECTION}] keep."
        )
