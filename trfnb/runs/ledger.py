"""A sweep's folder: one folder per run, what is known of each, and who may write.

``runs/RUN/status.json`` is replaced whole at every change. A lock on the folder, held by the
sweep's process, ends with that process however it ends.
"""

import hashlib
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import trfnb
from trfnb.files import atomic_write
from trfnb.runs.notebook import notebook_digest, source_of

RUNS = "runs"
NOTEBOOK = "notebook.ipynb"
LOG = "log.txt"
STALE = 30.0
"""Seconds without a heartbeat after which a run on another machine counts as lost."""


class State(StrEnum):
    """Where a run is in its life. PRUNED: ended early by a search. KILLED: from outside."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    PRUNED = "pruned"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    KILLED = "killed"

    @property
    def final(self) -> bool:
        """Whether a later sweep leaves the run alone."""
        return self in {State.DONE, State.PRUNED}

    @property
    def bad(self) -> bool:
        """Whether the run ended without its results."""
        return self.value in BAD_STATES


BAD_STATES = ("failed", "timed out", "out of memory", "killed")


@dataclass(frozen=True)
class Run:
    """One run's parameters.

    Attributes:
        parameters: all of them, defaults included.
        given: Python source of those to hand to the notebook, which has its defaults itself.
    """

    parameters: dict[str, Any]
    given: dict[str, str]


@dataclass
class Status:
    """What is known of one run.

    Attributes:
        run: its folder's name, unique in the sweep.
        identity: hash of parameters, notebook, library version and data.
        parameters: all parameters, defaults included, as JSON can hold them.
        given: Python source of the parameters that the notebook is given.
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
    given: dict[str, str] = field(default_factory=dict)
    notebook: str = ""
    version: str = ""
    data: dict[str, str] = field(default_factory=dict)
    state: State = State.WAITING
    cause: str = ""
    error: dict[str, str] = field(default_factory=dict)
    attempt: int = 0
    token: str = ""
    host: str = ""
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
        return self.ended and self.started and round(self.ended - self.started, 3)

    @property
    def elsewhere(self) -> bool:
        """Whether the run is alive on another machine."""
        fresh = time.time() - (self.heartbeat or 0) < STALE
        return self.state is State.RUNNING and self.host != os.uname().nodename and fresh

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that the notebook recorded, by flat name."""
        values = flat(self.metrics).items()
        return {k: v for k, v in values if isinstance(v, int | float) and not isinstance(v, bool)}

    def end(self, state: State, cause: str = "") -> None:
        """Note that the run has ended now."""
        self.state, self.cause, self.ended = state, cause, time.time()

    def write(self, folder: Path) -> None:
        """Write ``folder/status.json`` whole or not at all."""
        write_json(folder / "status.json", asdict(self) | {"seconds": self.seconds})


@dataclass(frozen=True)
class Job:
    """One run as an engine gets it: what to execute, where, and within which limits.

    Attributes:
        folder: the run's own folder, absolute.
        notebook: the notebook to run, absolute; the sweep's own copy.
        given: Python source of the parameters to inject.
        token: must be the one in the run's status, or another start has taken over.
        cwd: working directory of the notebook.
        timeout, cell_timeout: seconds; None for no limit.
        memory: megabytes of the kernel and its children; None for no limit.
        threads: that the run may use.
        variables: environment variables added to the run's.
        environment: columns of the results that the sweep knows already.
    """

    folder: str
    notebook: str
    given: dict[str, str]
    token: str
    cwd: str
    timeout: float | None = None
    cell_timeout: float | None = None
    memory: float | None = None
    threads: int = 1
    variables: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return Path(self.folder).name


def read_status(folder: Path) -> Status | None:
    """Return the status in a run's folder; None when there is none that can be read."""
    try:
        content = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        known = {f.name for f in fields(Status)}
        status = Status(**{name: value for name, value in content.items() if name in known})
        status.state = State(status.state)
    except (OSError, ValueError, TypeError):
        return None
    return status


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    with atomic_write(path) as stream:
        stream.write(json.dumps(content, indent=1, default=str) + "\n")


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: arrays and sets as lists, NaN and infinities as None.

    Raises:
        TypeError: it is neither a number, text, an array nor a container of these.
    """
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=repr)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes | complex):
        return repr(value)
    if callable(getattr(value, "tolist", None)):  # arrays and scalars of NumPy, CuPy, torch
        return plain(value.tolist())
    raise TypeError(f"got {type(value).__name__}")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, keys joined by dots."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


class Identities:
    """Gives runs of one notebook their identity; reads each piece of data once.

    A run is identified by its parameters, the notebook's code, the library's version and the
    content of the data that its parameters name.
    """

    def __init__(self, notebook: Path, data: Iterable[str]):
        self.notebook = notebook_digest(notebook)
        self.version = trfnb.__version__
        self._names = tuple(data)
        self._seen: dict[str, str] = {}

    def of(self, parameters: Mapping[str, Any]) -> str:
        """Return the identity of a run with these (completed) parameters: 12 hex digits."""
        said = {name: source_of(value) for name, value in parameters.items()}
        return _digest([said, self.notebook, self.version, self.data(parameters)])[:12]

    def data(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Return the hash of each piece of data that is there, by ``parameter=value``."""
        named = self._named(parameters)
        return {
            f"{name}={item}": self._digest_of(item) for name, item in named if self._digest_of(item)
        }

    def missing(self, parameters: Mapping[str, Any]) -> list[str]:
        """Return a line for each piece of data that is written as a path and is not there."""
        return [
            f"`{name}`: no file or folder {item!r}, seen from {Path.cwd()}."
            for name, item in self._named(parameters)
            if re.search(r"/|\.\w+$", item) and not self._digest_of(item)
        ]

    def _named(self, parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for name in self._names:
            value = parameters.get(name)
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, str) and item:
                    yield name, item

    def _digest_of(self, value: str) -> str:
        """Return the hash of a path's content or of an embedded corpus; empty for neither."""
        if value not in self._seen:
            path, package = Path(value).expanduser(), Path(trfnb.__file__).parent
            places = [path]
            if path.name == value:
                places += [package / "corpora" / value, package.parent / "data" / value]
            there = [place for place in places if place.exists()]
            self._seen[value] = _content_digest(there[0]) if there else ""
        return self._seen[value]


