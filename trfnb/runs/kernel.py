"""The kernel of a run: always this interpreter, and gone when its executor is.

``python -m trfnb.runs.kernel -f FILE`` is that kernel.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager


def start(cwd: str, folder: Path) -> "AsyncKernelManager":
    """Start a kernel in ``cwd`` and return its manager as soon as the process runs.

    A kernelspec named ``python3`` may lead to any interpreter; this one never does. Messages go
    through sockets in ``folder``: no port is taken, and nobody else can listen.
    """
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync

    class ThisInterpreter(AsyncKernelManager):
        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            command = [sys.executable, "-m", "trfnb.runs.kernel", "-f", self.connection_file]
            return [*command, *(extra_arguments or [])]

    manager = ThisInterpreter(
        kernel_name="python3", transport="ipc", connection_file=str(folder / "kernel.json")
    )
    quiet = ["--HistoryManager.hist_file=:memory:"]
    run_sync(manager.start_kernel)(cwd=cwd, extra_arguments=quiet)
    return manager


def stop(manager: "AsyncKernelManager") -> None:
    """Ask a kernel to end, then make it."""
    from jupyter_core.utils import run_sync

    manager.shutdown_wait_time = 2.0
    run_sync(manager.shutdown_kernel)()


def main() -> Any:
    """Be the kernel."""
    from trfnb.runs.processes import die_with_parent, prefer_for_oom_killer

    die_with_parent(int(os.environ.get("JPY_PARENT_PID", os.getppid())))
    prefer_for_oom_killer()
    if sys.path[0] in {"", os.getcwd()}:
        # a file of the user's must not stand in for a library while ipykernel loads
        del sys.path[0]
    from ipykernel.kernelapp import launch_new_instance

    return launch_new_instance()


if __name__ == "__main__":
    main()
