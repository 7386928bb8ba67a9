"""Processes of a run: marked, measured, and ended together."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

MARK = "TRFNB_RUN"
"""Environment variable with the run's folder, inherited by all its processes."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent: int) -> None:
    """Have the kernel of the system kill this process once ``parent`` is gone (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above
            os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Make children whose own parent dies children of this process (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def prefer_for_oom_killer() -> None:
    """Tell the system to end this process before others when memory runs out (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def oom_kills() -> int:
    """Return how many processes the system has killed for memory here; 0 if it won't say."""
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        with contextlib.suppress(OSError):
            for line in Path(path).read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def marked(folder: Path | str) -> list[psutil.Process]:
    """Return the living processes whose run lies in this folder or is it, save our own."""
    root = os.path.realpath(folder)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            run = process.environ().get(MARK, "")
            inside = run == root or run.startswith(root + os.sep)
            if inside and process.pid != os.getpid() and alive(process):
                found.append(process)
    return found


def alive(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie doesn't."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


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


def end_leftovers(folder: Path | str, patience: float = 3.0) -> int:
    """Give processes of earlier runs in a folder a moment to end, then kill them.

    Returns:
        How many had to be killed.
    """
    left = marked(folder)
    if left:
        _, left = psutil.wait_procs(left, timeout=patience)
    killed = 0
    while left:  # a killed parent's children may have been on their way
        kill(left)
        killed += len(left)
        left = marked(folder)
    return killed


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
