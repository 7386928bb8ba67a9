"""Where runs execute: processes here, tasks of a Ray cluster, or jobs of a Slurm cluster.

Each engine starts `trfnb.runs.execute` for a run in a process that dies with its starter.
How a run went is in its status, where it could still write one.

A job is a run that was started: it says how it ``ended``, None while it is under way, and can be
told to ``cancel``: to stop, or with ``now`` to be killed with all that it started.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trfnb import notebook_side
from trfnb.runs.execute import kill, launch
from trfnb.runs.ledger import Status
from trfnb.runs.specification import Sweep

# Seconds that a cancelled run on a cluster gets to save its notebook.
PATIENCE = 15.0
# Runs that are handed to Slurm at once: waiting in its queue costs nothing.
ARRAY = 10_000
_SLURM_LOST = {"NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REQUEUED"}


class Ended(NamedTuple):
    """That a run's process is over.

    Attributes:
        cause: in words, for a run that could not say it in its status; empty: it lives on.
        lost: the worker or machine under it is gone; the run may be started elsewhere.
    """

    cause: str = "its process ended without a word; see log.txt"
    lost: bool = False


@dataclass
class Engine:
    """Where runs execute.

    Attributes:
        slots: runs at once.
        threads: of each run.
        start: starts waiting runs, each given with its folder, and returns a job for each.
        close: ends what the engine itself started, after its last run.
    """

    slots: int
    threads: int
    start: Callable[[list[tuple[Path, Status]]], list["Job"]]
    close: Callable[[], object] = lambda: None


def make_engine(sweep: Sweep) -> Engine:
    """Return the engine that a sweep names.

    Raises:
        ImportError: the package that brings the engine is missing here.
        ValueError: the cluster cannot be reached from here.
    """
    make = {"local": _local, "ray": _ray, "slurm": _slurm}[sweep.engine.name]
    with notebook_side():
        return make(sweep)


def cores() -> int:
    """Return how many cores this process may use: affinity and the container's quota."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(usable or 1, int(quota) // int(period)))
    return usable or 1


def start_and_wait(folder: Path, status: Status) -> None:
    """Be the starter of a run on a cluster's machine: the run dies with it, and with a cancel."""
    job = _Process(launch(folder, status), folder)
    try:
        job.process.wait(float("inf"))  # with a limit it looks up often enough to be interrupted
    except BaseException:  # Ray's cancel and submitit's arrive as KeyboardInterrupt
        job.cancel(now=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.process.wait(PATIENCE)
        raise
    finally:
        job.cancel(now=True)


# Parallel processes on this machine; one where jobs are not given.
def _local(sweep: Sweep) -> Engine:
    slots = sweep.jobs or 1
    return Engine(
        slots,
        sweep.threads or max(1, cores() // slots),
        lambda runs: [_Process(launch(folder, status), folder) for folder, status in runs],
    )


@dataclass(frozen=True)
class _Process:
    process: "subprocess.Popen[bytes]"
    folder: Path

    def ended(self) -> Ended | None:
        code = self.process.poll()
        if code is not None and code < 0:  # it could not clean up after itself
            self.cancel(now=True)
        return None if code is None else Ended()

    def cancel(self, *, now: bool) -> None:
        if now:
            self.process.kill()
            kill(self.folder)
            self.process.wait()
        elif self.process.stdin:
            self.process.stdin.close()


# One Ray task per run, on a cluster whose nodes share the sweep's folder (extra ``ray``). Ray's own
# retries are off: a run whose worker is lost is started again by the sweep, which knows whether it
# had ended before. Without an address, a cluster is started here.
def _ray(sweep: Sweep) -> Engine:
    import ray

    here = not ray.is_initialized()
    if here:
        # a dying worker must leave the executor alive, which ends all that the run started
        os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "false")
        try:
            ray.init(address=sweep.engine.address, log_to_driver=False, include_dashboard=False)
        except Exception as error:  # Ray raises the bare class where a node does not start
            raise ValueError(
                "Engine 'ray': cannot reach or start "
                f"{sweep.engine.address or 'a cluster of its own'}: {error}"
            ) from None
    threads = sweep.threads or 1
    resources = ray.cluster_resources()
    on_gpu = sweep.device != "cpu" and bool(resources.get("GPU"))
    task = ray.remote(start_and_wait).options(num_cpus=threads, num_gpus=int(on_gpu), max_retries=0)
    return Engine(
        sweep.jobs or max(1, int(resources.get("CPU", 1)) // threads),
        threads,
        lambda runs: [_RayTask(ray, task.remote(folder, status)) for folder, status in runs],
        ray.shutdown if here else lambda: None,
    )


@dataclass(frozen=True)
class _RayTask:
    ray: Any
    task: Any

    def ended(self) -> Ended | None:
        errors = self.ray.exceptions
        if not self.ray.wait([self.task], timeout=0)[0]:
            return None
        try:
            self.ray.get(self.task)
        except errors.RayError as error:
            cause = str(getattr(error, "cause", error)).strip()[:200]
            lost = not isinstance(error, errors.TaskCancelledError | errors.RayTaskError)
            return Ended(f"its Ray task ended: {cause}", lost)
        return Ended()

    def cancel(self, *, now: bool) -> None:
        self.ray.cancel(self.task, force=now)


# One task of a job array per run, through submitit (extra ``slurm``). Jobs are Slurm's
# ``slurm_array_parallelism``; all at once when not given.
def _slurm(sweep: Sweep) -> Engine:
    import submitit

    here = sweep.engine.cluster == "local"
    if not here and not shutil.which("srun"):
        raise ValueError(
            "Engine 'slurm': expected `srun` on this machine, found none. Call trfnb on a "
            "login node of the cluster, or try the engine {name: slurm, cluster: local}."
        )
    threads = sweep.threads or 1
    parameters = {
        "name": "trfnb",
        "timeout_min": sweep.engine.minutes,
        "cpus_per_task": threads,
        **({"slurm_array_parallelism": sweep.jobs} if sweep.jobs else {}),
        **sweep.engine.parameters,
    }

    def start(runs: list[tuple[Path, Status]]) -> list["Job"]:
        folders, statuses = zip(*runs, strict=True)
        logs = folders[0].parents[1] / "slurm"
        executor = submitit.AutoExecutor(logs, cluster=sweep.engine.cluster)
        executor.update_parameters(**parameters)
        return [_SlurmTask(job) for job in executor.map_array(start_and_wait, folders, statuses)]

    # processes here are few; and a search whose queue is full of proposals learns nothing
    few = sweep.jobs or (max(1, cores() // threads) if here else ARRAY)
    slots = few if here or sweep.search else ARRAY
    return Engine(slots, threads, start)


@dataclass(frozen=True)
class _SlurmTask:
    job: Any

    def ended(self) -> Ended | None:
        if not self.job.done():
            return None
        state = str(self.job.state).split()[0].removesuffix("+")
        return Ended(
            f"its Slurm job {self.job.job_id} ended as {state}; see {self.job.paths.stderr}",
            lost=state in _SLURM_LOST,
        )

    def cancel(self, *, now: bool) -> None:
        self.job.cancel()  # Slurm first asks (SIGTERM), then kills


Job = _Process | _RayTask | _SlurmTask
