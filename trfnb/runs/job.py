"""One run as an engine gets it: plain data, written to the run's folder."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trfnb.runs.status import write_json

FILE = "job.json"
NOTEBOOK = "notebook.ipynb"
LOG = "log.txt"


@dataclass(frozen=True)
class Job:
    """What to execute, where, and within which limits.

    Attributes:
        folder: the run's own folder, absolute.
        notebook: the notebook to run, absolute; the sweep's own copy.
        token: must be the one in the run's status, or another start has taken over.
        cwd: working directory of the notebook.
        timeout, cell_timeout: seconds; None for no limit.
        memory: megabytes of the kernel and its children; None for no limit.
        threads, gpus: what the run may use.
        variables: environment variables added to the run's.
        environment: columns of the results that the sweep knows already.
    """

    folder: str
    notebook: str
    parameters: dict[str, Any]
    token: str
    cwd: str
    timeout: float | None = None
    cell_timeout: float | None = None
    memory: float | None = None
    threads: int = 1
    gpus: int = 0
    variables: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return Path(self.folder).name

    def write(self) -> Path:
        """Write the job into its folder and return the file."""
        path = Path(self.folder) / FILE
        write_json(path, asdict(self))
        return path

    @classmethod
    def read(cls, path: Path | str) -> "Job":
        """Return the job in a file that :meth:`write` wrote."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
