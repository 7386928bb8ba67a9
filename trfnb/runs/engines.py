"""Where runs execute: processes here, tasks of a Ray cluster, or jobs of a Slurm cluster.

Each engine starts :mod:`trfnb.runs.execute` for a run in a process that dies with its starter.
How a run went is in its status, where it could still write one.
"""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from trfnb.runs.execute import launch
from trfnb.runs.ledger import Status
from trfnb.runs.specification import EngineSettings, Sweep
from trfnb.runs.watchdog import kill

PATIENCE = 15.0
"""Seconds that a cancelled run on a cluster gets to save its notebook."""
ARRAY = 10_000
"""Runs that are handed to Slurm at once: waiting in its queue costs nothing."""
_SLURM_LOST = {"NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REQUEUED"}


class Ended(NamedTuple):
    """That a run's process is over.

    Attributes:
        cause: in words, for a run that could not say it in its status.
        lost: the worker or machine under it is gone; the run may be started elsewhere.
    """

    cause: str = "its process ended without a word; see log.txt"
    lost: bool = False


def make_engine(sweep: Sweep) -> "Engine":
    """Return the engine that a sweep names.

    Raises:
        ValueError: what brings the engine is missing here.
    """
    settings = sweep.engine
    try:
        if settings.name == "ray":
            return RayEngine(sweep.jobs, sweep.threads, settings)
        if settings.name == "slurm":
            return SlurmEngine(sweep.jobs, sweep.threads, settings)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Engine {settings.name!r} needs {error.name}: run "
            f"`pip install 'trfnb[{settings.name}]'`."
        ) from None
    return LocalEngine(sweep.jobs, sweep.threads)


def cores() -> int:
    """Return how many cores this process may use: affinity and the container's quota."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(usable or 1, int(quota) // int(period)))
    return usable or 1


class LocalEngine:
    """Parallel processes on this machine.

    Args:
        jobs: runs at once, 1 when not given.
        threads: of each run; the cores divided by the jobs when not given.
    """

    def __init__(self, jobs: int | None = None, threads: int | None = None):
        self.slots = jobs or 1
        self.threads = threads or max(1, cores() // self.slots)
        self._running: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}

    def start(self, folder: Path, status: Status) -> None:
        """Start a run's process."""
        self._running[status.run] = launch(folder, status), folder

    def ended(self) -> dict[str, Ended]:
        """Return the runs whose process has ended."""
        over = [name for name, (process, _) in self._running.items() if process.poll() is not None]
        for name in over:
            process, folder = self._running.pop(name)
            if process.returncode < 0:  # it could not clean up after itself
                _end(process, folder)
        return {name: Ended() for name in over}

    def cancel(self, name: str, *, now: bool) -> None:
        """Ask a run's process to stop, or kill it and all it started."""
        process, folder = self._running[name]
        if now:
            _end(process, folder)
        else:
            process.terminate()

    def close(self) -> None:
        """Kill what still runs."""
        for name in self._running:
            self.cancel(name, now=True)


def start_and_wait(folder: Path, status: Status) -> None:
    """Be the starter of a run on a cluster's machine: the run dies with it, and with a cancel."""
    process = launch(folder, status)
    try:
        while process.poll() is None:
            time.sleep(0.1)
    except BaseException:  # Ray's cancel and submitit's arrive as KeyboardInterrupt
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        raise
    finally:
        _end(process, folder)


