"""Runs on a Slurm cluster through submitit, as job arrays (extra ``slurm``)."""

import contextlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import submitit

from trfnb.runs.engines import Ended
from trfnb.runs.engines.local import end, launch
from trfnb.runs.environment import cores
from trfnb.runs.job import Job
from trfnb.runs.status import State

MANY = 10_000
_LOST = {"NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REQUEUED"}
_STATES = {"TIMEOUT": State.TIMED_OUT, "OUT_OF_MEMORY": State.OUT_OF_MEMORY}


def execute_in_job(content: dict[str, Any]) -> int:
    """Be the starter of a run inside a Slurm job: the run dies with it."""
    job = Job(**content)
    process = launch(job)
    try:
        return process.wait()
    finally:
        end(process, job.folder)


class SlurmEngine:
    """A task of a job array a run; Slurm decides when it starts.

    Args:
        jobs: runs at once (``slurm_array_parallelism``); all when not given.
        threads: cores of each run, 1 when not given.
        gpus: GPUs of each run, none when not given.
        cluster: ``slurm``; ``local`` runs the same jobs as processes here, for trying out.
        minutes: time limit of each job for Slurm; the sweep's own timeout ends a run first.
        parameters: further ones of submitit's ``update_parameters``, such as
            ``slurm_partition``.
    """

    def __init__(
        self,
        jobs: int | None = None,
        threads: int | None = None,
        gpus: int | None = None,
        cluster: str = "slurm",
        minutes: int = 24 * 60,
        parameters: dict[str, Any] | None = None,
    ):
        self.threads, self.gpus = threads or 1, gpus or 0
        # waiting in Slurm's queue costs nothing, and an array needs its runs together
        here = jobs or max(1, cores() // self.threads)
        self.slots = MANY if cluster == "slurm" else here
        self._cluster = cluster
        self._parameters = {
            "timeout_min": minutes,
            "cpus_per_task": self.threads,
            "gpus_per_node": self.gpus,
            **({"slurm_array_parallelism": jobs} if jobs else {}),
            **(parameters or {}),
        }
        self._executor: Any = None
        self._waiting: list[Job] = []
        self._running: dict[str, Any] = {}

    def start(self, job: Job) -> None:
        """Take a job for the next array."""
        self._waiting.append(replace(job, threads=self.threads, gpus=self.gpus))

    def ended(self) -> dict[str, Ended]:
        """Submit what has been taken, as one array, and return the jobs that are over."""
        self._submit()
        over: dict[str, Ended] = {}
        for name, job in list(self._running.items()):
            if not job.done():
                continue
            del self._running[name]
            state = str(job.state).split()[0].removesuffix("+")
            cause = f"its Slurm job {job.job_id} ended as {state}; see {job.paths.stderr}"
            over[name] = Ended(cause, _STATES.get(state, State.KILLED), lost=state in _LOST)
        return over

    def _submit(self) -> None:
        if not self._waiting:
            return
        if self._executor is None:
            folder = Path(self._waiting[0].folder).parents[1] / "slurm"
            self._executor = submitit.AutoExecutor(folder=folder, cluster=self._cluster)
            self._executor.update_parameters(name="trfnb", **self._parameters)
        contents = [asdict(job) for job in self._waiting]
        jobs = self._executor.map_array(execute_in_job, contents)
        names = [job.name for job in self._waiting]
        self._running.update(zip(names, jobs, strict=True))
        self._waiting.clear()

    def cancel(self, name: str, *, now: bool) -> None:
        """Cancel a job; Slurm first asks (SIGTERM), then kills."""
        self._waiting = [job for job in self._waiting if job.name != name]
        if name in self._running:
            self._running[name].cancel()

    def close(self) -> None:
        """Cancel what still runs."""
        for job in self._running.values():
            with contextlib.suppress(OSError):
                job.cancel()
        self._running.clear()
