"""The processes of a run: marked, measured, held to a time limit, and ended together."""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import psutil

from trfnb.runs.ledger import State, Status

MARK = "TRFNB_RUN"
"""Environment variable with the run's folder, inherited by all its processes."""
TICK = 0.1
HEARTBEAT = 2.0
GRACE = 5.0
"""Seconds between asking a kernel to stop and killing it."""
STUCK = 15.0
"""Seconds after which an executor that has not noticed its kernel's death is left behind."""


def marked(folder: Path | str) -> list[psutil.Process]:
    """Return the living processes whose run lies in this folder or is it, save our own."""
    root = os.path.realpath(folder)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            run = process.environ().get(MARK, "")
            living = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
            if living and process.pid != os.getpid() and f"{run}/".startswith(f"{root}/"):
                found.append(process)
    return found


def kill(folder: Path | str) -> None:
    """SIGKILL all processes of the runs in a folder, and those they start meanwhile."""
    for _ in range(20):
        left = marked(folder)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)


def socket_folder(token: str) -> Path:
    """Return where a run's sockets lie: a path that is short, whatever TMPDIR is."""
    return Path("/tmp") / f"trfnb-{token}"


def remove_sockets(token: str) -> None:
    """Remove a run's sockets."""
    shutil.rmtree(socket_folder(token), ignore_errors=True)


def die_with_parent() -> None:
    """Have this process killed when its parent dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def memory_of(pid: int) -> float:
    """Return the megabytes (10⁶) that a process and its children hold in memory."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
    return total / 1e6


class Watchdog(threading.Thread):
    """Ends a run that exceeds its time or has lost its sweep, and keeps its status up to date.

    Args:
        folder: the run's.
        status: its record, written at every heartbeat.
        lifeline: a pipe that closes when whoever started the run is gone; None without.
    """

    def __init__(self, folder: Path, status: Status, lifeline: int | None):
        super().__init__(name="watchdog", daemon=True)
        self.folder, self.status, self.lifeline = folder, status, lifeline
        self.reason: tuple[State, str] | None = None
        self.kernel: int | None = None
        self._kill_at = float("inf")
        self._write_lock = threading.Lock()
        self._finished = threading.Event()

    def trip(self, state: State, cause: str, *, grace: float = GRACE) -> None:
        """End the run for this reason; the first reason counts, a shorter grace always."""
        if self.reason is None:
            self.reason = state, cause
            if grace and self.kernel:
                # a KeyboardInterrupt leaves the traceback that says where it hung
                with contextlib.suppress(OSError):
                    os.killpg(self.kernel, signal.SIGINT)
        self._kill_at = min(self._kill_at, time.time() + grace)

    def finish(self) -> None:
        """Stop watching: from here on the main thread says how the run ended."""
        with self._write_lock:
            self._finished.set()

    def run(self) -> None:
        """Watch until the run is finished."""
        status = self.status
        while not self._finished.is_set():
            if self._lost():
                self.lifeline = None
                self.trip(State.KILLED, "the sweep that started it ended", grace=0)
            now = time.time()
            if status.timeout and now - (status.started or now) > status.timeout:
                self.trip(State.TIMED_OUT, f"the run took longer than {status.timeout:g} s")
            used = memory_of(self.kernel) if self.kernel else 0.0
            status.peak_memory = round(max(used, status.peak_memory or 0), 1)
            if now >= self._kill_at:
                kill(self.folder)
            if now >= self._kill_at + STUCK:
                self._abandon()
            if now - (status.heartbeat or 0) >= HEARTBEAT:
                self.beat()

    def beat(self) -> None:
        """Write the status with the time."""
        self.status.heartbeat = time.time()
        with contextlib.suppress(OSError), self._write_lock:
            if not self._finished.is_set():
                self.status.write(self.folder)

    def _lost(self) -> bool:
        if self.lifeline is None:
            self._finished.wait(TICK)
            return False
        ready, _, _ = select.select([self.lifeline], [], [], TICK)
        return bool(ready) and os.read(self.lifeline, 1) == b""

    def _abandon(self) -> None:
        """End this process: its main thread does not notice that the kernel is dead."""
        with self._write_lock:
            if self.reason and not self._finished.is_set():
                self.status.end(*self.reason)
                self.status.write(self.folder)
                remove_sockets(self.status.token)
                os._exit(0)
