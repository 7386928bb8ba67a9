"""A sweep from its specification to its table: plan, run what is missing, gather."""

import os
import platform
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trfnb
from trfnb.runs.engines import Ended, Engine, make_engine
from trfnb.runs.ledger import (
    Identities,
    Job,
    Ledger,
    Run,
    State,
    Status,
    changed,
    flat,
    gather,
    read_status,
    write_json,
)
from trfnb.runs.notebook import overwritten, read_parameters
from trfnb.runs.results import write_table
from trfnb.runs.specification import SpecificationError, Sweep, completed, expand
from trfnb.runs.watchdog import end_leftovers, remove_temporary

if TYPE_CHECKING:
    from trfnb.runs.search import Search

HOME = Path("papermill_runs")
TICK = 0.05
MOVES = 3
"""How often a run whose worker was lost is started elsewhere."""
PACKAGES = ("spacy", "thinc", "torch", "transformers", "numpy")


Progress = Callable[[Sequence[Status], int], object]
"""Told now and then which runs have ended so far, and how many there are in all."""


@dataclass
class Prepared:
    """A sweep that has been checked and laid out beside what its folder holds already.

    Attributes:
        runs: those asked for; of a search, its space's corners.
        statuses: one per run asked for; none yet for a search.
        notes: what there is to do, what has changed since earlier calls, and warnings, in words.
    """

    sweep: Sweep
    folder: Path
    ledger: Ledger
    identities: Identities
    runs: list[Run]
    smoke: bool = False
    statuses: list[Status] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def plan(self) -> None:
        """Lay the runs beside what the folder holds now."""
        listed = [] if self.sweep.search else self.runs
        self.statuses = self.ledger.plan(listed, self.identities, self.sweep.varied)
        self.notes = [*_changes(self), *_warnings(self)]


@dataclass
class Outcome:
    """What a sweep came to.

    Attributes:
        notes: what its runs did not record, in words.
        without_metric: how many runs of a search ended without its metric.
    """

    folder: Path
    statuses: list[Status]
    interrupted: bool
    notes: list[str] = field(default_factory=list)
    without_metric: int = 0

    @property
    def complete(self) -> bool:
        """Whether every run has its results."""
        ended = all(status.state.final for status in self.statuses)
        return ended and not self.interrupted and not self.without_metric


def prepare(sweep: Sweep, *, out: Path | str | None = None, smoke: bool = False) -> Prepared:
    """Check a sweep against its notebook, its data and its folder; start and write nothing.

    Raises:
        SpecificationError: with all errors of all runs.
        ValueError: the notebook or a condition can't be read.
    """
    folder = Path(out) if out else HOME / sweep.folder_name
    runs = expand(sweep, smoke=smoke)
    identities = Identities(sweep.notebook, sweep.data)
    missing = dict.fromkeys(line for run in runs for line in identities.missing(run.parameters))
    if missing:
        raise SpecificationError(sweep.notebook, missing)
    ledger = Ledger(folder.absolute())
    checked = Prepared(sweep, folder, ledger, identities, runs, smoke)
    checked.plan()
    return checked


def run_sweep(
    sweep: Sweep,
    *,
    out: Path | str | None = None,
    smoke: bool = False,
    progress: Progress = lambda settled, total: None,
    say: Callable[[str], Any] = lambda line: None,
) -> Outcome:
    """Run what is missing or failed of a sweep, and write its table.

    Args:
        sweep: what to run.
        out: the sweep's folder; ``papermill_runs/NAME`` when not given.
        smoke: lay the sweep's ``smoke`` parameters over all runs.
        progress: called now and then.
        say: called with each line of what there is to do and what to beware of.

    Raises:
        SpecificationError: before any kernel starts, with all errors of all runs.
        BlockingIOError: another sweep is at work in the folder.
    """
    checked = prepare(sweep, out=out, smoke=smoke)
    engine, ledger = make_engine(sweep), checked.ledger
    if sweep.search and sweep.jobs:
        engine.slots = min(engine.slots, sweep.jobs)  # a queue full of proposals learns nothing
    try:
        with ledger.locked():
            end_leftovers(ledger.folder)
            lost = ledger.repair()
            for status in lost:
                remove_temporary(status.token)
            if lost:
                say(f"{len(lost)} runs were under way when the last sweep died; run again.")
            checked.plan()  # another sweep may have run some of them until it gave the lock back
            for note in checked.notes:
                say(note)
            _describe(checked)
            search = _search(checked) if sweep.search else None
            interrupted = Loop(checked, engine, search, progress).run()
            _, current, _ = gather(ledger.folder)
            write_table(ledger.folder, current)
    finally:
        engine.close()
    asked = {status.identity for status in checked.statuses}
    mine = [s for s in current if s.identity in asked or s.trial is not None]
    outcome = Outcome(checked.folder, mine, interrupted)
    _note_missing_metrics(outcome, sweep)
    return outcome