def _end(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    process.kill()
    kill(folder)
    process.wait()


class RayEngine:
    """One Ray task per run, on a cluster whose nodes share the sweep's folder (extra ``ray``).

    Ray's own retries are off: a run whose worker is lost is started again by the sweep, which
    knows whether it had ended before.

    Args:
        jobs: runs at once; as many as the cluster's cores hold when not given.
        threads: cores of each run, 1 when not given.
        settings: ``address`` of the cluster; one is started here when there is none.
    """

    def __init__(self, jobs: int | None, threads: int | None, settings: EngineSettings):
        import ray

        self._ray, self._started = ray, not ray.is_initialized()
        if self._started:
            # a dying worker must leave the executor alive, which ends all that the run started
            os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "false")
            try:
                ray.init(address=settings.address, log_to_driver=False, include_dashboard=False)
            except Exception as error:  # Ray raises the bare class where a node does not start
                where = settings.address or "a cluster of its own"
                raise ValueError(f"Engine 'ray': cannot reach or start {where}: {error}") from None
        self.threads = threads or 1
        resources = ray.cluster_resources()
        self.slots = jobs or max(1, int(resources.get("CPU", 1)) // self.threads)
        gpus = int(bool(resources.get("GPU")))
        self._task = ray.remote(start_and_wait).options(
            num_cpus=self.threads, num_gpus=gpus, max_retries=0
        )
        self._running: dict[str, Any] = {}

    def start(self, folder: Path, status: Status) -> None:
        """Submit a run as a task."""
        self._running[status.run] = self._task.remote(folder, status)

    def ended(self) -> dict[str, Ended]:
        """Return the runs whose task is over, and those whose worker or node is gone."""
        errors, over = self._ray.exceptions, {}
        for name, task in list(self._running.items()):
            if not self._ray.wait([task], timeout=0)[0]:
                continue
            del self._running[name]
            try:
                self._ray.get(task)
                over[name] = Ended()
            except errors.TaskCancelledError:
                over[name] = Ended("interrupted before it had saved its status")
            except errors.RayTaskError as error:
                over[name] = Ended(f"its Ray task failed: {error.cause!r}")
            except errors.RayError as error:
                text = str(error).strip().splitlines()
                over[name] = Ended(f"its Ray worker was lost ({text[0]})", lost=True)
        return over

    def cancel(self, name: str, *, now: bool) -> None:
        """Interrupt a task, or kill its worker."""
        self._ray.cancel(self._running[name], force=now)

    def close(self) -> None:
        """Kill what still runs, and stop Ray if it was started here."""
        for name in self._running:
            self.cancel(name, now=True)
        if self._started:
            self._ray.shutdown()


class SlurmEngine:
    """One task of a job array per run, through submitit (extra ``slurm``).

    Args:
        jobs: runs at once (``slurm_array_parallelism``); all when not given.
        threads: cores of each run, 1 when not given.
        settings: submitit's cluster, Slurm's time limit, and further parameters.
    """

    def __init__(self, jobs: int | None, threads: int | None, settings: EngineSettings):
        import submitit

        here = settings.cluster == "local"
        if not here and not shutil.which("srun"):
            raise ValueError(
                "Engine 'slurm': expected `srun` on this machine, found none. Call trfnb on a "
                "login node of the cluster, or try the engine {name: slurm, cluster: local}."
            )
        self.threads = threads or 1
        self.slots = (jobs or max(1, cores() // self.threads)) if here else ARRAY
        self._submitit, self._cluster = submitit, settings.cluster
        self._parameters = {
            "name": "trfnb",
            "timeout_min": settings.minutes,
            "cpus_per_task": self.threads,
            **({"slurm_array_parallelism": jobs} if jobs else {}),
            **settings.parameters,
        }
        self._waiting: dict[str, tuple[Path, Status]] = {}
        self._running: dict[str, Any] = {}

    def start(self, folder: Path, status: Status) -> None:
        """Take a run for the next array."""
        self._waiting[status.run] = folder, status

    def ended(self) -> dict[str, Ended]:
        """Submit what has been taken, as one array, and return the runs that are over."""
        if self._waiting:
            folders, statuses = zip(*self._waiting.values(), strict=True)
            logs = folders[0].parents[1] / "slurm"
            executor = self._submitit.AutoExecutor(logs, cluster=self._cluster)
            executor.update_parameters(**self._parameters)
            jobs = executor.map_array(start_and_wait, folders, statuses)
            self._running |= zip(self._waiting, jobs, strict=True)
            self._waiting.clear()
        over: dict[str, Ended] = {}
        for name in [name for name, job in self._running.items() if job.done()]:
            job = self._running.pop(name)
            state = str(job.state).split()[0].removesuffix("+")
            cause = f"its Slurm job {job.job_id} ended as {state}; see {job.paths.stderr}"
            over[name] = Ended(cause, lost=state in _SLURM_LOST)
        return over

    def cancel(self, name: str, *, now: bool) -> None:
        """Cancel a job; Slurm first asks (SIGTERM), then kills."""
        self._running[name].cancel()

    def close(self) -> None:
        """Cancel what still runs."""
        for name in self._running:
            self.cancel(name, now=True)


Engine: TypeAlias = LocalEngine | RayEngine | SlurmEngine
"""``start`` a run, ask which have ``ended``, ``cancel`` one, ``close`` all; ``slots`` at once."""
