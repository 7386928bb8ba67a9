"""Executes one run in a process of its own: ``python -m trfnb.runs.execute JOB.json``.

Standard input is the lifeline: when it closes, whoever started the run is gone, and the run
ends too. The run's status says how it ended; the exit code is 0 whenever it could say so.
``python -m trfnb.runs.execute -f FILE`` is the run's kernel.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trfnb.files import atomic_write
from trfnb.runs.ledger import LOG, NOTEBOOK, Job, State, read_status, write_json
from trfnb.runs.results import recorded
from trfnb.runs.watchdog import (
    MARK,
    Watchdog,
    control,
    descendants,
    kill,
    latest,
    marked,
    oom_kills,
    remove_temporary,
    temporary_folders,
)

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

THREADS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
_NO_MEMORY = re.compile(r"out of memory|can(not|'t) allocate memory", re.I)
_FULL_DISK = re.compile(r"no space left on device|disk quota exceeded", re.I)


def launch(job: Job, **variables: str) -> "subprocess.Popen[bytes]":
    """Start a job's process; it ends when the pipe at its standard input closes."""
    path = Path(job.folder) / "job.json"
    write_json(path, vars(job))
    with (path.parent / LOG).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "trfnb.runs.execute", str(path)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=job.cwd,
            env=os.environ | variables | {MARK: os.path.realpath(job.folder)},
        )


def end(process: "subprocess.Popen[bytes]", folder: str) -> None:
    """Kill a job's process and all that belongs to it."""
    children = descendants(process.pid)
    process.kill()
    kill([*children, *marked(folder)])
    process.wait()


def execute(job: Job, lifeline: int | None = None) -> None:
    """Run a job's notebook and write its status as it goes.

    Does nothing when another start of the same run has taken over.

    Args:
        job: the run, waiting in its folder under the job's token.
        lifeline: file descriptor whose closing ends the run.
    """
    folder = Path(job.folder)
    status = read_status(folder)
    if status is None or status.token != job.token or status.state.final:
        return
    temporary, sockets = temporary_folders(job.token)
    for place in {temporary, sockets}:
        place.mkdir(mode=0o700, exist_ok=True)
    os.environ |= {f"{name}_NUM_THREADS": str(job.threads) for name in THREADS} | job.variables
    os.environ |= {MARK: os.path.realpath(folder), "TMPDIR": str(temporary)}
    control(36, 1)
    (folder / "progress.jsonl").unlink(missing_ok=True)
    status.state, status.started, status.host = State.RUNNING, time.time(), os.uname().nodename
    here = {"host": status.host, "device": device(), "threads": job.threads}
    status.environment = job.environment | here

    def abandon(state: State, cause: str) -> None:
        status.end(state, cause)
        status.write(folder)
        _clean(job)
        os._exit(0)

    watchdog = Watchdog(job, status, lifeline, abandon)
    watchdog.beat()
    watchdog.start()
    _obey_signals(watchdog)
    killed_before = oom_kills()
    cells: list[Any] = []
    manager, error = None, None
    try:
        manager = start_kernel(job.cwd, sockets)
        watchdog.kernel = manager.provisioner.process.pid  # type: ignore[union-attr]
        error = run_cells(job, manager, watchdog, cells)
    except Exception as raised:  # the notebook's own errors come back, these are the machinery's
        error = raised
    watchdog.finish()
    code = manager.provisioner.process.poll() if manager else None  # type: ignore[union-attr]
    state, cause, told = outcome(error, watchdog.reason, code, oom_kills() > killed_before)
    with contextlib.suppress(Exception):
        if manager:
            _synchronous(manager.shutdown_kernel)()
    _clean(job)
    current = read_status(folder)
    if current is None or current.token == job.token:
        status.error, status.metrics = told, recorded(cells)
        status.latest |= latest(job.folder)
        status.end(state, cause)
        status.write(folder)


def run_cells(
    job: Job, manager: "AsyncKernelManager", watchdog: Watchdog, cells: list[Any]
) -> BaseException | None:
    """Run the notebook by papermill on a kernel that is starting; save it after each cell.

    Args:
        job: the run.
        manager: of the kernel.
        watchdog: told which cell is under way.
        cells: filled with the executed notebook's cells.

    Returns:
        What ended the notebook before its last cell, if anything did.
    """
    # imported while the kernel starts: each takes half a second
    import nbformat
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NotebookExecutionManager
    from papermill.execute import raise_for_execution_errors
    from papermill.iorw import load_notebook_node
    from papermill.log import logger
    from papermill.parameterize import parameterize_notebook
    from papermill.translators import PythonTranslator, papermill_translators

    class AsWritten(PythonTranslator):
        """Parameters come as Python source; papermill's own turns sets and integer keys to text."""

        @classmethod
        def translate(cls, val: str) -> str:
            return val

    class Manager(NotebookExecutionManager):
        """Saves the notebook whole after each cell and says which one is under way."""

        def save(self, **_: Any) -> None:
            with atomic_write(Path(job.folder) / NOTEBOOK) as stream:
                stream.write(nbformat.writes(self.nb) + "\n")
            self.last_save_time = self.now()

        def cell_start(self, cell: Any, cell_index: int = 0, **_: Any) -> None:
            watchdog.cell_started, watchdog.status.cell = time.time(), cell_index + 1
            super().cell_start(cell, cell_index)

    papermill_translators.register("python", AsWritten)
    python = {"kernel_name": "python3", "language": "python"}
    notebook = load_notebook_node(job.notebook)
    if job.given:
        notebook = parameterize_notebook(notebook, job.given, **python)
    cells += notebook.cells
    watchdog.status.cells = len(notebook.cells)
    managed = Manager(notebook, progress_bar=False)
    managed.notebook_start()
    error: BaseException | None = None
    try:
        limits = {"timeout": None, "startup_timeout": 120}
        PapermillNotebookClient(managed, km=manager, log=logger, **limits).execute()
    except Exception as raised:
        error = raised
    managed.notebook_complete()
    if error:  # papermill says of every cell that never ran that it is complete
        last = watchdog.status.cell - 1
        for index, cell in enumerate(notebook.cells[last:]):
            cell.metadata.papermill["status"] = managed.PENDING if index else managed.FAILED
        notebook.metadata.papermill["exception"] = True
    else:
        try:
            raise_for_execution_errors(notebook, None)
        except Exception as raised:
            error = raised
            if not raised.traceback:  # type: ignore[attr-defined]
                outputs = cells[raised.cell_index].outputs  # type: ignore[attr-defined]
                raised.traceback = [one.get("text", "") for one in outputs]  # type: ignore[attr-defined]
    managed.save()
    return error