class Loop:
    """Takes runs through an engine: start, note what has ended, stop when told.

    Args:
        checked: the sweep and its runs.
        engine: where they execute.
        search: proposes further runs; None for a list alone.
        progress: called now and then.
    """

    def __init__(
        self, checked: Prepared, engine: Engine, search: "Search | None", progress: Progress
    ):
        self.checked, self.ledger = checked, checked.ledger
        self.engine, self.search, self.progress = engine, search, progress
        self.total = search.total if search else len(checked.statuses)
        self.waiting = deque(s for s in checked.statuses if not s.state.final)
        self.running: dict[str, Status] = {}
        self.settled = [status for status in checked.statuses if status.state.final]
        self.stops = self._stopped = 0
        self._tried: Counter[tuple[str, str]] = Counter()
        self._elsewhere: set[str] = set()
        self._job_of = _job_maker(checked)

    def run(self) -> bool:
        """Run until nothing is left; return whether it was interrupted."""
        with self._signals():
            self._start()
            while self.running:
                over = self.engine.ended()
                for name in list(self._elsewhere):
                    # left to a batch system by an earlier sweep: wait for it, do not double it
                    status = read_status(self.ledger.home(self.running[name]))
                    if self.stops or not status or not status.elsewhere:
                        self._elsewhere.remove(name)
                        over[name] = Ended("the machine it ran on sends no heartbeat", lost=True)
                for name, how in over.items():
                    self._settle(self.running.pop(name), how)
                if self.stops > self._stopped:
                    self._stopped = self.stops
                    for name in self.running.keys() - self._elsewhere:
                        self.engine.cancel(name, now=self.stops > 1)
                self.progress(self.settled, self.total)
                time.sleep(TICK)
                self._start()
        return self.stops > 0

    def _start(self) -> None:
        while not self.stops and len(self.running) < self.engine.slots:
            proposed = self.search.next() if self.search and not self.waiting else None
            if not self.waiting and proposed is None:
                return
            status = proposed or self.waiting.popleft()
            self.running[status.run] = status
            if status.elsewhere:
                self._elsewhere.add(status.run)
                continue
            self.ledger.restart(status)
            variables = self.search.variables(status) if self.search else {}
            self.engine.start(self._job_of(status, variables))

    def _settle(self, started: Status, how: Ended) -> None:
        home = self.ledger.home(started)
        status = read_status(home) or started
        if status.state in {State.WAITING, State.RUNNING}:
            status.end(how.state, how.cause)
            status.write(home)
        limit = MOVES if how.lost else self.checked.sweep.retry.get(status.state.value, 0)
        key = (status.run, "lost" if how.lost else status.state.value)
        if status.state.bad and not self.stops and self._tried[key] < limit:
            self._tried[key] += 1
            self.waiting.append(status)
            return
        if self.search:
            self.search.settle(status)
        self.settled.append(status)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(*_: Any) -> None:
            self.stops += 1

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _search(checked: Prepared) -> "Search":
    from trfnb.runs.search import Search

    declared = read_parameters(checked.sweep.notebook)

    def complete(row: Mapping[str, Any]) -> Run:
        return completed(checked.sweep, row, declared, smoke=checked.smoke)[0]

    return Search(checked.sweep, checked.ledger, checked.identities, complete)


def _job_maker(checked: Prepared) -> Callable[[Status, dict[str, str]], Job]:
    """Return what makes a run's job, with a copy of the notebook as it is now."""
    sweep, ledger = checked.sweep, checked.ledger
    home = ledger.folder / "notebooks"
    home.mkdir(exist_ok=True)
    copy = home / f"{sweep.notebook.stem}_{checked.identities.notebook[:12]}.ipynb"
    if not copy.exists():
        shutil.copyfile(sweep.notebook, copy)
    environment = _environment(sweep.notebook.parent)

    def job_of(status: Status, variables: dict[str, str]) -> Job:
        return Job(
            folder=str(ledger.home(status)),
            notebook=str(copy),
            given=status.given,
            token=status.token,
            cwd=os.getcwd(),
            timeout=sweep.timeout,
            cell_timeout=sweep.cell_timeout,
            memory=sweep.memory,
            threads=sweep.threads or 1,
            variables=variables,
            environment=environment,
        )

    return job_of


