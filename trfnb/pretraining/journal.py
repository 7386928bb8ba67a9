"""What a run tells: rows of log.csv, and a bar."""

import csv
import io
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from trfnb.pretraining.checkpoints import write_aside

COLUMNS = ("step", "words", "seconds", "loss", "dev_loss", "learn_rate")


@dataclass
class Journal:
    """Counts what was trained, and writes it down.

    Attributes:
        path: log.csv; None writes nothing.
        words: Words trained on so far.
        before: Seconds trained before this process.
    """

    path: Path | None
    words: int = 0
    before: float = 0.0
    _loss: float = 0.0
    _targets: int = 0
    _began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds of this run, of all processes that took part one after another."""
        return self.before + time.perf_counter() - self._began

    def add(self, words: int, loss: float, targets: int) -> None:
        """Count an update."""
        self.words += words
        self._loss += loss
        self._targets += targets

    def row(self, step: int, dev_loss: float | None, learn_rate: float) -> dict[str, Any]:
        """Write a row: the mean loss since the last one, and what is given."""
        loss = self._loss / max(self._targets, 1)
        self._loss, self._targets = 0.0, 0
        values = (step, self.words, round(self.seconds, 3), loss, dev_loss, learn_rate)
        row = dict(zip(COLUMNS, values, strict=True))
        if self.path is not None:
            with self.path.open("a", newline="", encoding="utf8") as file:
                csv.writer(file).writerow(["" if v is None else v for v in values])
        return row

    def state(self) -> dict[str, Any]:
        """Return what a later process goes on from."""
        return {
            "words": self.words,
            "seconds": self.seconds,
            "loss": self._loss,
            "targets": self._targets,
        }

    def go_on(self, state: dict[str, Any], step: int) -> None:
        """Go on from a checkpoint; rows after it are taken out, they come again."""
        self.words, self.before = state["words"], state["seconds"]
        self._loss, self._targets = state["loss"], state["targets"]
        if self.path is None:
            return
        kept = []
        if self.path.exists():
            # A process that dies may leave its last row unfinished, without an end of line.
            whole, end, _ = self.path.read_text(encoding="utf8").rpartition("\n")
            rows = csv.DictReader(io.StringIO(whole + end, newline=""))
            kept = [row for row in rows if row["step"].isdigit() and int(row["step"]) <= step]
        self.begin(kept)

    def begin(self, rows: list[dict[str, Any]] | None = None) -> None:
        """Write the header, and the rows that stay."""
        self._began = time.perf_counter()
        if self.path is None:
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(rows or [])
        write_aside(self.path, text.getvalue().encode())


def progress_bar(total: int, step: int, shown: bool) -> Any:
    """Return a bar of updates: so many in all (0 if not known yet), some made already."""
    return tqdm(total=total or None, initial=step, unit=" updates", disable=not shown)
