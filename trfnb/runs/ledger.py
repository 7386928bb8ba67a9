"""A sweep's folder: one folder per run, what is known of each, and who may write.

``runs/RUN/status.json`` is replaced whole at every change. A lock on the folder, held by the
sweep's process, ends with that process however it ends.
"""

import functools
import hashlib
import json
import math
import os
import platform
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import trfnb
from trfnb.files import atomic_write
from trfnb.runs.notebook import notebook_digest, source_of

RUNS = "runs"
# How many letters a value has at most, on a page.
LETTERS = 40
# Fields of a status that a new start leaves as they are.
KEPT = {"run", "identity", "parameters", "given", "code", "data", "trial"}
# Seconds without a heartbeat after which a run on another machine counts as lost.
STALE = 30.0
# Environment variable with the device that `trfnb.use_device` takes when it is told none.
DEVICE = "TRFNB_DEVICE"
DEVICES = r"auto|cpu|cuda(?::(\d+))?"


class State(StrEnum):
    """Where a run is in its life. KILLED: from outside."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    KILLED = "killed"

    @property
    def bad(self) -> bool:
        """Whether the run ended without its results."""
        return self in {State.FAILED, State.TIMED_OUT, State.KILLED}


@dataclass(frozen=True)
class Run:
    """One run's parameters.

    Attributes:
        parameters: all of them, defaults included.
        given: Python source of those to hand to the notebook, which has its defaults itself.
    """

    parameters: dict[str, Any]
    given: dict[str, str]


class Status(BaseModel):
    """What is known of one run, and what its process needs to execute it.

    Attributes:
        run: its folder's name, unique in the sweep.
        identity: hash of parameters, code and data.
        parameters: all parameters, defaults included, as JSON can hold them.
        given: Python source of the parameters that the notebook is given.
        code: hash of the notebook's code and the library's version.
        data: hash by ``parameter=value`` of the data that parameters name.
        trial: its number in an adaptive search.
        source: path of the notebook; the sweep's own copy.
        cwd: working directory of the notebook.
        timeout: seconds; None for no limit.
        threads: that the run may use.
        device: for `trfnb.use_device`; None leaves it to the environment variable.
        environment: columns of the results: versions, commit, machine, device.
        token: drawn at each start; whoever holds an older one may not write any more.
        cause: why it ended as it did, in words; empty when done.
        traceback: the last lines of an error's.
        started, ended, heartbeat: seconds since the epoch.
        cell, cells: the number of the cell under way, and of all cells.
        metrics: what the notebook recorded, by name.
        peak_memory: megabytes (10⁶) of the kernel and its children, at most.
    """

    run: str
    identity: str
    parameters: dict[str, Any]
    given: dict[str, str] = {}
    code: str = ""
    data: dict[str, str] = {}
    trial: int | None = None
    source: str = ""
    cwd: str = ""
    timeout: float | None = None
    threads: int = 1
    device: str | None = None
    environment: dict[str, Any] = {}
    token: str = ""
    attempt: int = 0
    state: State = State.WAITING
    cause: str = ""
    traceback: str = ""
    started: float | None = None
    ended: float | None = None
    heartbeat: float | None = None
    cell: int = 0
    cells: int = 0
    metrics: dict[str, Any] = {}
    peak_memory: float | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether the run is alive on another machine."""
        return (
            self.state is State.RUNNING
            and self.environment["host"] != platform.node()
            and time.time() - (self.heartbeat or 0) < STALE
        )

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that the notebook recorded, by flat name."""
        return {
            name: value
            for name, value in flat(self.metrics).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

    def end(self, state: State, cause: str = "") -> None:
        """Note that the run has ended now."""
        self.state, self.cause, self.ended = state, cause, time.time()

    def write(self, folder: Path) -> None:
        """Write ``folder/status.json`` whole or not at all."""
        write_json(folder / "status.json", self.model_dump())


def read_status(folder: Path) -> Status | None:
    """Return the status in a run's folder; None when there is none that can be read."""
    try:
        return Status(**json.loads((folder / "status.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    with atomic_write(path) as stream:
        stream.write(json.dumps(content, indent=1, default=str) + "\n")


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: arrays and sets as lists, NaN and infinities as None.

    Raises:
        TypeError: it is neither a number, text, an array nor a container of these.
    """
    if callable(getattr(value, "tolist", None)):  # arrays and scalars of NumPy, CuPy, torch
        value = value.tolist()
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [plain(item) for item in value]
        return items if isinstance(value, list | tuple) else sorted(items, key=repr)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str | bytes | complex):
        text = value if isinstance(value, str) else repr(value)
        return text.encode("utf-8", "backslashreplace").decode()
    raise TypeError(f"got {type(value).__name__}")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, keys joined by dots."""
    joined: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping)
        joined |= flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return joined


def short(value: object, letters: int = LETTERS) -> str:
    """Return a value as text of one line, its middle left out where it is long."""
    if value is None or value != value:
        return ""
    text = " ".join((f"{value:.4g}" if isinstance(value, float) else str(value)).split())
    return text if len(text) <= letters else f"{text[: letters // 2]}…{text[1 - letters // 2 :]}"


class Identities:
    """Gives runs of one notebook their identity; reads each piece of data once.

    A run is identified by its parameters, the notebook's code, the library's version and the
    content of the data that its parameters name.
    """

    def __init__(self, notebook: Path, data: Iterable[str]):
        self.code = _digest([notebook_digest(notebook), trfnb.__version__])
        self._names = tuple(data)
        self._digest_of = functools.cache(_content_digest)

    def of(self, parameters: Mapping[str, Any]) -> str:
        """Return the identity of a run with these (completed) parameters: 12 hex digits."""
        sources = {name: source_of(value) for name, value in parameters.items()}
        return _digest([sources, self.code, self.data(parameters)])[:12]

    def named(self, parameters: Mapping[str, Any]) -> dict[tuple[str, str], str]:
        """Return the hash of each piece of data by parameter and value; empty if it is absent."""
        values = [(name, parameters.get(name)) for name in self._names]
        return {
            (name, item): self._digest_of(item)
            for name, value in values
            for item in (value if isinstance(value, list | tuple) else [value])
            if item and isinstance(item, str)
        }

    def data(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Return the hash of each piece of data that is there, by ``parameter=value``."""
        named = self.named(parameters).items()
        return {plain(f"{name}={item}"): digest for (name, item), digest in named if digest}


@dataclass(frozen=True)
class Ledger:
    """All runs of one sweep's folder."""

    folder: Path

    def statuses(self) -> list[Status]:
        """Return every run that the folder holds, by name."""
        return [*filter(None, map(read_status, sorted((self.folder / RUNS).glob("*/"))))]

    def home(self, status: Status) -> Path:
        """Return a run's folder."""
        return self.folder / RUNS / status.run

    def repair(self) -> list[Status]:
        """Mark runs that an earlier sweep left under way as killed, and return them.

        Runs on other machines with a fresh heartbeat (a batch system's) are left alone.
        """
        lost = [s for s in self.statuses() if s.state is State.RUNNING and not s.elsewhere]
        for status in lost:
            status.end(State.KILLED, "was under way when its sweep or machine died")
            status.ended = status.heartbeat
            status.write(self.home(status))
        return lost

    def plan(
        self, runs: Sequence[Run], identities: Identities, varied: Sequence[str]
    ) -> list[Status]:
        """Return a status for each run asked for: the folder's own, or a new one, unwritten."""
        known = {status.identity: status for status in self.statuses()}
        planned = []
        for run in runs:
            identity = identities.of(run.parameters)
            if identity not in known:
                row = plain(run.parameters)
                name = "_".join(f"{key}-{row[key]}" for key in varied if key in row)
                slug = re.sub(r"[^A-Za-z0-9.=+-]+", "_", name)[:80].strip("._") or "run"
                known[identity] = Status(
                    run=f"{slug}_{identity}",
                    identity=identity,
                    parameters=row,
                    given=run.given,
                    code=identities.code,
                    data=identities.data(run.parameters),
                )
            planned.append(known[identity])
        return planned

    def restart(self, status: Status, **settings: Any) -> Status:
        """Return a run as it waits for a new start, under a new token, and write it.

        Args:
            status: of the run.
            settings: what its process needs to execute it.
        """
        waiting = Status(
            **status.model_dump(include=KEPT),
            **settings,
            token=os.urandom(6).hex(),
            attempt=status.attempt + 1,
        )
        self.home(status).mkdir(parents=True, exist_ok=True)
        waiting.write(self.home(status))
        return waiting


def gather(folder: Path | str) -> tuple[dict[str, Any], list[Status], list[Status]]:
    """Return a sweep's description, its current runs and its outdated ones.

    Current are the runs of the notebook, the library version and, for each corpus, the content
    that were in use when the sweep was last called. They come in the order asked for, others and
    trials by their number, else the earliest first. The sweep may still run.

    Raises:
        FileNotFoundError: the folder holds no sweep.
    """
    try:
        about = json.loads((Path(folder) / "sweep.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{folder} holds no sweep (no sweep.json): give a folder that `trfnb sweep` wrote, "
            "such as papermill_runs/NAME."
        ) from None
    rank = {identity: place for place, identity in enumerate(about["order"])}
    statuses = sorted(
        Ledger(Path(folder)).statuses(),
        key=lambda s: (rank.get(s.identity, len(rank)), s.trial or 0, s.started or math.inf),
    )
    # the two unions are equal where both digests of each piece of data agree
    code, data = about["code"], about["data"]
    current = [s for s in statuses if s.code == code and s.data | data == data | s.data]
    return about, current, [status for status in statuses if status not in current]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _content_digest(name: str) -> str:
    from pooch import file_hash

    package = Path(trfnb.__file__).parent
    places = (Path(name).expanduser(), package / "corpora" / name, package.parent / "data" / name)
    path = next((place for place in places if place.exists()), None)
    if path is None:
        return ""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("[!.]*") if p.is_file())
    return _digest([[str(file.relative_to(path)), file_hash(file)] for file in files])
