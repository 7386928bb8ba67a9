"""Executes one run in a process of its own: ``python -m trfnb.runs.execute FOLDER TOKEN``.

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trfnb.files import atomic_write
from trfnb.runs.ledger import LOG, NOTEBOOK, State, Status, plain, read_status
from trfnb.runs.results import recorded
from trfnb.runs.watchdog import MARK, Watchdog, die_with_parent, kill, remove_sockets, socket_folder

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

THREADS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
_FROM_OUTSIDE = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}


def launch(folder: Path, status: Status) -> "subprocess.Popen[bytes]":
    """Start a waiting run's process; it ends when the pipe at its standard input closes."""
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "trfnb.runs.execute", str(folder), status.token],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=status.cwd,
            env=os.environ | {MARK: os.path.realpath(folder)},
        )


def execute(folder: Path, token: str, lifeline: int | None = None) -> None:
    """Run the notebook of a waiting run and write its status as it goes.

    Does nothing when another start of the same run has taken over.

    Args:
        folder: the run's.
        token: the one that the run waits under.
        lifeline: file descriptor whose closing ends the run.
    """
    status = read_status(folder)
    if status is None or status.token != token or status.state.final:
        return
    sockets = socket_folder(token)
    sockets.mkdir(mode=0o700, exist_ok=True)
    os.environ |= {f"{name}_NUM_THREADS": str(status.threads) for name in THREADS}
    trial = json.dumps(status.search) if status.search else ""
    os.environ |= {MARK: os.path.realpath(folder), "TRFNB_TRIAL": trial}
    status.state, status.started, status.host = State.RUNNING, time.time(), os.uname().nodename
    here = {"host": status.host, "device": device(), "threads": status.threads}
    status.environment |= here
    watchdog = Watchdog(folder, status, lifeline)
    watchdog.beat()
    watchdog.start()
    _obey_signals(watchdog)
    cells: list[Any] = []
    manager, error = None, None
    try:
        manager = start_kernel(status.cwd, sockets)
        watchdog.kernel = manager.provisioner.process.pid  # type: ignore[union-attr]
        error = run_cells(folder, status, manager, cells)
    except Exception as raised:  # the notebook's own errors come back, these are the machinery's
        error = raised
    watchdog.finish()
    code = manager.provisioner.process.poll() if manager else None  # type: ignore[union-attr]
    state, cause, traceback = outcome(error, watchdog.reason, code)
    with contextlib.suppress(Exception):
        if manager:
            _synchronous(manager.shutdown_kernel)()
    kill(folder)
    remove_sockets(token)
    current = read_status(folder)
    if current is None or current.token == token:
        status.traceback, status.metrics = traceback, recorded(cells)
        status.end(state, cause)
        status.write(folder)


def run_cells(
    folder: Path, status: Status, manager: "AsyncKernelManager", cells: list[Any]
) -> BaseException | None:
    """Run the notebook by papermill on a kernel that is starting; save it after each cell.

    Args:
        folder: the run's.
        status: told which cell is under way.
        manager: of the kernel.
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
            with atomic_write(folder / NOTEBOOK) as stream:
                stream.write(nbformat.writes(self.nb) + "\n")
            self.last_save_time = self.now()

        def cell_start(self, cell: Any, cell_index: int = 0, **_: Any) -> None:
            status.cell = cell_index + 1
            super().cell_start(cell, cell_index)

    papermill_translators.register("python", AsWritten)
    notebook = load_notebook_node(status.source)
    if status.given:
        python = {"kernel_name": "python3", "language": "python"}
        notebook = parameterize_notebook(notebook, status.given, **python)
    cells += notebook.cells
    status.cells = len(cells)
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
        for index, cell in enumerate(cells[status.cell - 1 :]):
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
    error: BaseException | None, reason: tuple[State, str] | None, code: int | None
) -> tuple[State, str, str]:
    """Return how a run ended: its state, the cause in words, and the end of the traceback.

    Args:
        error: what ended the notebook; None when all cells ran.
        reason: why the watchdog ended it, if it did.
        code: the kernel's exit code as ``subprocess`` gives it; None when it lived on.
    """
    if error is None:
        return State.DONE, "", ""
    name = getattr(error, "ename", type(error).__name__)
    message = plain(str(getattr(error, "evalue", error)))
    lines = plain("\n".join(getattr(error, "traceback", None) or ()))
    trace = re.sub(r"\x1b\[[0-9;]*m", "", lines)
    if name == "CellExecutionError" and not message:
        # an exception group: IPython prints it in place of raising it
        name, _, message = "; ".join(re.findall(r"^ *\| (\w+: .*)$", trace, re.M)).partition(": ")
    trace = "\n".join(trace.splitlines()[-40:])
    if reason is not None:
        return *reason, trace
    if name == "Pruned":
        return State.PRUNED, message, ""
    if code is not None and name in {"DeadKernelError", "RuntimeError"}:
        if code in _FROM_OUTSIDE:
            name = signal.Signals(-code).name
            return State.KILLED, f"the kernel was killed from outside ({name})", trace
        crash = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"exited (code {code})"
        return State.FAILED, f"the kernel {crash}", trace
    return State.FAILED, f"{name}: {message[:2000]}".rstrip(": "), trace


def device() -> str:
    """Return the name of the visible GPU, else of the processor."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if visible != "" and shutil.which("nvidia-smi"):
            query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
            query += ["-i", visible] if visible else []
            return subprocess.check_output(query, text=True, timeout=20).splitlines()[0]
    with contextlib.suppress(OSError):
        names = re.findall(r"(?m)^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text())
        return names[0] if names else platform.machine()
    return platform.processor() or platform.machine()


def _synchronous(function: Any) -> Any:
    from jupyter_core.utils import run_sync

    return run_sync(function)


def _obey_signals(watchdog: Watchdog) -> None:
    def interrupt(number: int, _: Any) -> None:
        watchdog.trip(State.KILLED, f"interrupted ({signal.Signals(number).name})")

    # a starter such as a Ray worker may hand down a mask that blocks them
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's to pass on


def _be_kernel() -> None:
    parent = int(os.environ.get("JPY_PARENT_PID", os.getppid()))
    die_with_parent()
    if os.getppid() != parent:  # it died before the call above
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.path[0] in {"", os.getcwd()}:
        # a file of the user's must not stand in for a library while ipykernel loads
        del sys.path[0]
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


if __name__ == "__main__":
    if sys.argv[1] == "-f":
        _be_kernel()
    else:
        execute(Path(sys.argv[1]), sys.argv[2], lifeline=0)
        sys.stdout.flush()
        os._exit(0)  # nothing is left to wait for; interpreters take a while to end
