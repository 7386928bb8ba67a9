"""The processes of a run: marked, measured, held to limits, and ended together."""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from trfnb.runs.ledger import Job, State, Status

MARK = "TRFNB_RUN"
"""Environment variable with the run's folder, inherited by all its processes."""
TICK = 0.1
HEARTBEAT = 2.0
GRACE = 5.0
"""Seconds between asking a kernel to stop and killing it."""
STUCK = 15.0
"""Seconds after which an executor that has not noticed its kernel's death is left behind."""
_SOCKET_NAME = 80
"""Letters that a folder's path may have for a socket in it; the system's limit is 107."""


def marked(folder: Path | str) -> list[psutil.Process]:
    """Return the living processes whose run lies in this folder or is it, save our own."""
    root = os.path.realpath(folder)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            run = process.environ().get(MARK, "")
            inside = run == root or run.startswith(root + os.sep)
            living = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
            if inside and living and process.pid != os.getpid():
                found.append(process)
    return found


def descendants(pid: int) -> list[psutil.Process]:
    """Return all children of a process and theirs."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def kill(processes: Iterable[psutil.Process], patience: float = 3.0) -> None:
    """SIGKILL processes and wait until they are gone."""
    targets = list(processes)
    for process in targets:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(targets, timeout=patience)


def end_leftovers(folder: Path | str) -> None:
    """Give processes of earlier runs in a folder three seconds to end, then kill them."""
    psutil.wait_procs(marked(folder), timeout=3.0)
    while left := marked(folder):  # a killed parent's children may have been on their way
        kill(left)


def temporary_folders(token: str) -> tuple[Path, Path]:
    """Return where a run's temporary files and its sockets lie; they are removed with the run."""
    files = Path(tempfile.gettempdir()) / f"trfnb-{token}"
    return files, files if len(str(files)) < _SOCKET_NAME else Path("/tmp") / files.name


def remove_temporary(token: str) -> None:
    """Remove a run's temporary files."""
    for folder in temporary_folders(token):
        shutil.rmtree(folder, ignore_errors=True)


def control(option: int, value: int) -> None:
    """Call ``prctl`` (Linux): 1 is the signal at a parent's death, 36 adopts orphans."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def oom_kills() -> int:
    """Return how many processes the system has killed for memory here; 0 if it won't say."""
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        with contextlib.suppress(OSError):
            for line in Path(path).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def memory_of(pid: int) -> float:
    """Return the megabytes (10⁶) that a process and its children hold in memory."""
    total = 0
    with contextlib.suppress(psutil.Error):
        total = psutil.Process(pid).memory_info().rss
    for child in descendants(pid):
        with contextlib.suppress(psutil.Error):
            # what a fork shares with its parent is counted there
            total += child.memory_full_info().uss
    return total / 1e6


class Watchdog(threading.Thread):
    """Ends a run that exceeds its limits or has lost its sweep, and keeps its status up to date.

    Args:
        job: the run and its limits.
        status: its record, written at every heartbeat.
        lifeline: a pipe that closes when whoever started the run is gone; None without.
        abandon: ends the process when its main thread does not notice the kernel's death.
    """

    def __init__(
        self, job: Job, status: Status, lifeline: int | None, abandon: Callable[[State, str], None]
    ):
        super().__init__(name="watchdog", daemon=True)
        self.job, self.status, self.lifeline = job, status, lifeline
        self.reason: tuple[State, str] | None = None
        self.kernel: int | None = None
        self.cell_started = time.time()
        self.write_lock = threading.Lock()
        self._abandon, self._patience = abandon, STUCK
        self._kill_at: float | None = None
        self._finished = threading.Event()

    def trip(self, state: State, cause: str, *, grace: float = GRACE) -> None:
        """End the run for this reason; the first reason counts, a shorter grace always."""
        if self.reason is None:
            self.reason = state, cause
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
        while not self._finished.is_set():
            if self._lost():
                self.lifeline, self._patience = None, 0.5
                self.trip(State.KILLED, "the sweep that started it ended", grace=0)
            self._check(time.time())
            if self.reason and self._kill_at is not None and time.time() >= self._kill_at:
                kill([*descendants(os.getpid()), *marked(self.job.folder)], patience=1.0)
                self._finished.wait(0.2)
                with self.write_lock:
                    late = time.time() >= self._kill_at + self._patience
                    if late and not self._finished.is_set():
                        self._abandon(*self.reason)
            if time.time() - (self.status.heartbeat or 0) >= HEARTBEAT:
                self.beat()

    def _lost(self) -> bool:
        if self.lifeline is None:
            self._finished.wait(TICK)
            return False
        ready, _, _ = select.select([self.lifeline], [], [], TICK)
        return bool(ready) and os.read(self.lifeline, 1) == b""

    def _check(self, now: float) -> None:
        job, status = self.job, self.status
        if job.timeout and now - (status.started or now) > job.timeout:
            self.trip(State.TIMED_OUT, f"the run took longer than {job.timeout:g} s")
        if job.cell_timeout and status.cell and now - self.cell_started > job.cell_timeout:
            cause = f"cell {status.cell} took longer than {job.cell_timeout:g} s"
            self.trip(State.TIMED_OUT, cause)
        used = memory_of(self.kernel) if self.kernel else 0.0
        status.peak_memory = round(max(used, status.peak_memory or 0), 1)
        if job.memory and used > job.memory:
            cause = f"held {used:.0f} MB, more than its limit of {job.memory:.0f} MB"
            self.trip(State.OUT_OF_MEMORY, cause, grace=0)

    def beat(self) -> None:
        """Write the status with the time, the memory and the latest reported values."""
        self.status.heartbeat = time.time()
        self.status.latest |= latest(self.job.folder)
        with contextlib.suppress(OSError), self.write_lock:
            if not self._finished.is_set():
                self.status.write(Path(self.job.folder))


def latest(folder: str) -> dict[str, Any]:
    """Return the last value that a run's notebook reported under each name."""
    found = {}
    with contextlib.suppress(OSError):
        for line in (Path(folder) / "progress.jsonl").read_text().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                found[entry["name"]] = entry["value"]
    return found
