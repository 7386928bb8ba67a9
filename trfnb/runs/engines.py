"""Where runs execute: processes here, tasks of a Ray cluster, or jobs of a Slurm cluster.

Each engine starts :mod:`trfnb.runs.execute` for a job in a process that dies with its starter.
How a run went is in its status, where it could still write one.
"""

import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from trfnb.runs import specification
from trfnb.runs.execute import end, launch
from trfnb.runs.ledger import Job, State
from trfnb.runs.watchdog import kill, marked

PATIENCE = 15.0
"""Seconds that a cancelled run on a cluster gets to save its notebook."""
ARRAY = 10_000
"""Runs that are handed to Slurm at once: waiting in its queue costs nothing."""
_SLURM_LOST = {"NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REQUEUED"}
_SLURM_STATES = {"TIMEOUT": State.TIMED_OUT, "OUT_OF_MEMORY": State.OUT_OF_MEMORY}


@dataclass(frozen=True)
class Ended:
    """That a job is over.

    Attributes:
        cause: in words, for a job that could not say it in its status.
        state: the state of such a job.
        lost: the worker or machine under it is gone; the run may be started elsewhere.
    """

    cause: str = "its process ended without a word; see log.txt"
    state: State = State.KILLED
    lost: bool = False


def make_engine(sweep: specification.Sweep) -> "Engine":
    """Return the engine that a sweep names.

    Raises:
        ValueError: what brings the engine is missing here.
    """
    options, settings = sweep.engine, (sweep.jobs, sweep.threads, sweep.gpus)
    try:
        if isinstance(options, specification.Ray):
            return RayEngine(*settings, options)
        if isinstance(options, specification.Slurm):
            return SlurmEngine(*settings, options)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Engine {options.name!r} needs {error.name}: run "
            f"`pip install 'trfnb[{options.name}]'`."
        ) from None
    return LocalEngine(*settings)


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
        jobs: runs at once; one per GPU, or one, when not given.
        threads: of each run; the cores divided by the jobs when not given.
        gpus: 0 hides GPUs from runs; else each run gets one of its own.
    """

    def __init__(
        self, jobs: int | None = None, threads: int | None = None, gpus: int | None = None
    ):
        devices = visible_gpus() if gpus != 0 else []
        if gpus and not devices:
            raise ValueError(
                "Engine 'local': expected a GPU for each run; this machine shows none."
            )
        self.slots = min(jobs or len(devices) or 1, len(devices) or ARRAY)
        self.threads = threads or max(1, cores() // self.slots)
        # without a GPU to share, "" hides them and None leaves things as they are
        self._free: list[str | None] = [*devices] or [("" if gpus == 0 else None)] * self.slots
        self._running: dict[str, tuple[subprocess.Popen[bytes], Job, str | None]] = {}

    def start(self, job: Job) -> None:
        """Start a job's process."""
        gpu = self._free.pop(0)
        variables = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        process = launch(replace(job, threads=self.threads), **variables)
        self._running[job.name] = process, job, gpu

    def ended(self) -> dict[str, Ended]:
        """Return the jobs whose process has ended."""
        over = [
            name for name, (process, _, _) in self._running.items() if process.poll() is not None
        ]
        for name in over:
            process, job, gpu = self._running.pop(name)
            if process.stdin:
                process.stdin.close()
            if process.returncode < 0:  # it could not clean up after itself
                kill(marked(job.folder))
            self._free.append(gpu)
        return {name: Ended() for name in over}

    def cancel(self, name: str, *, now: bool) -> None:
        """Ask a job's process to stop, or kill it and all it started."""
        process, job, _ = self._running[name]
        if now:
            end(process, job.folder)
        else:
            process.terminate()

    def close(self) -> None:
        """Kill what still runs."""
        for process, job, _ in self._running.values():
            end(process, job.folder)


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs that runs may be given."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None and shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, check=False)
        visible = ",".join(done.stdout.split())
    return [part.strip() for part in (visible or "").split(",") if part.strip() not in {"", "-1"}]


def start_and_wait(job: Job) -> None:
    """Be the starter of a run on a cluster's machine: the run dies with it, and with a cancel."""
    process = launch(job)
    try:
        while process.poll() is None:
            time.sleep(0.1)
    except BaseException:  # Ray's cancel and submitit's arrive as KeyboardInterrupt
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        raise
    finally:
        end(process, job.folder)


