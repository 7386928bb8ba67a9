"""A run that is lost is started again; one that another machine executes is waited for."""

import time
from pathlib import Path

from trfnb.runs.engines import Ended, Engine
from trfnb.runs.ledger import State, Status, read_status
from trfnb.runs.specification import Sweep
from trfnb.runs.sweep import Loop, Plan


def test_lost_runs_start_again_and_runs_elsewhere_are_not_doubled(tiny: Path, tmp_path) -> None:
    plan = Plan(Sweep(tiny, seeds=2), out=tmp_path / "sweep")
    mine, theirs = plan.statuses
    homes = [plan.ledger.home(status) for status in plan.statuses]
    homes[1].mkdir(parents=True)
    theirs.state, theirs.heartbeat = State.RUNNING, time.time()
    theirs.environment = {"host": "another-machine"}
    theirs.write(homes[1])

    class Job:
        def __init__(self, folder: Path, status: Status):
            self.folder, self.status = folder, status

        def ended(self) -> Ended | None:
            if self.status.attempt < 3:
                return Ended("its worker is gone", lost=True)
            for status, home in ((self.status, self.folder), (theirs, homes[1])):
                status.end(State.DONE)
                status.write(home)
            return Ended()

        def cancel(self, *, now: bool) -> None:
            raise AssertionError("nobody stops this sweep")

    said: list[str] = []
    engine = Engine(2, 1, lambda runs: [Job(*run) for run in runs])
    assert not Loop(plan, engine, None, said.append).run()
    ended = [read_status(home) for home in homes]
    assert [(s.state, s.attempt) for s in ended] == [(State.DONE, 3), (State.DONE, 0)]
    assert sorted(line.split()[-1] for line in said) == sorted([mine.run, theirs.run])
