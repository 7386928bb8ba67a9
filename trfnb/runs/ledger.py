"""The sweep's folder: which runs there are, which are done, and who may write."""

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trfnb.runs.execute import temporary_folder
from trfnb.runs.identity import Identities
from trfnb.runs.processes import end_leftovers
from trfnb.runs.specification import Row
from trfnb.runs.status import State, Status, read_status, write_json

RUNS = "runs"
LOCK = ".lock"
STALE = 30.0
"""Seconds without a heartbeat after which a run on another machine counts as lost."""


class LockedError(BlockingIOError):
    """Another sweep is at work in the folder."""


@dataclass
class Plan:
    """The runs asked for, in order, and what the folder held before.

    Attributes:
        statuses: one a run asked for.
        new: how many of them the folder hadn't seen.
        outdated: earlier runs of another notebook, library or data, and why, in words.
    """

    statuses: list[Status]
    new: int
    outdated: list[tuple[Status, str]]

    def describe(self, lost: Sequence[Status] = ()) -> list[str]:
        """Return in words what there is to do, and what has changed since.

        Args:
            lost: runs that an earlier sweep left under way.
        """
        lines = []
        if lost:
            lines.append(f"{len(lost)} runs were under way when the last sweep died; run again.")
        for why, count in Counter(why for _, why in self.outdated).items():
            lines.append(f"{count} earlier runs are left out: {why}.")
        if self.statuses:
            todo = sum(not status.state.final for status in self.statuses)
            again = todo - self.new
            parts = [f"{self.new} new"] * bool(self.new) + [f"{again} again"] * bool(again)
            done = len(self.statuses) - todo
            text = f"{len(self.statuses)} runs: {done} done, {todo} to do"
            lines.append(text + (f" ({', '.join(parts)})." if parts and done else "."))
        return lines


class Ledger:
    """All runs of one sweep's folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the lock ends with the process, however it ends.

        Raises:
            LockedError: another sweep holds it.
        """
        (self.folder / RUNS).mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                stream.seek(0)
                raise LockedError(
                    f"Another sweep is at work in {self.folder}: {holder(stream.read())}. "
                    "Wait for it, stop it, or give another folder with --out."
                ) from None
            stream.truncate(0)
            about = {"pid": os.getpid(), "host": os.uname().nodename, "since": time.time()}
            stream.write(json.dumps(about))
            stream.flush()
            yield

    def is_locked(self) -> bool:
        """Return whether a sweep is at work in the folder."""
        try:
            with (self.folder / LOCK).open() as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def statuses(self) -> list[Status]:
        """Return every run that the folder holds, the earliest first."""
        folders = sorted((self.folder / RUNS).glob("*/"))
        found = [status for folder in folders if (status := read_status(folder)) is not None]
        return sorted(found, key=lambda s: s.started or float("inf"))

    def home(self, status: Status) -> Path:
        """Return a run's folder."""
        return self.folder / RUNS / status.run

    def repair(self) -> list[Status]:
        """End what earlier sweeps left running and return the runs that were under way.

        Runs on other machines with a fresh heartbeat (a batch system's) are left alone.
        """
        end_leftovers(self.folder)
        lost = []
        for status in self.statuses():
            if status.state is not State.RUNNING or self.elsewhere(status):
                continue
            status.state = State.KILLED
            status.cause = "was under way when its sweep or machine died"
            status.ended = status.heartbeat
            shutil.rmtree(temporary_folder(status.token), ignore_errors=True)
            status.write(self.home(status))
            lost.append(status)
        return lost

    @staticmethod
    def elsewhere(status: Status) -> bool:
        """Return whether a run is alive on another machine."""
        fresh = time.time() - (status.heartbeat or 0) < STALE
        return status.state is State.RUNNING and status.host != os.uname().nodename and fresh

    def plan(self, rows: Sequence[Row], identities: Identities, varied: Sequence[str]) -> Plan:
        """Return a status for each run asked for; earlier ones are taken up again."""
        known = {status.identity: status for status in self.statuses()}
        planned, new = [], 0
        for row in rows:
            identity = identities.of(row)
            status = known.get(identity)
            if status is None:
                status = self.add(row, identities, varied)
                new += 1
            planned.append(status)
        current = {status.identity for status in planned}
        others = [s for s in known.values() if s.identity not in current]
        outdated = [(s, why) for s in others if (why := changed(s, identities))]
        return Plan(planned, new, outdated)

    def add(self, row: Row, identities: Identities, varied: Sequence[str]) -> Status:
        """Return a waiting run for these parameters; nothing is written yet."""
        identity = identities.of(row)
        name = "_".join(f"{key}-{row[key]}" for key in varied if key in row)
        slug = re.sub(r"[^A-Za-z0-9.=+-]+", "_", name)[:80].strip("._") or "run"
        data = identities.data(row)
        return Status(
            f"{slug}_{identity}", identity, row, identities.notebook, identities.version, data
        )

    def take_up(self, status: Status) -> Status:
        """Mark a run as waiting for a new start, under a new token, and write it."""
        status.token = secrets.token_hex(6)
        status.attempt += 1
        status.state, status.cause, status.error = State.WAITING, "", {}
        status.started = status.ended = status.heartbeat = None
        status.cell, status.latest, status.metrics = 0, {}, {}
        home = self.home(status)
        home.mkdir(parents=True, exist_ok=True)
        status.write(home)
        return status


def changed(status: Status, identities: Identities) -> str:
    """Return what has changed since a run, in words; empty when nothing that it depends on."""
    if status.notebook != identities.notebook:
        return "the notebook has changed"
    if status.version != identities.version:
        return f"the library was {status.version}"
    if status.data != identities.data(status.parameters):
        return "the corpus has changed"
    return ""


def holder(content: str) -> str:
    """Return in words who wrote a lock file."""
    try:
        about = json.loads(content)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about["since"]))
    except (ValueError, KeyError, TypeError):
        return "unknown process"
    return f"process {about['pid']} on {about['host']}, since {since}"


def describe_folder(folder: Path, content: dict[str, object]) -> None:
    """Write ``sweep.json``: what a report or `trfnb status` must know of the sweep."""
    write_json(folder / "sweep.json", content)