def start_kernel(cwd: str, folder: Path) -> "AsyncKernelManager":
    """Start a kernel in ``cwd`` and return its manager as soon as the process runs.

    A kernelspec named ``python3`` may lead to any interpreter; this one never does. Messages go
    through sockets in ``folder``: no port is taken, and nobody else can listen.
    """
    from jupyter_client.manager import AsyncKernelManager

    class ThisInterpreter(AsyncKernelManager):
        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            command = [sys.executable, "-m", "trfnb.runs.execute", "-f", self.connection_file]
            return [*command, "--HistoryManager.hist_file=:memory:"]

    manager = ThisInterpreter(
        kernel_name="python3", transport="ipc", connection_file=str(folder / "kernel.json")
    )
    manager.shutdown_wait_time = 2.0
    _synchronous(manager.start_kernel)(cwd=cwd)
    return manager


def outcome(
    error: BaseException | None,
    reason: tuple[State, str] | None,
    code: int | None,
    system_was_out_of_memory: bool,
) -> tuple[State, str, dict[str, str]]:
    """Return how a run ended: its state, the cause in words, and name, message, traceback.

    Args:
        error: what ended the notebook; None when all cells ran.
        reason: why the watchdog ended it, if it did.
        code: the kernel's exit code as ``subprocess`` gives it; None when it lived on.
        system_was_out_of_memory: whether the system killed for memory meanwhile.
    """
    if error is None:
        return State.DONE, "", {}
    name, message = (
        getattr(error, "ename", type(error).__name__),
        str(getattr(error, "evalue", error)),
    )
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(getattr(error, "traceback", None) or ()))
    if name == "CellExecutionError" and not message:
        # an exception group: IPython prints it in place of raising it
        name, _, message = "; ".join(re.findall(r"^ *\| (\w+: .*)$", trace, re.M)).partition(": ")
    told = {
        "name": name,
        "message": message[:2000],
        "traceback": "\n".join(trace.splitlines()[-40:]),
    }
    cause = f"{name}: {message[:2000]}".rstrip(": ")
    if reason is not None:
        return *reason, told
    if name == "Pruned":
        return State.PRUNED, message, {}
    if name in {"MemoryError", "OutOfMemoryError"} or _NO_MEMORY.search(message):
        return State.OUT_OF_MEMORY, cause, told
    if name == "DeadKernelError" or (code is not None and name == "RuntimeError"):
        if code is None or code >= 0:
            return State.FAILED, f"the kernel exited by itself (code {code})", told
        sent = signal.Signals(-code)
        if sent is signal.SIGKILL and system_was_out_of_memory:
            return State.OUT_OF_MEMORY, "the system ran out of memory and killed it", told
        if sent in {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            return State.KILLED, f"the kernel was killed from outside ({sent.name})", told
        return State.FAILED, f"the kernel crashed ({sent.name})", told
    return State.FAILED, f"disk full ({name})" if _FULL_DISK.search(message) else cause, told


@cache
def device() -> str:
    """Return the name of the visible GPU, else of the processor."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if visible != "" and shutil.which("nvidia-smi"):
            query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
            query += ["-i", visible] if visible else []
            return subprocess.check_output(query, text=True, timeout=20).splitlines()[0]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _synchronous(function: Any) -> Any:
    from jupyter_core.utils import run_sync

    return run_sync(function)


def _clean(job: Job) -> None:
    kill([*descendants(os.getpid()), *marked(job.folder)])
    remove_temporary(job.token)


def _obey_signals(watchdog: Watchdog) -> None:
    def interrupt(number: int, _: Any) -> None:
        watchdog.trip(State.KILLED, f"interrupted ({signal.Signals(number).name})")

    # a starter such as a Ray worker may hand down a mask that blocks them
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's to pass on


def _be_kernel() -> None:
    parent = int(os.environ.get("JPY_PARENT_PID", os.getppid()))
    control(1, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call above
        os.kill(os.getpid(), signal.SIGKILL)
    with contextlib.suppress(OSError):  # memory runs out: let the system end this process first
        Path("/proc/self/oom_score_adj").write_text("500")
    if sys.path[0] in {"", os.getcwd()}:
        # a file of the user's must not stand in for a library while ipykernel loads
        del sys.path[0]
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


if __name__ == "__main__":
    if sys.argv[1] == "-f":
        _be_kernel()
    else:
        execute(Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), lifeline=0)
        sys.stdout.flush()
        os._exit(0)  # nothing is left to wait for; interpreters take a while to end
