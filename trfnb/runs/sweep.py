"""A sweep from its specification to its table: plan, run what is missing, gather."""

import os
import platform
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import ChainMap, Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from tqdm import tqdm

import trfnb
from trfnb import notebook_side
from trfnb.files import atomic_write, locked
from trfnb.runs.engines import Ended, Engine, Job, make_engine
from trfnb.runs.execute import kill, marked, socket_folder
from trfnb.runs.ledger import (
    Identities,
    Ledger,
    State,
    Status,
    flat,
    gather,
    read_status,
    short,
    write_json,
)
from trfnb.runs.notebook import overwritten
from trfnb.runs.results import table_of
from trfnb.runs.specification import SpecificationError, Sweep, expand

if TYPE_CHECKING:
    from trfnb.runs.search import Search

HOME = Path("papermill_runs")
TICK = 0.05
# How often a run whose worker was lost is started elsewhere.
MOVES = 3
PACKAGES = ("spacy", "thinc", "torch", "transformers", "numpy")

# Takes a line of what there is to do, what to beware of, or how a run ended.
Say = Callable[[str], object]


class Plan:
    """A sweep that has been checked and laid out beside what its folder holds already.

    Starts and writes nothing.

    Args:
        sweep: what to run.
        out: the sweep's folder; ``papermill_runs/NAME`` when not given.
        smoke: lay the sweep's ``smoke`` parameters over all runs.

    Attributes:
        runs: those asked for; of a search, its space's corners.
        data: the hash of all data that they name, as `Identities.named` gives it.
        statuses: one per run asked for; none yet for a search.
        notes: what there is to do, and warnings, in words.

    Raises:
        SpecificationError: with all errors of all runs.
        ValueError: the notebook can't be read.
    """

    def __init__(self, sweep: Sweep, *, out: Path | str | None = None, smoke: bool = False):
        self.sweep, self.folder = sweep, Path(out) if out else HOME / sweep.name
        self.runs, self.ledger = expand(sweep, smoke=smoke), Ledger(self.folder.absolute())
        self.identities = Identities(sweep.notebook, sweep.data)
        self.data = dict(ChainMap(*(self.identities.named(run.parameters) for run in self.runs)))
        missing = [
            f"`{name}`: no file or folder {item!r}, seen from {Path.cwd()}."
            for (name, item), digest in self.data.items()
            if re.search(r"/|\.\w+$", item) and not digest
        ]
        if missing:
            raise SpecificationError(sweep.notebook, missing)
        self.refresh()

    def refresh(self) -> None:
        """Lay the runs beside what the folder holds now."""
        listed = [] if self.sweep.search else self.runs
        self.statuses = self.ledger.plan(listed, self.identities, self.sweep.varied)
        done = sum(status.state is State.DONE for status in self.statuses)
        todo = f"{len(listed)} runs: {done} done, {len(listed) - done} to do."
        self.notes = [*([todo] if listed else []), *_warnings(self)]


@dataclass
class Outcome:
    """What a sweep came to.

    Attributes:
        notes: what its runs did not record, in words.
        complete: whether every run has its results.
    """

    folder: Path
    statuses: list[Status]
    interrupted: bool
    notes: list[str]
    complete: bool


