import pytest

from trfnb.runs.specification import Sweep
from trfnb.runs.status import State
from trfnb.runs.sweep import run_sweep

optuna = pytest.importorskip("optuna")

CELL = """import trfnb
for step in range(3):
    trfnb.record("f1", rate - (0.1 if step < 2 else 0), step=step)
if seed == 1 and rate > 0.5:
    raise ValueError("fragile")
trfnb.record("f1", rate)"""


def search(notebook, trials: int, **more: object) -> Sweep:
    space = {"rate": {"low": 0.0, "high": 1.0}}
    pruner = {"name": "threshold", "lower": 0.05}
    about = {"metric": "f1", "trials": trials, "space": space, "pruner": pruner}
    about["sampler"] = {"name": "random", "seed": 2}
    return Sweep(notebook, search=about, jobs=2, **more)


def test_trials_are_told_pruned_and_resumed(make_notebook) -> None:
    notebook = make_notebook(CELL)
    outcome = run_sweep(search(notebook, 4), quiet=True)
    assert [s.trial for s in outcome.statuses] == [0, 1, 2, 3]
    states = {s.parameters["rate"] < 0.15: s.state for s in outcome.statuses}
    assert states[True] is State.PRUNED  # seed 2 draws 0.026 among the four
    assert states[False] is State.DONE
    ended = {s.run: s.ended for s in outcome.statuses}
    more = run_sweep(search(notebook, 6), quiet=True)
    assert len(more.statuses) == 6
    assert {s.run: s.ended for s in more.statuses}.items() >= ended.items()


def test_a_failed_trial_is_run_again_by_the_next_call(make_notebook) -> None:
    notebook = make_notebook(CELL)
    first = run_sweep(search(notebook, 3, fixed={"seed": 1}), quiet=True)
    failed = {s.run for s in first.statuses if s.state is State.FAILED}
    assert failed
    second = run_sweep(search(notebook, 3, fixed={"seed": 1}), quiet=True)
    again = {s.run for s in second.statuses if s.attempt == 2}
    assert again == failed
