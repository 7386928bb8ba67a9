"""The loop: as ``spacy pretrain``, faster, with a dev loss, and resumable to the bit.

Masks and dropout of an update follow from the seed and the update's number, its batch from the
place in the text, so that a checkpoint needs no random state: only weights, the optimiser's
moments, and a few numbers.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from spacy.tokens import Doc
from thinc.api import Config

from trfnb.pretraining.checkpoints import Checkpoints, write_aside
from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.finished import save_body
from trfnb.pretraining.interrupts import deferred_interrupt
from trfnb.pretraining.journal import Journal, progress_bar
from trfnb.pretraining.parallel import Share, processes, summed_over
from trfnb.pretraining.progress import Progress, comparable
from trfnb.pretraining.setup import Setup, set_up
from trfnb.pretraining.state import replay_schedules
from trfnb.pretraining.stream import Position, batch_size
from trfnb.pretraining.update import dev_loss, update


def pretrain(
    config: Config, out: str | Path, *, resume: bool = False, progress: bool = True
) -> Path:
    """Pretrain the layer that a config names, and leave its weights in a folder.

    Args:
        config: What ``spacy pretrain`` takes; ``[pretraining_loop]`` may hold `LoopSettings`.
        out: The folder: log.csv, config.cfg, checkpoints, model-last.bin, and model-best.bin where
            there is a dev loss.
        resume: Go on from the last checkpoint in ``out``; from the start where there is none.
        progress: Show a bar.

    Returns:
        The path of model-last.bin.

    Raises:
        PretrainingError: config, text or folder cannot be used.
    """
    folder = Path(out)
    with processes() as share:
        setup = set_up(config)
        store = Checkpoints(folder, setup.settings.keep)
        taken = bool(store.found()) or (folder / "log.csv").exists()
        if taken and not resume and share.writes:
            raise PretrainingError(
                f"{folder} expected a new or empty folder, got one with a run in it. Resume that "
                "run (--resume), or name another folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(setup, folder, store, share, progress and share.writes)
        run.start(resume)
        run.train()
        return folder / "model-last.bin"


class Run:
    """One run in one process."""

    def __init__(
        self, setup: Setup, folder: Path, store: Checkpoints, share: Share, shown: bool
    ) -> None:
        self.setup, self.folder, self.store, self.share = setup, folder, store, share
        self.progress = Progress()
        self.journal = Journal(folder / "log.csv" if share.writes else None)
        self.shown = shown
        self.rate = 0.0

    def start(self, resume: bool) -> None:
        """Begin, or go on from the last checkpoint."""
        setup = self.setup
        state = self.store.load(setup.model, setup.optimizer) if resume else None
        if state is None:
            self.journal.begin()
            if self.share.writes:
                write_aside(self.folder / "config.cfg", setup.config.to_str().encode())
            return
        if not isinstance(batch_size(setup.stream.batcher), int):
            raise PretrainingError(
                f"{self.folder}: [pretraining.batcher] size expected a whole number in a run that "
                "is resumed, got a schedule, whose place is not known. Start again elsewhere."
            )
        if state["config"] != comparable(setup.config):
            raise PretrainingError(
                f"{self.folder}: expected the config of the first run, got another. Give "
                f"{self.folder / 'config.cfg'}, or pretrain into another folder."
            )
        place = Position(**state["progress"].pop("position"))
        self.progress = Progress(position=place, **state["progress"])
        self.journal.go_on(state["journal"], self.progress.step)
        replay_schedules(setup.model, setup.optimizer, self.progress.step)

    def train(self) -> None:
        """Make updates until the config, or Ctrl-C, ends them."""
        settings, now = self.setup.settings, self.progress
        with (
            deferred_interrupt() as interrupt,
            progress_bar(settings.max_steps, now.step, self.shown) as bar,
        ):
            try:
                for position, docs in self._batches():
                    if interrupt.asked or self._over():
                        break
                    self.update(docs)
                    bar.update()
                    epoch_before, now.position = now.position.epoch, position
                    self._look_back(bar)
                    if position.epoch != epoch_before:
                        self._save_epoch(epoch_before)
                    if now.step % settings.save_every == 0:
                        self.checkpoint()
                    if now.ended:
                        break
                self.checkpoint()
            finally:
                self._finish()

    def update(self, docs: list[Doc]) -> None:
        """Make one update."""
        self.progress.step += 1
        done = update(self.setup, docs, self.progress.step, self.share)
        self.rate = done.learn_rate
        self.journal.add(done.words, done.loss, done.targets)

    def checkpoint(self) -> None:
        """Write everything that the next update depends on."""
        if not self.share.writes:
            return
        state = {
            "progress": asdict(self.progress),
            "journal": self.journal.state(),
            "config": comparable(self.setup.config),
        }
        self.store.save(self.progress.step, self.setup.model, self.setup.optimizer, state)

    def _batches(self) -> Iterator[tuple[Position, list[Doc]]]:
        if self.progress.ended:
            return iter(())
        return self.setup.stream.batches(self.progress.position, self.setup.max_epochs)

    def _over(self) -> bool:
        settings = self.setup.settings
        steps = 0 < settings.max_steps <= self.progress.step
        late = 0 < settings.max_seconds <= self.journal.seconds
        if settings.max_seconds and self.share.of > 1:
            late = bool(summed_over(np.array([float(late)], dtype="f"))[0] > 0)
        return steps or late

    def _look_back(self, bar: Any) -> None:
        """Log, compare the dev loss, and see whether that ends the run."""
        settings, now = self.setup.settings, self.progress
        due = now.step % settings.eval_every == 0
        if not due and now.step % settings.log_every:
            return
        dev = dev_loss(self.setup) if due else None
        row = self.journal.row(now.step, dev, self.rate)
        pace = self.journal.words / max(self.journal.seconds, 1e-9)
        bar.set_postfix(loss=f"{row['loss']:.4g}", dev=dev, words_s=f"{pace:,.0f}")
        if dev is None:
            return
        if now.best is None or dev < now.best:
            now.best, now.since_best = dev, 0
            self._save("model-best.bin")
        else:
            now.since_best += 1
        now.ended = 0 < settings.patience <= now.since_best

    def _save(self, name: str) -> None:
        if self.share.writes:
            save_body(self.setup.model, self.setup.optimizer, self.folder / name)

    def _save_epoch(self, epoch: int) -> None:
        every = self.setup.n_save_epoch
        if every and epoch % every == 0:
            self._save(f"model{epoch}.bin")
            old = epoch - every * self.setup.settings.keep
            if self.share.writes:
                (self.folder / f"model{old}.bin").unlink(missing_ok=True)

    def _finish(self) -> None:
        self._save("model-last.bin")
        if self.share.writes:
            told = {
                "steps": self.progress.step,
                "words": self.journal.words,
                "seconds": round(self.journal.seconds, 3),
                "best_dev_loss": self.progress.best,
                "skipped": dict(self.setup.stream.text.skipped.counts),
            }
            write_aside(self.folder / "run.json", json.dumps(told, indent=1).encode())