def run_sweep(
    sweep: Sweep,
    *,
    out: Path | str | None = None,
    smoke: bool = False,
    say: Say | None = None,
) -> Outcome:
    """Run what is missing or failed of a sweep, and write its table.

    Args:
        sweep: what to run.
        out: the sweep's folder; ``papermill_runs/NAME`` when not given.
        smoke: lay the sweep's ``smoke`` parameters over all runs.
        say: called with each line of what there is to do, what to beware of and how each run
            ended. With it, a bar on a terminal shows how many runs have ended.

    Raises:
        SpecificationError: before any kernel starts, with all errors of all runs.
        BlockingIOError: another sweep is at work in the folder.
        OSError: this is Windows.
    """
    if os.name == "nt":
        raise OSError(
            "A sweep expected Linux or macOS, got Windows, which lacks the pipes and sockets that "
            "hold its runs together. Start it in WSL; results can be read anywhere."
        )
    plan = Plan(sweep, out=out, smoke=smoke)
    engine, ledger = make_engine(sweep), plan.ledger
    try:
        with locked(ledger.folder, "sweep"):
            psutil.wait_procs(marked(ledger.folder), timeout=3.0)
            kill(ledger.folder)
            for status in ledger.repair():
                shutil.rmtree(socket_folder(status.token), ignore_errors=True)
            plan.refresh()  # another sweep may have run some of them until it gave the lock back
            if say:
                say("\n".join(plan.notes))
            _describe(plan)
            asked, search = {status.identity for status in plan.statuses}, None
            if sweep.search:
                with notebook_side():
                    from trfnb.runs.search import Search
                search = Search(sweep, ledger, plan.identities, smoke=smoke)
                asked = search.asked
            interrupted = Loop(plan, engine, search, say).run()
            current = gather(ledger.folder)[1]
            with atomic_write(ledger.folder / "results.csv") as stream:
                table_of(current).to_csv(stream, index=False, lineterminator="\n")
    finally:
        engine.close()
    mine = [status for status in current if status.identity in asked]
    notes = _missing_metrics(mine, sweep)
    ended = all(status.state is State.DONE for status in mine)
    complete = ended and not interrupted and not (sweep.search and notes)
    return Outcome(plan.folder, mine, interrupted, notes, complete)


class Loop:
    """Takes runs through an engine: each waits, then runs as a job, then is over.

    A run whose worker was lost waits again. A search adds runs when none is waiting. When the
    sweep is told to stop, waiting runs stay as they are and jobs are cancelled.

    Args:
        plan: the sweep and its runs.
        engine: where they execute.
        search: proposes further runs; None for a list alone.
        say: called with a line for each run that ends.
    """

    def __init__(self, plan: Plan, engine: Engine, search: "Search | None", say: Say | None):
        self.plan, self.ledger, self.engine = plan, plan.ledger, engine
        self.search, self.say = search, say
        self.total = search.total if search else len(plan.statuses)
        self.waiting = deque(s for s in plan.statuses if s.state is not State.DONE)
        self.running: dict[str, tuple[Status, Job | None]] = {}  # None: on another machine
        self.over = len(plan.statuses) - len(self.waiting)
        self.stops = 0
        self._losses: Counter[str] = Counter()
        self._settings = _settings(plan, engine.threads)

    def run(self) -> bool:
        """Run until nothing is left; return whether it was interrupted."""
        obeyed = 0
        # None: a bar on a terminal alone
        bar = tqdm(total=self.total, unit="run", disable=None if self.say else True, leave=False)
        main = threading.current_thread() is threading.main_thread()  # others get no signals
        with ExitStack() as handlers, bar:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if main else ():
                handlers.callback(signal.signal, number, signal.signal(number, self._stop))
            try:
                while self._start():
                    stops = self.stops
                    for status, job in list(self.running.values()):
                        if ended := job.ended() if job else self._elsewhere(status):
                            self._end(status, ended)
                        elif job and stops > obeyed:
                            job.cancel(now=stops > 1)
                    obeyed = stops
                    bar.update(self.over - bar.n)
                    time.sleep(TICK)
            finally:
                for job in [job for _, job in self.running.values() if job]:
                    job.cancel(now=True)
        return self.stops > 0

    # Start what there is room for; return whether anything is under way.
    def _start(self) -> bool:
        chosen: list[Status] = []
        while not self.stops and len(self.running) + len(chosen) < self.engine.slots:
            status = self.waiting.popleft() if self.waiting else self.search and self.search.next()
            if not status:
                break
            if status.elsewhere:
                self.running[status.run] = status, None
            else:
                chosen.append(self.ledger.restart(status, **self._settings))
        if chosen:
            jobs = self.engine.start([(self.ledger.home(status), status) for status in chosen])
            self.running |= {s.run: (s, job) for s, job in zip(chosen, jobs, strict=True)}
        return bool(self.running)

    # A run that an earlier sweep left to another machine is waited for, not doubled.
    def _elsewhere(self, started: Status) -> Ended | None:
        status = read_status(self.ledger.home(started))
        if status and status.elsewhere and not self.stops:
            return None
        return Ended("" if self.stops else "the machine it ran on sends no heartbeat", lost=True)

    def _end(self, started: Status, ended: Ended) -> None:
        del self.running[started.run]
        home = self.ledger.home(started)
        status = read_status(home) or started
        if status.state in {State.WAITING, State.RUNNING} and ended.cause:
            status.end(State.KILLED, ended.cause)
            status.write(home)
        self._losses[status.run] += ended.lost
        moved = ended.lost and status.state.bad and self._losses[status.run] <= MOVES
        if moved and not self.stops:
            self.waiting.append(status)
            return
        if self.search:
            self.search.settle(status)
        self.over += 1
        if self.say:
            line = f"{status.state}  {status.run}  {short(status.cause, 200)}"
            self.say(f"[{self.over}/{self.total}] {line.rstrip()}")

    def _stop(self, *_: Any) -> None:
        self.stops += 1


