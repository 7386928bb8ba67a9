"""A run's record on disk: one ``status.json``, replaced whole at every change."""

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

FILE = "status.json"


class State(StrEnum):
    """Where a run is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    PRUNED = "pruned"
    """Ended early by an adaptive search; as final as done."""
    FAILED = "failed"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    KILLED = "killed"
    """Ended from outside: a signal, Ctrl-C, or the death of the sweep or its machine."""

    @property
    def final(self) -> bool:
        """Whether a later sweep leaves the run alone."""
        return self in {State.DONE, State.PRUNED}

    @property
    def bad(self) -> bool:
        """Whether the run ended without its results."""
        return self in {State.FAILED, State.TIMED_OUT, State.OUT_OF_MEMORY, State.KILLED}


@dataclass
class Status:
    """What is known of one run.

    Attributes:
        run: its folder's name, unique in the sweep.
        identity: hash of parameters, notebook, library version and data.
        parameters: all parameters, defaults included.
        notebook: hash of the notebook's code.
        version: of the library.
        data: hash by ``parameter=value`` of the data that parameters name.
        cause: why it ended as it did, in words; empty when done.
        error: the exception's name, message and last traceback lines.
        token: drawn at each start; whoever holds an older one may not write any more.
        started, ended, heartbeat: seconds since the epoch.
        metrics: what the notebook recorded, by name.
        latest: the last values reported before the end.
        peak_memory: megabytes (10⁶) of the kernel and its children, at most.
        trial: its number in an adaptive search.
    """

    run: str
    identity: str
    parameters: dict[str, Any]
    notebook: str = ""
    version: str = ""
    data: dict[str, str] = field(default_factory=dict)
    state: State = State.WAITING
    cause: str = ""
    error: dict[str, str] = field(default_factory=dict)
    attempt: int = 0
    token: str = ""
    host: str = ""
    pid: int = 0
    started: float | None = None
    ended: float | None = None
    heartbeat: float | None = None
    cell: int = 0
    cells: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    latest: dict[str, Any] = field(default_factory=dict)
    peak_memory: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    trial: int | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds from start to end; None before."""
        if self.started is None or self.ended is None:
            return None
        return round(self.ended - self.started, 3)

    def write(self, folder: Path) -> None:
        """Write ``folder/status.json`` whole or not at all."""
        write_json(folder / FILE, asdict(self) | {"seconds": self.seconds})


def read_status(folder: Path) -> Status | None:
    """Return the status in a run's folder; None when there is none that can be read."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        known = {f.name for f in fields(Status)}
        status = Status(**{name: value for name, value in content.items() if name in known})
        status.state = State(status.state)
    except (OSError, ValueError, TypeError):
        return None
    return status


def write_json(path: Path, content: Any) -> None:
    """Write JSON aside, flush it to the disk, then rename it into place."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write a text file aside, flush it to the disk, then rename it into place."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
