"""Watches one run from a thread of its executor: time, memory, the sweep's pulse."""

import contextlib
import json
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trfnb.runs.durations import clock
from trfnb.runs.job import Job
from trfnb.runs.processes import descendants, kill, marked, memory_of
from trfnb.runs.recording import PROGRESS
from trfnb.runs.status import State, Status

TICK = 0.1
HEARTBEAT = 2.0
GRACE = 5.0
"""Seconds between asking a kernel to stop and killing it."""
STUCK = 15.0
"""Seconds after which an executor that has not noticed its kernel's death is left behind."""


@dataclass(frozen=True)
class Reason:
    """Why the watchdog ended a run."""

    state: State
    cause: str


class Watchdog(threading.Thread):
    """Ends a run that exceeds its limits or has lost its sweep.

    Args:
        job: the run and its limits.
        status: its record, kept up to date at every heartbeat.
        lifeline: a pipe that closes when whoever started the run is gone; None without.
        abandon: ends the process when its main thread doesn't notice the kernel's death.
    """

    def __init__(
        self, job: Job, status: Status, lifeline: int | None, abandon: Callable[[Reason], None]
    ):
        super().__init__(name="watchdog", daemon=True)
        self.job, self.status, self.lifeline = job, status, lifeline
        self._abandon, self._patience = abandon, STUCK
        self.reason: Reason | None = None
        self.kernel: int | None = None
        self.cell_started = time.time()
        self.write_lock = threading.Lock()
        self._kill_at: float | None = None
        self._finished = threading.Event()
        self._progress = ""

    def trip(self, state: State, cause: str, *, grace: float = GRACE) -> None:
        """End the run for this reason; the first reason counts, a shorter grace always."""
        if self.reason is None:
            self.reason = Reason(state, cause)
            if grace and self.kernel:
                # a KeyboardInterrupt leaves the traceback that says where it hung
                with contextlib.suppress(OSError):
                    os.killpg(self.kernel, signal.SIGINT)
        self._kill_at = min(self._kill_at or float("inf"), time.time() + grace)

    def finish(self) -> None:
        """Stop watching: from here on the main thread says how the run ended."""
        with self.write_lock:
            self._finished.set()

    def run(self) -> None:
        """Watch until the run is finished."""
        beat = 0.0
        while not self._finished.is_set():
            if self._lost():
                self.lifeline, self._patience = None, 0.5
                self.trip(State.KILLED, "the sweep that started it ended", grace=0)
            now = time.time()
            self._check(now)
            if self._kill_at is not None and now >= self._kill_at:
                self._kill()
                self._finished.wait(0.2)
                if self.reason and now >= self._kill_at + self._patience:
                    self._leave(self.reason)
            if now - beat >= HEARTBEAT:
                beat = now
                self.beat()

    def _lost(self) -> bool:
        if self.lifeline is None:
            self._finished.wait(TICK)
            return False
        ready, _, _ = select.select([self.lifeline], [], [], TICK)
        return bool(ready) and os.read(self.lifeline, 1) == b""

    def _check(self, now: float) -> None:
        job, started = self.job, self.status.started or now
        if job.timeout and now - started > job.timeout:
            self.trip(State.TIMED_OUT, f"the run took longer than {clock(job.timeout)}")
        if job.cell_timeout and self.status.cell and now - self.cell_started > job.cell_timeout:
            cause = f"cell {self.status.cell} took longer than {clock(job.cell_timeout)}"
            self.trip(State.TIMED_OUT, cause)
        if self.kernel:
            used = memory_of(self.kernel)
            self.status.peak_memory = round(max(used, self.status.peak_memory or 0), 1)
            if job.memory and used > job.memory:
                cause = f"held {used:.0f} MB, more than its limit of {job.memory:.0f} MB"
                self.trip(State.OUT_OF_MEMORY, cause, grace=0)

    def _kill(self) -> None:
        kill([*descendants(os.getpid()), *marked(self.job.folder)], patience=1.0)

    def _leave(self, reason: Reason) -> None:
        with self.write_lock:
            if not self._finished.is_set():
                self._abandon(reason)

    def beat(self) -> None:
        """Write the status with the time, the memory and the latest reported values."""
        self.status.heartbeat = time.time()
        self.status.latest |= self.latest()
        with contextlib.suppress(OSError), self.write_lock:
            if not self._finished.is_set():
                self.status.write(Path(self.job.folder))

    def latest(self) -> dict[str, Any]:
        """Return the last value that the notebook reported under each name."""
        found = {}
        with contextlib.suppress(OSError):
            for line in (Path(self.job.folder) / PROGRESS).read_text().splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    found[entry["name"]] = entry["value"]
        return found
