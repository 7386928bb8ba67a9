"""Executes one run in a process of its own: ``python -m trfnb.runs.execute FOLDER TOKEN``.

Standard input is the lifeline: when it closes, whoever started the run is gone or wants it to
stop, and the run ends. The run's status says how it ended; the exit code is 0 whenever it could
say so.
``python -m trfnb.runs.execute -f FILE`` is the run's kernel.
"""

import asyncio
import atexit
import contextlib
import ctypes
import gc
import io
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from trfnb.files import atomic_write
from trfnb.runs.ledger import DEVICE, State, Status, plain, read_status
from trfnb.runs.results import TOLD, recorded

# Standard input: whoever started the run holds the other end.
LIFELINE = 0
# Environment variable with the run's folder, inherited by all its processes.
MARK = "TRFNB_RUN"
TICK = 0.1
HEARTBEAT = 2.0

THREADS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "RAYON")
# By name, because Windows has not all of them.
_FROM_OUTSIDE = {
    -one for one in signal.Signals if one.name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
}


def launch(folder: Path, status: Status) -> "subprocess.Popen[bytes]":
    """Start a waiting run's process; it ends when the pipe at its standard input closes."""
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "trfnb.runs.execute", str(folder), status.token],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=status.cwd,
            env=os.environ | {MARK: os.path.realpath(folder)},
        )


def execute(folder: Path, token: str) -> None:
    """Run the notebook of a waiting run and write its status as it goes.

    Does nothing when another start of the same run has taken over.

    Args:
        folder: the run's.
        token: the one that the run waits under.
    """
    status = read_status(folder)
    if status is None or status.token != token or status.state is State.DONE:
        return
    sockets = socket_folder(token)
    sockets.mkdir(mode=0o700, exist_ok=True)
    os.environ |= {f"{name}_NUM_THREADS": str(status.threads) for name in THREADS}
    if status.device:
        os.environ[DEVICE] = status.device
    status.state, status.started = State.RUNNING, time.time()
    status.environment |= {"host": platform.node(), "threads": status.threads}
    cells: list[Any] = []
    state, cause, traceback = asyncio.run(watch(folder, status, cells))
    kill(folder)
    shutil.rmtree(sockets, ignore_errors=True)
    current = read_status(folder)
    if current is None or current.token == token:
        status.traceback, status.metrics = traceback, recorded(cells)
        if told := status.metrics.pop(TOLD, None):
            status.environment["device"] = processor() if told == "cpu" else told
        status.end(state, cause)
        status.write(folder)