def _settings(plan: Plan, threads: int) -> dict[str, Any]:
    notebook, home = plan.sweep.notebook, plan.ledger.folder / "notebooks"
    home.mkdir(exist_ok=True)
    copy = home / f"{notebook.stem}_{plan.identities.code[:12]}.ipynb"
    if not copy.exists():
        shutil.copyfile(notebook, copy)
    environment: dict[str, Any] = {
        "trfnb": trfnb.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }
    git = ["git", "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"]
    with suppress(OSError):  # no git here
        done = subprocess.run(git, cwd=notebook.parent, capture_output=True, text=True, check=False)
        environment["commit"] = done.stdout.strip() or None
    return {
        "source": str(copy),
        "cwd": str(Path.cwd()),
        "timeout": plan.sweep.timeout,
        "threads": threads,
        "device": plan.sweep.device,
        "environment": environment,
    }


def _describe(plan: Plan) -> None:
    sweep = plan.sweep
    write_json(
        plan.ledger.folder / "sweep.json",
        {
            "name": sweep.name,
            "notebook": str(sweep.notebook),
            "code": plan.identities.code,
            "varied": sweep.varied,
            "metrics": sweep.metrics,
            "search": sweep.search and {sweep.search.metric: sweep.search.direction},
            "answer": sweep.answer and sweep.answer.model_dump(exclude_unset=True),
            "data": dict(ChainMap(*(plan.identities.data(run.parameters) for run in plan.runs))),
            "order": [status.identity for status in plan.statuses],
            "called": time.time(),
        },
    )


def _warnings(plan: Plan) -> list[str]:
    given = {name for run in plan.runs for name in run.given}
    lines = [
        f"Warning: cell {cell} of {plan.sweep.notebook.name} assigns `{name}` anew; the table "
        "will show the value given."
        for name, cell in overwritten(plan.sweep.notebook, given)
    ]
    lines += [
        f"Warning: `{name}`: {item!r} is no path here and does not come with trfnb; "
        "the notebook must find it by itself."
        for (name, item), digest in plan.data.items()
        if name in given and not digest
    ]
    return lines


def _missing_metrics(statuses: Sequence[Status], sweep: Sweep) -> list[str]:
    done = [status for status in statuses if status.state is State.DONE]
    if sweep.search is None:
        silent = bool(done) and not any(status.metrics for status in done)
        told = "No run recorded a value: call trfnb.record(name, value) in the notebook."
        return [told] if silent else []
    metric = sweep.search.metric
    without = [status for status in done if metric not in status.numbers]
    names = dict.fromkeys(name for status in done for name in status.numbers)
    instead = ", ".join(f"`{name}`" for name in names if name != metric) or "no other number"
    what = "NaN" if any(metric in flat(status.metrics) for status in without) else "nothing"
    told = f"{len(without)} of {len(done)} runs recorded {what} under `{metric}`"
    return [f"search: {told}; they recorded {instead}."] if without else []