class RayEngine:
    """One Ray task per run, on a cluster whose nodes share the sweep's folder (extra ``ray``).

    Ray's own retries are off: a run whose worker is lost is started again by the sweep, which
    knows whether it had ended before.

    Args:
        jobs: runs at once; as many as the cluster's resources hold when not given.
        threads: cores of each run, 1 when not given.
        gpus: GPUs of each run; 1 where the cluster has any when not given.
        options: ``address`` of the cluster; one is started here when there is none.
    """

    def __init__(
        self, jobs: int | None, threads: int | None, gpus: int | None, options: specification.Ray
    ):
        import ray

        self._ray, self._started = ray, not ray.is_initialized()
        if self._started:
            # a dying worker must leave the executor alive, which ends all that the run started
            os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "false")
            try:
                ray.init(address=options.address, log_to_driver=False, include_dashboard=False)
            except Exception as error:  # Ray raises the bare class where a node does not start
                where = options.address or "a cluster of its own"
                raise ValueError(f"Engine 'ray': cannot reach or start {where}: {error}") from None
        resources = ray.cluster_resources()
        self.threads = threads or 1
        gpus = int(bool(resources.get("GPU"))) if gpus is None else gpus
        most = int(resources.get("CPU", 1)) // self.threads
        if gpus:
            most = min(most, int(resources.get("GPU", 0)) // gpus)
        self.slots = jobs or max(1, most)
        self._task = ray.remote(start_and_wait)
        self._options = {"num_cpus": self.threads, "num_gpus": gpus, "max_retries": 0}
        self._running: dict[str, Any] = {}

    def start(self, job: Job) -> None:
        """Submit a job as a task."""
        task = self._task.options(name=job.name, **self._options)
        self._running[job.name] = task.remote(replace(job, threads=self.threads))

    def ended(self) -> dict[str, Ended]:
        """Return the jobs whose task is over, and those whose worker or node is gone."""
        if not self._running:
            return {}
        errors = self._ray.exceptions
        ready, _ = self._ray.wait(
            [*self._running.values()], num_returns=len(self._running), timeout=0
        )
        over: dict[str, Ended] = {}
        for name in [name for name, task in self._running.items() if task in ready]:
            try:
                self._ray.get(self._running.pop(name))
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
        gpus: GPUs of each run, none when not given.
        options: submitit's cluster, Slurm's time limit, and further parameters.
    """

    def __init__(
        self, jobs: int | None, threads: int | None, gpus: int | None, options: specification.Slurm
    ):
        import submitit

        here = options.cluster == "local"
        if not here and not shutil.which("srun"):
            raise ValueError(
                "Engine 'slurm': expected `srun` on this machine, found none. Call trfnb on a "
                "login node of the cluster, or try the engine {name: slurm, cluster: local}."
            )
        self.threads = threads or 1
        self.slots = (jobs or max(1, cores() // self.threads)) if here else ARRAY
        self._submitit, self._options = submitit, options
        self._parameters = {
            "name": "trfnb",
            "timeout_min": options.minutes,
            "cpus_per_task": self.threads,
            "gpus_per_node": gpus or 0,
            **({"slurm_array_parallelism": jobs} if jobs else {}),
            **options.parameters,
        }
        self._executor: Any = None
        self._waiting: list[Job] = []
        self._running: dict[str, Any] = {}

    def start(self, job: Job) -> None:
        """Take a job for the next array."""
        self._waiting.append(replace(job, threads=self.threads))

    def ended(self) -> dict[str, Ended]:
        """Submit what has been taken, as one array, and return the jobs that are over."""
        if self._waiting:
            folder = Path(self._waiting[0].folder).parents[1] / "slurm"
            if self._executor is None:
                self._executor = self._submitit.AutoExecutor(folder, cluster=self._options.cluster)
                self._executor.update_parameters(**self._parameters)
            jobs = self._executor.map_array(start_and_wait, self._waiting)
            self._running |= {w.name: job for w, job in zip(self._waiting, jobs, strict=True)}
            self._waiting.clear()
        over: dict[str, Ended] = {}
        for name in [name for name, job in self._running.items() if job.done()]:
            job = self._running.pop(name)
            state = str(job.state).split()[0].removesuffix("+")
            cause = f"its Slurm job {job.job_id} ended as {state}; see {job.paths.stderr}"
            ended_as = _SLURM_STATES.get(state, State.KILLED)
            over[name] = Ended(cause, ended_as, lost=state in _SLURM_LOST)
        return over

    def cancel(self, name: str, *, now: bool) -> None:
        """Cancel a job; Slurm first asks (SIGTERM), then kills."""
        self._waiting = [job for job in self._waiting if job.name != name]
        if name in self._running:
            self._running[name].cancel()

    def close(self) -> None:
        """Cancel what still runs."""
        for name in [*self._running]:
            self.cancel(name, now=True)


Engine: TypeAlias = LocalEngine | RayEngine | SlurmEngine
"""``start`` a job, ask which have ``ended``, ``cancel`` one, ``close`` all; ``slots`` at once."""