async def watch(folder: Path, status: Status, cells: list[Any]) -> tuple[State, str, str]:
    """Run all cells until they end, the time is over, or whoever started the run stops it.

    Args:
        folder: the run's.
        status: its record, written at every heartbeat.
        cells: filled with the executed notebook's cells.

    Returns:
        What `outcome` makes of it.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    # A kernelspec named ``python3`` may lead to any interpreter; this one never does. Messages go
    # through sockets in a folder: no port is taken, and nobody else can listen.
    command = [
        sys.executable,
        "-m",
        "trfnb.runs.execute",
        "-f",
        "{connection_file}",
        "--HistoryManager.hist_file=:memory:",
    ]
    manager = AsyncKernelManager(
        transport="ipc", connection_file=str(socket_folder(status.token) / "kernel.json")
    )
    manager._kernel_spec = KernelSpec(argv=command, language="python", display_name="trfnb")
    reasons: list[tuple[State, str]] = []
    loop = asyncio.get_running_loop()
    task = loop.create_task(run_cells(folder, status, manager, cells))

    def stop(state: State, cause: str) -> None:
        loop.remove_reader(LIFELINE)
        reasons.append((state, cause))
        kill(folder)
        task.cancel()

    loop.add_reader(LIFELINE, stop, State.KILLED, "interrupted: its sweep stopped or died")
    if status.timeout:
        cause = f"the run took longer than {status.timeout:g} s"
        loop.call_later(status.timeout, stop, State.TIMED_OUT, cause)
    while not task.done():
        if time.time() - (status.heartbeat or 0) >= HEARTBEAT:
            status.heartbeat = time.time()
            with contextlib.suppress(OSError):  # a full disk may have room again at the end
                status.write(folder)
        await asyncio.wait([task], timeout=TICK)
        process = getattr(manager.provisioner, "process", None)
        used = memory_of(process.pid) if process else 0.0
        status.peak_memory = round(max(used, status.peak_memory or 0), 1)
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    code = process.poll() if process else None
    with contextlib.suppress(Exception):
        await manager.shutdown_kernel(now=bool(reasons))
    return outcome(error, reasons[0] if reasons else None, code)


async def run_cells(folder: Path, status: Status, manager: Any, cells: list[Any]) -> None:
    """Start a kernel and run the notebook on it; save it after each cell.

    Args:
        folder: the run's.
        status: told which cell is under way.
        manager: of the kernel.
        cells: filled with the executed notebook's cells.
    """
    await manager.start_kernel(cwd=status.cwd)
    # imported while the kernel starts: each takes half a second
    import nbformat
    from nbclient import NotebookClient
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook
    from papermill.translators import PythonTranslator, papermill_translators

    # Parameters come as Python source; papermill's own turns sets and integer keys to text.
    class AsWritten(PythonTranslator):
        translate = staticmethod(str)

    def save(**_: Any) -> None:
        with atomic_write(folder / "notebook.ipynb") as stream:
            stream.write(nbformat.writes(notebook) + "\n")

    def start(cell_index: int, **_: Any) -> None:
        status.cell = cell_index + 1

    papermill_translators.register("python", AsWritten)
    notebook = load_notebook_node(status.source)
    if status.given:
        notebook = parameterize_notebook(
            notebook, status.given, kernel_name="python3", language="python"
        )
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    cells += notebook.cells
    status.cells = len(cells)
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=None,
        startup_timeout=120,
        on_cell_start=start,
        on_cell_executed=save,
    )
    try:
        await client.async_execute()
    finally:
        save()


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
    lines = plain(str(getattr(error, "traceback", ""))).splitlines()[-40:]
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))
    if reason is not None:
        return *reason, trace
    if code is not None and name in {"DeadKernelError", "RuntimeError"}:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if code in _FROM_OUTSIDE:
            return State.KILLED, f"the kernel was killed from outside ({how})", trace
        return State.FAILED, f"the kernel crashed ({how})", trace
    message = plain(str(getattr(error, "evalue", error)))[:2000]
    return State.FAILED, f"{name}: {message}".rstrip(": "), trace


def marked(folder: Path | str) -> list[psutil.Process]:
    """Return the living processes whose run lies in this folder or is it, save our own."""
    root = os.path.realpath(folder)
    return [
        process
        for process in psutil.process_iter(["environ", "status"])
        if f"{(process.info['environ'] or {}).get(MARK, '')}/".startswith(f"{root}/")
        and process.pid != os.getpid()
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def kill(folder: Path | str) -> None:
    """SIGKILL all processes of the runs in a folder, and those they start meanwhile."""
    for _ in range(20):
        left = marked(folder)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)


def socket_folder(token: str) -> Path:
    """Return where a run's sockets lie: a path that is short, whatever TMPDIR is."""
    return Path("/tmp") / f"trfnb-{token}"


def memory_of(pid: int) -> float:
    """Return the megabytes (10⁶) that a process and its children hold in memory.

    Of a child only its own pages count: what a fork shares with its parent is counted there.
    """
    with contextlib.suppress(psutil.Error):  # one of them has just ended
        process = psutil.Process(pid)
        own = sum(child.memory_full_info().uss for child in process.children(recursive=True))
        return (process.memory_info().rss + own) / 1e6
    return 0.0


def processor() -> str:
    """Return the name of the processor."""
    with contextlib.suppress(OSError, IndexError):
        return re.findall(r"(?m)^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text())[0]
    return platform.processor() or platform.machine()


def _be_kernel() -> None:
    parent = int(os.environ.get("JPY_PARENT_PID", os.getppid()))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before the call above
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.path[0] in {"", os.getcwd()}:
        # a file of the user's must not stand in for a library while ipykernel loads
        del sys.path[0]
    atexit.register(_end)  # the first registered is the last called
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()


# End at once when all else is done: IPython has let go of the notebook's variables. Python would
# take torch and spaCy apart for two seconds, to flush at most what a module holds open.
def _end() -> None:
    gc.collect()
    files = io.TextIOWrapper, io.BufferedWriter
    # Of its type, because a proxy asked for its class looks its object up, which may be gone.
    for left in (one for one in gc.get_objects() if issubclass(type(one), files)):
        with contextlib.suppress(OSError, ValueError):  # its disk is full, or it is closed
            left.flush()
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "-f":
        _be_kernel()
    else:
        execute(Path(sys.argv[1]), sys.argv[2])
        sys.stdout.flush()
        os._exit(0)  # nothing is left to wait for; interpreters take a while to end
