"""Runs on a Ray cluster whose nodes share the sweep's folder (extra ``ray``)."""

import contextlib
import subprocess
import time
from dataclasses import asdict, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from trfnb.runs.engines import Ended
from trfnb.runs.engines.local import end, launch
from trfnb.runs.job import Job

PATIENCE = 15.0
"""Seconds that a cancelled run gets to save its notebook."""


def execute_on_worker(content: dict[str, Any]) -> None:
    """Be the starter of a run on a worker: the run dies with the worker, and with a cancel."""
    job = Job(**content)
    process = launch(job)
    try:
        while process.poll() is None:
            time.sleep(0.1)
    except BaseException:  # a cancel arrives as KeyboardInterrupt
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        raise
    finally:
        end(process, job.folder)


class RayEngine:
    """A Ray task a run.

    Ray's own retries are off: a run whose worker is lost is started again by the sweep, which
    knows whether it had ended before.

    Args:
        jobs: runs at once; as many as the cluster's resources hold when not given.
        threads: cores of each run, 1 when not given.
        gpus: GPUs of each run; 1 where the cluster has any when not given.
        address: of the cluster, as ``ray.init`` takes it; started here when there is none.
    """

    def __init__(
        self,
        jobs: int | None = None,
        threads: int | None = None,
        gpus: int | None = None,
        address: str | None = None,
    ):
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(address=address, log_to_driver=False, include_dashboard=False)
        resources = ray.cluster_resources()
        self.threads = threads or 1
        self.gpus = int(bool(resources.get("GPU"))) if gpus is None else gpus
        most = int(resources.get("CPU", 1)) // self.threads
        if self.gpus:
            most = min(most, int(resources.get("GPU", 0)) // self.gpus)
        self.slots = jobs or max(1, most)
        self._task = ray.remote(execute_on_worker)
        self._running: dict[str, Any] = {}

    def start(self, job: Job) -> None:
        """Submit a job as a task."""
        content = asdict(replace(job, threads=self.threads, gpus=self.gpus))
        options = {"num_cpus": self.threads, "num_gpus": self.gpus, "max_retries": 0}
        self._running[job.name] = self._task.options(name=job.name, **options).remote(content)

    def ended(self) -> dict[str, Ended]:
        """Return the jobs whose task is over, and those whose worker or node is gone."""
        over: dict[str, Ended] = {}
        for name, task in list(self._running.items()):
            ready, _ = ray.wait([task], timeout=0)
            if not ready:
                continue
            del self._running[name]
            try:
                ray.get(task)
                over[name] = Ended()
            except TaskCancelledError:
                over[name] = Ended("interrupted before it had saved its status")
            except RayTaskError as error:
                over[name] = Ended(f"its Ray task failed: {error.cause!r}")
            except RayError as error:
                text = str(error).strip().splitlines()
                over[name] = Ended(f"its Ray worker was lost ({text[0]})", lost=True)
        return over

    def cancel(self, name: str, *, now: bool) -> None:
        """Interrupt a task, or kill its worker."""
        if name in self._running:
            ray.cancel(self._running[name], force=now)

    def close(self) -> None:
        """Kill what still runs, and stop Ray if it was started here."""
        for task in self._running.values():
            with contextlib.suppress(RayError):
                ray.cancel(task, force=True)
        self._running.clear()
        if self._started:
            ray.shutdown()
