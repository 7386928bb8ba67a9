"""papermill's way of running a notebook, with honest cell states and whole files."""

from pathlib import Path
from typing import Any, ClassVar

import nbformat
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.log import logger

from trfnb.runs.reserve import write_despite_full_disk
from trfnb.runs.watchdog import Watchdog

NAME = "trfnb"


class RunManager(NotebookExecutionManager):
    """Saves the notebook whole after each cell and tells the watchdog where the run is."""

    def __init__(self, nb: NotebookNode, output: Path, watchdog: Watchdog):
        super().__init__(nb, progress_bar=False)
        self.output, self.watchdog = output, watchdog
        watchdog.status.cells = len(nb.cells)

    def save(self, **_: Any) -> None:
        """Write the executed notebook as it is now."""
        write_despite_full_disk(self.output, nbformat.writes(self.nb) + "\n")
        self.last_save_time = self.now()

    def cell_start(self, cell: NotebookNode, cell_index: int | None = None, **_: Any) -> None:
        """Note where the run is, for its status and its cell's timeout."""
        self.watchdog.cell_started = self.now().timestamp()
        self.watchdog.status.cell = (cell_index or 0) + 1
        super().cell_start(cell, cell_index)

    def correct(self, error: BaseException | None) -> None:
        """Undo papermill's guess that every cell which never ran is complete."""
        last = self.watchdog.status.cell - 1
        for index, cell in enumerate(self.nb.cells):
            if error is not None and index >= last:
                cell.metadata.papermill["status"] = self.FAILED if index == last else self.PENDING
        if error is not None:
            self.nb.metadata.papermill["exception"] = True


class RunEngine(NBClientEngine):
    """Runs the notebook on a kernel that is already starting."""

    last: ClassVar[RunManager | None] = None

    @classmethod
    def execute_notebook(
        cls,
        nb: NotebookNode,
        kernel_name: str,
        *,
        watchdog: Watchdog,
        output: Path,
        km: Any,
        **_: Any,
    ) -> NotebookNode:
        """Run all cells; the saved notebook tells which did run."""
        manager = cls.last = RunManager(nb, output, watchdog)
        manager.notebook_start()
        error: BaseException | None = None
        try:
            PapermillNotebookClient(
                manager, km=km, log=logger, timeout=None, startup_timeout=120
            ).execute()
        except BaseException as raised:
            error = raised
            raise
        finally:
            manager.notebook_complete()
            if error or nb.metadata.papermill.get("exception"):
                manager.correct(error)
                manager.save()
        return manager.nb


papermill_engines.register(NAME, RunEngine)
