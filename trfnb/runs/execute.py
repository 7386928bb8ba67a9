"""Executes one run in a process of its own: ``python -m trfnb.runs.execute JOB.json``.

Standard input is the lifeline: when it closes, whoever started the run is gone, and the run
ends too. The run's status says how it ended; the exit code is 0 whenever it could say so.
"""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from trfnb.runs import job as jobs
from trfnb.runs import kernel
from trfnb.runs.environment import of_this_process
from trfnb.runs.job import Job
from trfnb.runs.outcome import Outcome, classify
from trfnb.runs.processes import MARK, adopt_orphans, descendants, kill, marked, oom_kills
from trfnb.runs.reserve import release, set_aside
from trfnb.runs.status import State, Status, read_status
from trfnb.runs.watchdog import Reason, Watchdog

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def temporary_folder(token: str) -> Path:
    """Return where a run's temporary files lie; it is removed with the run."""
    return Path(tempfile.gettempdir()) / f"trfnb-{token}"


def execute(job: Job, lifeline: int | None = None) -> Status | None:
    """Run a job's notebook, write its status as it goes, and return the last one.

    Args:
        job: the run, waiting in its folder under the job's token.
        lifeline: file descriptor whose closing ends the run.

    Returns:
        None when another start of the same run has taken over, before or meanwhile.
    """
    folder = Path(job.folder)
    status = read_status(folder)
    if status is None or status.token != job.token or status.state.final:
        return None
    temporary = temporary_folder(job.token)
    temporary.mkdir(mode=0o700, exist_ok=True)
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(job.threads)) | job.variables
    os.environ |= {MARK: os.path.realpath(folder), "TMPDIR": str(temporary)}
    adopt_orphans()
    set_aside(folder)
    (folder / "progress.jsonl").unlink(missing_ok=True)
    status.state, status.started, status.ended = State.RUNNING, time.time(), None
    status.host, status.pid = os.uname().nodename, os.getpid()
    status.environment = job.environment | of_this_process(job.threads)
    status.cause, status.error, status.metrics, status.latest = "", {}, {}, {}

    def abandon(reason: Reason) -> None:
        status.state, status.cause = reason.state, reason.cause
        status.ended = status.heartbeat = time.time()
        release(folder)
        status.write(folder)
        _clean(folder, temporary)
        os._exit(0)

    watchdog = Watchdog(job, status, lifeline, abandon)
    watchdog.beat()
    watchdog.start()
    _obey_signals(watchdog)
    killed_before = oom_kills()
    manager, error, cells = None, None, []
    try:
        manager = kernel.start(job.cwd, temporary)
        process = cast(Any, manager.provisioner).process
        watchdog.kernel = process.pid
        cells = _run_cells(job, manager, watchdog)
    except Exception as raised:
        error = raised
        cells = getattr(raised, "cells", [])
    watchdog.finish()
    exit_code = process.poll() if manager else None
    outcome = classify(error, watchdog.reason, exit_code, oom_kills() > killed_before)
    with contextlib.suppress(Exception):
        if manager:
            kernel.stop(manager)
    _clean(folder, temporary)
    return _conclude(job, status, outcome, cells, watchdog)


def _run_cells(job: Job, manager: Any, watchdog: Watchdog) -> list[dict[str, Any]]:
    # papermill imports jsonschema, which would spend 0.7 s on a grammar of addresses
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    # imported while the kernel boots: each takes half a second
    from papermill import execute_notebook
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    from trfnb.runs.papermill_engine import NAME, RunEngine

    output = Path(job.folder) / jobs.NOTEBOOK
    # parameters are checked long since; papermill would warn of those it can't parse
    notebook = parameterize_notebook(
        load_notebook_node(job.notebook), job.parameters, kernel_name="python3", language="python"
    )
    try:
        execute_notebook(
            notebook,
            None,
            engine_name=NAME,
            kernel_name="python3",
            language="python",
            cwd=job.cwd,
            watchdog=watchdog,
            output=output,
            km=manager,
        )
    except Exception as error:
        if RunEngine.last:
            error.cells = RunEngine.last.nb.cells  # type: ignore[attr-defined]
        raise
    finally:
        if RunEngine.last:
            RunEngine.last.save()
    return list(RunEngine.last.nb.cells) if RunEngine.last else []


def _conclude(
    job: Job, status: Status, outcome: Outcome, cells: list[Any], watchdog: Watchdog
) -> Status | None:
    from trfnb.runs.scraps import scraps_of

    folder = Path(job.folder)
    current = read_status(folder)
    if current is not None and current.token != job.token:
        return None
    status.state, status.cause, status.error = outcome.state, outcome.cause, outcome.error
    status.metrics = scraps_of(cells)
    status.latest |= watchdog.latest()
    status.ended = status.heartbeat = time.time()
    release(folder)
    with watchdog.write_lock:
        status.write(folder)
    return status


def _clean(folder: Path, temporary: Path) -> None:
    kill([*descendants(os.getpid()), *marked(folder)])
    shutil.rmtree(temporary, ignore_errors=True)


def _obey_signals(watchdog: Watchdog) -> None:
    def interrupt(number: int, _: Any) -> None:
        watchdog.trip(State.KILLED, f"interrupted ({signal.Signals(number).name})")

    # a starter such as a Ray worker may hand down a mask that blocks them
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's to pass on


def main(arguments: list[str] | None = None) -> int:
    """Run the job in the file that the first argument names."""
    path = (arguments or sys.argv[1:])[0]
    return 0 if execute(Job.read(path), lifeline=0) else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # nothing is left to wait for; interpreters take a while to end
