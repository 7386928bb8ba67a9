"""A sweep from its specification to its table: plan, run what is missing, gather."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trfnb
from trfnb.runs.engines import make_engine
from trfnb.runs.environment import of_this_sweep
from trfnb.runs.expansion import expand
from trfnb.runs.gather import gather
from trfnb.runs.identity import Identities
from trfnb.runs.job import Job
from trfnb.runs.ledger import Ledger, Plan, describe_folder
from trfnb.runs.loop import Loop
from trfnb.runs.progress import Progress
from trfnb.runs.sources import Listed, Source
from trfnb.runs.specification import Sweep
from trfnb.runs.status import Status
from trfnb.runs.table import write_tables

HOME = Path("papermill_runs")


@dataclass
class Outcome:
    """What a sweep came to."""

    folder: Path
    statuses: list[Status]
    interrupted: bool

    @property
    def complete(self) -> bool:
        """Whether every run has its results."""
        return not self.interrupted and all(status.state.final for status in self.statuses)


@dataclass
class Prepared:
    """A sweep that has been checked and laid out beside what its folder holds already."""

    sweep: Sweep
    folder: Path
    ledger: Ledger
    identities: Identities
    plan: Plan
    smoke: bool = False


def prepare(
    sweep: Sweep,
    *,
    out: Path | str | None = None,
    overrides: Mapping[str, str] | None = None,
    smoke: bool = False,
) -> Prepared:
    """Check a sweep against its notebook and its folder; start and write nothing.

    Raises:
        ParameterError: with all faults of all runs.
        ValueError: the notebook or a condition can't be read.
    """
    folder = Path(out) if out else HOME / sweep.name
    rows = expand(sweep, overrides=overrides, smoke=smoke)
    identities = Identities(sweep.notebook, sweep.data)
    ledger = Ledger(folder.absolute())
    plan = ledger.plan([] if sweep.search else rows, identities, sweep.varied)
    return Prepared(sweep, folder, ledger, identities, plan, smoke)


def run_sweep(
    sweep: Sweep,
    *,
    out: Path | str | None = None,
    overrides: Mapping[str, str] | None = None,
    smoke: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Run what is missing or failed of a sweep, and write its tables.

    Args:
        sweep: what to run.
        out: the sweep's folder; ``papermill_runs/NAME`` when not given.
        overrides: parameters fixed for all runs, as text.
        smoke: lay the sweep's ``smoke`` parameters over all runs.
        quiet: show no progress.

    Raises:
        ParameterError: before any kernel starts, with all faults of all runs.
        LockedError: another sweep is at work in the folder.
    """
    checked = prepare(sweep, out=out, overrides=overrides, smoke=smoke)
    engine = make_engine(sweep.engine, jobs=sweep.jobs, threads=sweep.threads, gpus=sweep.gpus)
    if sweep.search and sweep.jobs:
        engine.slots = min(engine.slots, sweep.jobs)  # a queue full of proposals learns nothing
    ledger = checked.ledger
    try:
        with ledger.locked():
            lost = ledger.repair()
            rows = [status.parameters for status in checked.plan.statuses]
            plan = ledger.plan(rows, checked.identities, sweep.varied)  # after repairs
            snapshot = _snapshot(sweep.notebook, ledger.folder, checked.identities)
            _describe(checked, plan)
            source: Source = Listed(plan.statuses)
            opening = plan.describe(lost)
            if sweep.search:
                from trfnb.runs.search import Search

                source = Search(checked)
            with Progress(
                sweep, plan.statuses, engine.slots, source, opening=opening, quiet=quiet
            ) as progress:
                loop = Loop(
                    ledger,
                    engine,
                    source,
                    job_of=_job_maker(sweep, ledger, snapshot),
                    retry=sweep.retry,
                    show=progress.show,
                )
                interrupted = loop.run()
            statuses = gather(ledger.folder).current
            write_tables(ledger.folder, statuses)
            asked = {status.identity for status in plan.statuses}
            mine = [s for s in statuses if s.identity in asked or s.trial is not None]
            if sweep.mlflow:
                from trfnb.runs.tracking import log_to_mlflow

                log_to_mlflow(sweep.mlflow, sweep.name, loop.settled, ledger)
    finally:
        engine.close()
    return Outcome(checked.folder, mine, interrupted)


def _job_maker(sweep: Sweep, ledger: Ledger, snapshot: Path) -> Any:
    environment = of_this_sweep(sweep.notebook.parent)
    memory, timeout, cell = sweep.memory, sweep.timeout, sweep.cell_timeout

    def job_of(status: Status) -> Job:
        return Job(
            folder=str(ledger.home(status)),
            notebook=str(snapshot),
            parameters=status.parameters,
            token=status.token,
            cwd=str(Path.cwd()),
            timeout=timeout,  # type: ignore[arg-type]  # read into seconds by Sweep
            cell_timeout=cell,  # type: ignore[arg-type]
            memory=memory,  # type: ignore[arg-type]
            threads=sweep.threads or 1,
            gpus=sweep.gpus or 0,
            environment=environment,
        )

    return job_of


def _snapshot(notebook: Path, folder: Path, identities: Identities) -> Path:
    """Keep the notebook as it is now: who edits it meanwhile doesn't mix two in one sweep."""
    home = folder / "notebooks"
    home.mkdir(exist_ok=True)
    copy = home / f"{notebook.stem}_{identities.notebook[:12]}.ipynb"
    if not copy.exists():
        shutil.copyfile(notebook, copy)
    return copy


def _describe(checked: Prepared, plan: Plan) -> None:
    sweep = checked.sweep
    seen = [checked.identities.data(status.parameters) for status in plan.statuses]
    about: dict[str, Any] = {
        "name": sweep.name,
        "notebook": str(sweep.notebook),
        "notebook_digest": checked.identities.notebook,
        "trfnb": trfnb.__version__,
        "varied": sweep.varied,
        "metrics": sweep.metrics,
        "bounds": sweep.smoke_bounds if checked.smoke else sweep.bounds,
        "search": sweep.search,
        "data": {key: digest for data in seen for key, digest in data.items()},
        "order": [status.identity for status in plan.statuses],
        "called": time.time(),
    }
    describe_folder(checked.ledger.folder, about)