class Ledger:
    """All runs of one sweep's folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            BlockingIOError: another sweep holds it.
        """
        (self.folder / RUNS).mkdir(parents=True, exist_ok=True)
        holder = self.folder / ".holder"
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                since = time.strftime("%Y-%m-%d %H:%M:%S")
                holder.write_text(f"process {os.getpid()} on {os.uname().nodename}, since {since}")
                yield
        except Timeout:
            who = holder.read_text() if holder.exists() else "an unknown process"
            raise BlockingIOError(
                f"Another sweep is at work in {self.folder}: {who}. "
                "Wait for it, stop it, or give another folder with --out."
            ) from None

    def is_locked(self) -> bool:
        """Return whether a sweep is at work in the folder."""
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                return False
        except Timeout:
            return True

    def statuses(self) -> list[Status]:
        """Return every run that the folder holds, trials by number, else the earliest first."""
        folders = sorted((self.folder / RUNS).glob("*/"))
        found = [status for folder in folders if (status := read_status(folder)) is not None]
        return sorted(found, key=lambda s: (s.trial or 0, s.started or math.inf))

    def home(self, status: Status) -> Path:
        """Return a run's folder."""
        return self.folder / RUNS / status.run

    def repair(self) -> list[Status]:
        """Mark runs that an earlier sweep left under way as killed, and return them.

        Runs on other machines with a fresh heartbeat (a batch system's) are left alone.
        """
        lost = [s for s in self.statuses() if s.state is State.RUNNING and not s.elsewhere]
        for status in lost:
            status.state = State.KILLED
            status.cause = "was under way when its sweep or machine died"
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
                notebook, version = identities.notebook, identities.version
                data = identities.data(run.parameters)
                known[identity] = Status(
                    f"{slug}_{identity}", identity, row, run.given, notebook, version, data
                )
            planned.append(known[identity])
        return planned

    def restart(self, status: Status) -> None:
        """Mark a run as waiting for a new start, under a new token, and write it."""
        status.token = secrets.token_hex(6)
        status.attempt += 1
        status.state, status.cause, status.error = State.WAITING, "", {}
        status.started = status.ended = status.heartbeat = None
        status.cell, status.latest, status.metrics = 0, {}, {}
        self.home(status).mkdir(parents=True, exist_ok=True)
        status.write(self.home(status))


def gather(folder: Path | str) -> tuple[dict[str, Any], list[Status], list[Status]]:
    """Return a sweep's description, its current runs and its outdated ones.

    Current are the runs of the notebook, the library version and, for each corpus, the content
    that were in use when the sweep was last called. The sweep may still run.

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
    statuses = Ledger(Path(folder)).statuses()
    rank = {identity: place for place, identity in enumerate(about["order"])}
    statuses.sort(key=lambda status: rank.get(status.identity, len(rank)))
    why = {
        s.run: changed(s, about["notebook_digest"], about["trfnb"], about["data"]) for s in statuses
    }
    current = [status for status in statuses if not why[status.run]]
    return about, current, [status for status in statuses if why[status.run]]


def changed(status: Status, notebook: str, version: str, data: Mapping[str, str]) -> str:
    """Return what has changed since a run, in words; empty when nothing that it depends on."""
    if status.notebook != notebook:
        return "the notebook has changed"
    if status.version != version:
        return f"the library was {status.version}"
    same = all(data.get(key, digest) == digest for key, digest in status.data.items())
    return "" if same else "the corpus has changed"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _content_digest(path: Path) -> str:
    """Return the hash of a file, or of a folder's relative paths and contents."""
    parts = []
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        parts.append([str(file.relative_to(path)), content])
    return _digest(parts)
