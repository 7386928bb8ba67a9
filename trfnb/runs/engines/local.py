"""Runs on this machine: a process group each, cores and GPUs shared out."""

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from trfnb.runs.engines import Ended
from trfnb.runs.environment import cores, visible_gpus
from trfnb.runs.job import LOG, Job
from trfnb.runs.processes import MARK, descendants, kill, marked


def launch(job: Job, **variables: str) -> "subprocess.Popen[bytes]":
    """Start a job's process; it ends when the pipe at its standard input closes."""
    path = job.write()
    environment = os.environ | variables | {MARK: os.path.realpath(job.folder)}
    with (Path(job.folder) / LOG).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "trfnb.runs.execute", str(path)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=job.cwd,
            env=environment,
        )


def end(process: "subprocess.Popen[bytes]", folder: str) -> None:
    """Kill a job's process and all that belongs to it."""
    children = descendants(process.pid)
    process.kill()
    kill([*children, *marked(folder)])
    process.wait()


class LocalEngine:
    """Parallel processes on this machine.

    Args:
        jobs: runs at once; one a GPU, or one, when not given.
        threads: of each run; the cores divided by the jobs when not given.
        gpus: 0 hides GPUs from runs; else each run gets one of its own.
    """

    def __init__(
        self, jobs: int | None = None, threads: int | None = None, gpus: int | None = None
    ):
        devices = visible_gpus() if gpus != 0 else []
        if gpus and not devices:
            raise ValueError("Engine 'local': a GPU a run was asked for; this machine shows none.")
        self.slots = jobs or len(devices) or 1
        if devices:
            self.slots = min(self.slots, len(devices))
        self.threads = threads or max(1, cores() // self.slots)
        self._hide = gpus == 0
        self._free = devices
        self._running: dict[str, tuple[subprocess.Popen[bytes], Job, str]] = {}

    def start(self, job: Job) -> None:
        """Start a job's process."""
        device = self._free.pop(0) if self._free else ""
        variables = {"CUDA_VISIBLE_DEVICES": device} if device or self._hide else {}
        process = launch(replace(job, threads=self.threads), **variables)
        self._running[job.name] = (process, job, device)

    def ended(self) -> dict[str, Ended]:
        """Return the jobs whose process has ended."""
        over: dict[str, Ended] = {}
        for name, (process, job, device) in list(self._running.items()):
            if process.poll() is None:
                continue
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
            if process.returncode < 0:  # it couldn't clean up after itself
                kill(marked(job.folder))
            if device:
                self._free.append(device)
            del self._running[name]
            over[name] = Ended()
        return over

    def cancel(self, name: str, *, now: bool) -> None:
        """Ask a job's process to stop, or kill it and all it started."""
        if name in self._running:
            process, job, _ = self._running[name]
            if now:
                end(process, job.folder)
            else:
                process.terminate()

    def close(self) -> None:
        """Kill what still runs."""
        for process, job, _ in self._running.values():
            end(process, job.folder)
        self._running.clear()
