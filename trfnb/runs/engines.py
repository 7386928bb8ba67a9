"""Where runs execute: processes here, tasks of a Ray cluster, or jobs of a Slurm cluster.

Each engine starts `trfnb.runs.execute` for a run in a process that dies with its starter.
How a run went is in its status, where it could still write one.
"""

import contextlib
import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

from trfnb.runs.execute import kill, launch
from trfnb.runs.ledger import Status
from trfnb.runs.specification import EngineSettings, Sweep

# Seconds that a cancelled run on a cluster gets to save its notebook.
PATIENCE = 15.0
# Runs that are handed to Slurm at once: waiting in its queue costs nothing.
ARRAY = 10_000
_SLURM_LOST = {"NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REQUEUED"}


class Ended(NamedTuple):
    """That a run's process is over.

    Attributes:
        cause: in words, for a run that could not say it in its status.
        lost: the worker or machine under it is gone; the run may be started elsewhere.
    """

    cause: str = "its process ended without a word; see log.txt"
    lost: bool = False


class Engine(ABC):
    """Starts runs, and knows which of them are over.

    Attributes:
        slots: runs at once.
        threads: of each run.
        running: what stands for each run under way.
    """

    slots: int
    threads: int

    def __init__(self) -> None:
        self.running: dict[str, Any] = {}

    @abstractmethod
    def start(self, folder: Path, status: Status) -> None:
        """Start a waiting run."""

    def ended(self) -> dict[str, Ended]:
        """Return the runs that are over, once each."""
        over = {name: self._look(one) for name, one in self.running.items()}
        found = {name: how for name, how in over.items() if how is not None}
        self.running = {name: one for name, one in self.running.items() if name not in found}
        return found

    @abstractmethod
    def cancel(self, name: str, *, now: bool) -> None:
        """Ask a run to stop, or kill it and all it started."""

    def close(self) -> None:
        """Kill what still runs."""
        for name in self.running:
            self.cancel(name, now=True)

    @abstractmethod
    def _look(self, one: Any) -> Ended | None: ...


def make_engine(sweep: Sweep) -> Engine:
    """Return the engine that a sweep names.

    Raises:
        ValueError: what brings the engine is missing here.
    """
    name = sweep.engine.name
    kinds: dict[str, type[_Local | _Ray | _Slurm]] = {"local": _Local, "ray": _Ray, "slurm": _Slurm}
    try:
        return kinds[name](sweep.jobs, sweep.threads, sweep.engine)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Engine {name!r} needs {error.name}: run `pip install 'trfnb[{name}]'`."
        ) from None


def cores() -> int:
    """Return how many cores this process may use: affinity and the container's quota."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(usable or 1, int(quota) // int(period)))
    return usable or 1


def start_and_wait(folder: Path, status: Status) -> None:
    """Be the starter of a run on a cluster's machine: the run dies with it, and with a cancel."""
    process = launch(folder, status)
    try:
        while process.poll() is None:
            time.sleep(0.1)
    except BaseException:  # Ray's cancel and submitit's arrive as KeyboardInterrupt
        if process.stdin:
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        raise
    finally:
        _end(process, folder)


def _end(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    process.kill()
    kill(folder)
    process.wait()


class _Local(Engine):
    """Parallel processes on this machine; one where jobs are not given."""

    def __init__(self, jobs: int | None, threads: int | None, _: EngineSettings):
        super().__init__()
        self.slots = jobs or 1
        self.threads = threads or max(1, cores() // self.slots)

    def start(self, folder: Path, status: Status) -> None:
        self.running[status.run] = launch(folder, status), folder

    def cancel(self, name: str, *, now: bool) -> None:
        process, folder = self.running[name]
        if now:
            _end(process, folder)
        else:
            process.stdin.close()

    def _look(self, one: Any) -> Ended | None:
        process, folder = one
        if process.poll() is None:
            return None
        if process.returncode < 0:  # it could not clean up after itself
            _end(process, folder)
        return Ended()


class _Ray(Engine):
    """One Ray task per run, on a cluster whose nodes share the sweep's folder (extra ``ray``).

    Ray's own retries are off: a run whose worker is lost is started again by the sweep, which
    knows whether it had ended before. Without an address, a cluster is started here.
    """

    def __init__(self, jobs: int | None, threads: int | None, settings: EngineSettings):
        import ray

        super().__init__()
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
        needs = {"num_cpus": self.threads, "num_gpus": int(bool(resources.get("GPU")))}
        self._task = ray.remote(start_and_wait).options(**needs, max_retries=0)

    def start(self, folder: Path, status: Status) -> None:
        self.running[status.run] = self._task.remote(folder, status)

    def cancel(self, name: str, *, now: bool) -> None:
        self._ray.cancel(self.running[name], force=now)

    def close(self) -> None:
        super().close()
        if self._started:
            self._ray.shutdown()

    def _look(self, one: Any) -> Ended | None:
        errors = self._ray.exceptions
        if not self._ray.wait([one], timeout=0)[0]:
            return None
        try:
            self._ray.get(one)
        except errors.TaskCancelledError:
            return Ended("interrupted before it had saved its status")
        except errors.RayTaskError as error:
            return Ended(f"its Ray task failed: {error.cause!r}")
        except errors.RayError as error:
            return Ended(f"its Ray worker was lost ({str(error).strip()[:200]})", lost=True)
        return Ended()


class _Slurm(Engine):
    """One task of a job array per run, through submitit (extra ``slurm``).

    Jobs are Slurm's ``slurm_array_parallelism``; all at once when not given.
    """

    def __init__(self, jobs: int | None, threads: int | None, settings: EngineSettings):
        import submitit

        super().__init__()
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

    def start(self, folder: Path, status: Status) -> None:
        self._waiting[status.run] = folder, status

    def ended(self) -> dict[str, Ended]:
        if self._waiting:  # as one array
            folders, statuses = zip(*self._waiting.values(), strict=True)
            logs = folders[0].parents[1] / "slurm"
            executor = self._submitit.AutoExecutor(logs, cluster=self._cluster)
            executor.update_parameters(**self._parameters)
            jobs = executor.map_array(start_and_wait, folders, statuses)
            self.running |= zip(self._waiting, jobs, strict=True)
            self._waiting.clear()
        return super().ended()

    def cancel(self, name: str, *, now: bool) -> None:
        self.running[name].cancel()  # Slurm first asks (SIGTERM), then kills

    def _look(self, one: Any) -> Ended | None:
        if not one.done():
            return None
        state = str(one.state).split()[0].removesuffix("+")
        return Ended(
            f"its Slurm job {one.job_id} ended as {state}; see {one.paths.stderr}",
            lost=state in _SLURM_LOST,
        )