def _environment(folder: Path) -> dict[str, Any]:
    """Return versions and the git commit of a folder, ``+`` at its end when files differ."""
    found: dict[str, Any] = {"trfnb": trfnb.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    git = ["git", "-C", str(folder), "describe", "--always", "--abbrev=10", "--exclude=*"]
    try:
        done = subprocess.run([*git, "--dirty=+"], capture_output=True, text=True, check=False)
        found["commit"] = done.stdout.strip() or None
    except OSError:
        found["commit"] = None
    return found


def _describe(checked: Prepared) -> None:
    """Write ``sweep.json``: what a report or ``trfnb status`` must know of the sweep."""
    sweep = checked.sweep
    datas = [status.data for status in checked.statuses]
    about = {
        "name": sweep.folder_name,
        "notebook": str(sweep.notebook),
        "notebook_digest": checked.identities.notebook,
        "trfnb": checked.identities.version,
        "varied": sweep.varied,
        "metrics": sweep.metrics,
        "search": sweep.search and sweep.search.model_dump(mode="json"),
        "data": {key: digest for data in datas for key, digest in data.items()},
        "order": [status.identity for status in checked.statuses],
        "called": time.time(),
    }
    write_json(checked.ledger.folder / "sweep.json", about)


def _changes(checked: Prepared) -> list[str]:
    """Return in words what there is to do, and what has changed since earlier calls."""
    planned, asked = checked.statuses, {status.identity for status in checked.statuses}
    data = {key: digest for status in planned for key, digest in status.data.items()}
    now = (checked.identities.notebook, checked.identities.version, data)
    others = [s for s in checked.ledger.statuses() if s.identity not in asked]
    reasons = Counter(changed(status, *now) for status in others)
    lines = [f"{n} earlier runs are left out: {why}." for why, n in reasons.items() if why]
    if planned:
        todo = [status for status in planned if not status.state.final]
        new = sum(status.attempt == 0 for status in todo)
        parts = [f"{n} {what}" for n, what in ((new, "new"), (len(todo) - new, "again")) if n]
        done = len(planned) - len(todo)
        detail = f" ({', '.join(parts)})" if parts and done else ""
        lines.append(f"{len(planned)} runs: {done} done, {len(todo)} to do{detail}.")
    return lines


def _warnings(checked: Prepared) -> list[str]:
    """Return in words what may go otherwise than the sweep's author thinks."""
    given = {name for run in checked.runs for name in run.given}
    lines = [
        f"Warning: cell {cell} of {checked.sweep.notebook.name} assigns `{name}` anew; the table "
        "will show the value given."
        for name, cell in overwritten(checked.sweep.notebook, given)
    ]
    corpora = dict.fromkeys(str(run.parameters.get("corpus")) for run in checked.runs)
    for corpus in corpora if "corpus" in given else ():
        if not checked.identities.data({"corpus": corpus}):
            lines.append(
                f"Warning: `corpus`: {corpus!r} is no path here and does not come with trfnb; "
                "the notebook must find it by itself."
            )
    return lines


def _note_missing_metrics(outcome: Outcome, sweep: Sweep) -> None:
    done = [status for status in outcome.statuses if status.state is State.DONE]
    if done and not any(status.metrics for status in done):
        outcome.notes.append(
            "No run recorded a value: call trfnb.record(name, value) in the notebook."
        )
    if not sweep.search:
        return
    metric = sweep.search.metric
    without = [status for status in done if metric not in status.numbers]
    outcome.without_metric = len(without)
    if without:
        names = dict.fromkeys(name for status in done for name in status.numbers)
        instead = ", ".join(f"`{name}`" for name in names if name != metric) or "no other number"
        nan = any(metric in flat(status.metrics) for status in without)
        outcome.notes.append(
            f"search: {len(without)} of {len(done)} runs recorded {'NaN' if nan else 'nothing'} "
            f"under `{metric}`; they recorded {instead}."
        )
