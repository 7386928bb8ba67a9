"""The loop: as ``spacy pretrain``, faster, with a dev loss, and resumable to the bit.

Masks and dropout of an update follow from the seed and the update's number, its batch from the
place in the text, so that a checkpoint needs no random state: only weights, the optimiser's
moments, and a few numbers.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from spacy.cli._util import import_code
from spacy.tokens import Doc
from thinc.api import Config

from trfnb.pretraining.checkpoints import Checkpoints, write_aside
from trfnb.pretraining.errors import PretrainingError, refuse
from trfnb.pretraining.finished import save_body
from trfnb.pretraining.folder import folder_problems, room_problems
from trfnb.pretraining.forecast import Forecast, characters_of
from trfnb.pretraining.identity import Identity, identity
from trfnb.pretraining.interrupts import deferred_interrupt
from trfnb.pretraining.journal import Journal, progress_bar
from trfnb.pretraining.parallel import Share, processes, summed_over
from trfnb.pretraining.progress import Progress
from trfnb.pretraining.reader import RawText
from trfnb.pretraining.setup import Setup, set_up
from trfnb.pretraining.state import parameters, replay_schedules
from trfnb.pretraining.stream import Position, batch_size
from trfnb.pretraining.update import dev_loss, update

logger = logging.getLogger("spacy")


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
        out: The folder: log.csv, config.cfg, checkpoints, model-last.bin, and model-best.bin where
            there is a dev loss.
        resume: Go on from the last checkpoint in ``out``; from the start where there is none.
        progress: Show a bar.
        code: A Python file whose registered functions the config uses, here and in workers.

    Returns:
        The path of model-last.bin.

    Raises:
        PretrainingError: config, text or folder cannot be used.
    """
    folder = Path(out)
    with processes() as share:
        if share.writes:
            refuse(folder_problems(folder, resume))
        import_code(code)
        setup = set_up(config, code)
        store = Checkpoints(folder, setup.settings.keep)
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
        self.last_dev: float | None = None
        text = setup.stream.text
        raw = text.path if isinstance(text, RawText) else None
        self.identity = identity(setup.config, raw, share.of)
        known = characters_of(raw) if raw is not None else 0
        self.forecast = Forecast(setup.settings, setup.max_epochs, known)
        self.upcoming: Iterator[tuple[Position, list[Doc]]] = iter(())

    def start(self, resume: bool) -> None:
        """Begin, or go on from the last checkpoint.

        Raises:
            PretrainingError: there is nothing to read, no room to write, or another run to resume.
        """
        setup = self.setup
        state = self.store.state() if resume else None
        if state is not None:
            self._go_on(state)
        elif self.share.writes:
            weights = sum(int(np.prod(p.shape)) * 4 for _, _, p, _ in parameters(setup.model))
            refuse(room_problems(self.folder, weights, setup.settings.keep))
        # The first batch comes before anything is written: whatever fails in the text fails here.
        batches = self._batches()
        self.upcoming = chain([first] if (first := next(batches, None)) else [], batches)
        self.folder.mkdir(parents=True, exist_ok=True)
        if state is not None:
            self.journal.go_on(state["journal"], self.progress.step)
            return
        self.journal.begin()
        if self.share.writes:
            write_aside(self.folder / "config.cfg", setup.given.to_str(interpolate=False).encode())

    def _go_on(self, state: dict[str, Any]) -> None:
        setup = self.setup
        if not isinstance(batch_size(setup.stream.batcher), int):
            raise PretrainingError(
                f"{self.folder}: [pretraining.batcher] size expected a whole number in a run that "
                "is resumed, got a schedule, whose place is not known. Start again elsewhere."
            )
        self.identity.check(Identity(**state["identity"]), self.folder)
        self.store.load(setup.model, setup.optimizer)
        place = Position(**state["progress"].pop("position"))
        self.progress = Progress(position=place, **state["progress"])
        self.progress.ended = 0 < setup.settings.patience <= self.progress.since_best
        setup.stream.text.skipped.before |= Counter(state["skipped"])
        replay_schedules(setup.model, setup.optimizer, self.progress.step)

    def train(self) -> None:
        """Make updates until the config, or Ctrl-C, ends them."""
        settings, now = self.setup.settings, self.progress
        with (
            deferred_interrupt() as interrupt,
            progress_bar(settings.max_steps, now.step, self.shown) as bar,
        ):
            try:
                for position, docs in self.upcoming:
                    if self._over(interrupt.asked):
                        break
                    if position.epoch != now.position.epoch:
                        self._end_epoch()
                    self.update(docs)
                    bar.update()
                    now.position = position
                    self._look_back(bar)
                    if now.step % settings.save_every == 0:
                        self.checkpoint()
                    if now.ended:
                        break
                else:
                    if not now.ended:
                        self._end_epoch(last=True)
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
            "identity": asdict(self.identity),
            "skipped": self.setup.stream.text.skipped.told(),
        }
        self.store.save(self.progress.step, self.setup.model, self.setup.optimizer, state)

    def _batches(self) -> Iterator[tuple[Position, list[Doc]]]:
        if self.progress.ended:
            return iter(())
        return self.setup.stream.batches(self.progress.position, self.setup.max_epochs)

    def _over(self, asked: bool) -> bool:
        settings = self.setup.settings
        steps = 0 < settings.max_steps <= self.progress.step
        late = asked or 0 < settings.max_seconds <= self.journal.seconds
        if self.share.of > 1:
            # Time and Ctrl-C come to each process at another moment.
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
        self.last_dev = dev if dev is not None else self.last_dev
        told = {} if self.last_dev is None else {"dev": f"{self.last_dev:.4g}"}
        bar.total = self.forecast.updates(now.step, self.journal.seconds, now.position)
        bar.set_postfix(loss=f"{row['loss']:.4g}", **told, words_s=f"{pace:,.0f}")
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

    def _end_epoch(self, last: bool = False) -> None:
        """Keep the model of the epoch that ends, where the config asks for it."""
        epoch, every = self.progress.position.epoch, self.setup.n_save_epoch
        self.forecast.pass_ended(self.progress.position)
        if every and (last or epoch % every == 0):
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
                "skipped": self.setup.stream.text.skipped.told(),
            }
            for reason, count in self.setup.stream.text.skipped.told().items():
                logger.warning("%s: left out %d: %s", self.setup.stream.text.path, count, reason)
            write_aside(self.folder / "run.json", json.dumps(told, indent=1).encode())
