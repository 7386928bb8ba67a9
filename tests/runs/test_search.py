"""A search tells its trials, prunes, resumes, and ends whatever its runs record."""

import pytest

from trfnb.runs.ledger import State
from trfnb.runs.specification import Sweep
from trfnb.runs.sweep import Outcome, run_sweep

pytest.importorskip("optuna")

CELL = """import trfnb
for step in range(2):
    trfnb.record("f1", rate - 0.1, step=step)
if seed == 1 and rate > 0.5:
    raise ValueError("fragile")
trfnb.record("loss" if seed == 2 else "f1", float("nan") if seed == 3 else rate)"""


def search(notebook, trials: int, **fixed: object) -> Outcome:
    about = {
        "metric": "f1",
        "trials": trials,
        "space": {"rate": {"low": 0.0, "high": 1.0}},
        "pruner": {"name": "threshold", "lower": 0.05},
        "sampler": {"name": "random", "seed": 2},
    }
    return run_sweep(Sweep(notebook, search=about, jobs=2, fixed=fixed))


def test_trials_are_told_pruned_and_resumed(make_notebook) -> None:
    notebook = make_notebook(CELL)
    outcome = search(notebook, 4)
    assert outcome.complete
    assert sorted(s.trial for s in outcome.statuses) == [0, 1, 2, 3]
    states = {s.parameters["rate"] < 0.15: s.state for s in outcome.statuses}
    assert states == {True: State.PRUNED, False: State.DONE}  # seed 2 draws 0.026 among the four
    ended = {s.run: s.ended for s in outcome.statuses}
    more = search(notebook, 5)
    assert len(more.statuses) == 5
    assert {s.run: s.ended for s in more.statuses}.items() >= ended.items()


def test_a_failed_trial_is_run_again_by_the_next_call(make_notebook) -> None:
    notebook = make_notebook(CELL)
    first = search(notebook, 3, seed=1)
    failed = {s.run for s in first.statuses if s.state is State.FAILED}
    assert failed
    second = search(notebook, 3, seed=1)
    assert {s.run for s in second.statuses if s.attempt == 2} == failed


@pytest.mark.parametrize(
    ("seed", "note"),
    [
        (2, "recorded nothing under `f1`; they recorded `loss`."),
        (3, "recorded NaN under `f1`; they recorded no other number."),
    ],
)
def test_a_metric_that_never_comes_ends_the_search(make_notebook, seed: int, note: str) -> None:
    notebook = make_notebook(CELL.replace("rate - 0.1", "1.0"))
    for _ in range(2):  # the second call has nothing left to run, and says so again
        outcome = search(notebook, 2, seed=seed)
        assert [s.attempt for s in outcome.statuses] == [1, 1]
        assert not outcome.complete
        assert outcome.notes == [f"search: 2 of 2 runs {note}"]
