"""A search tells its trials, resumes, and ends whatever its runs record."""

import pytest

from trfnb.runs.ledger import Identities, Ledger, State
from trfnb.runs.search import Search
from trfnb.runs.specification import Sweep
from trfnb.runs.sweep import Outcome, run_sweep

pytest.importorskip("optuna")

CELL = """import trfnb
if seed == 1 and rate > 0.5:
    raise ValueError("fragile")
trfnb.record("loss" if seed == 2 else "f1", float("nan") if seed == 3 else rate)"""
SPACE = {"rate": {"low": 0.0, "high": 1.0}, "mode": ["a", "b"]}


def search(notebook, trials: int, **fixed: object) -> Outcome:
    about = {"metric": "f1", "trials": trials, "space": SPACE, "sampler": "random"}
    return run_sweep(Sweep(notebook, search=about, jobs=2, fixed=fixed))


def test_a_search_learns_resumes_and_runs_failed_trials_again(make_notebook) -> None:
    notebook = make_notebook(CELL)
    first = search(notebook, 3, seed=1)
    failed = {s.run for s in first.statuses if s.state is State.FAILED}
    assert len(first.statuses) == 3
    assert {s.run for s in first.statuses if s.parameters["rate"] > 0.5} == failed
    assert 0 < len(failed) < 3
    second = search(notebook, 4, seed=1)
    assert len(second.statuses) == 4
    assert {s.run for s in second.statuses if s.attempt == 2} == failed
    ended = {s.run: s.ended for s in second.statuses}
    assert all(ended[s.run] == s.ended for s in first.statuses if s.run not in failed)


def test_a_proposal_that_repeats_a_run_under_way_leaves_it_alone(tiny, tmp_path) -> None:
    about = {"metric": "f1", "trials": 2, "space": {"mode": ["a", "b"]}, "sampler": "random"}
    ledger = Ledger(tmp_path / "sweep")
    made = Search(Sweep(tiny, search=about), ledger, Identities(tiny, []), smoke=False)
    asked = iter([{"mode": "'a'"}, {"mode": "'a'"}, {"mode": "'b'"}])
    ask = made.study.ask

    def proposed(distributions):
        made.study.enqueue_trial(next(asked))
        return ask(distributions)

    made.study.ask = proposed
    runs = [made.next(), made.next()]
    assert [status.parameters["mode"] for status in runs] == ["a", "b"]
    for score, status in enumerate(runs):
        status.state, status.metrics = State.DONE, {"f1": score}
        made.settle(status)
    assert made.study.best_value == 1
    assert made.next() is None


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_later_call_learns_from_the_folder(tiny, tmp_path, sampler: str) -> None:
    about = {"metric": "f1", "trials": 9, "space": SPACE, "sampler": sampler}
    (tmp_path / "sweep").mkdir()
    ledger = Ledger(tmp_path / "sweep")
    made = Search(Sweep(tiny, search=about), ledger, Identities(tiny, []), smoke=False)
    proposed = []
    for score in (3.0, 8.0, float("nan"), 1.0):
        status = made.next()
        status.state, status.metrics = State.DONE, {} if score != score else {"f1": score}
        ledger.home(status).mkdir(parents=True)
        status.write(ledger.home(status))
        made.settle(status)
        proposed.append(status.parameters["rate"])
    assert made.study.best_value == 8.0
    again = Search(Sweep(tiny, search=about), ledger, Identities(tiny, []), smoke=False)
    assert again.asked == made.asked
    assert again.study.best_params["rate"] == proposed[1]
    assert again.next().parameters["rate"] not in proposed
    for other in ({"rate": [5.0, 6.0]}, {"mode": ["a", "b"]}):
        sweep = Sweep(tiny, search=about | {"space": other})
        assert not Search(sweep, ledger, Identities(tiny, []), smoke=False).asked


@pytest.mark.parametrize(
    ("seed", "note"),
    [
        (2, "recorded nothing under `f1`; they recorded `loss`."),
        (3, "recorded NaN under `f1`; they recorded no other number."),
    ],
)
def test_a_metric_that_never_comes_ends_the_search(make_notebook, seed: int, note: str) -> None:
    notebook = make_notebook(CELL)
    for _ in range(2):  # the second call has nothing left to run, and says so again
        outcome = search(notebook, 1, seed=seed)
        assert [s.attempt for s in outcome.statuses] == [1]
        assert not outcome.complete
        assert outcome.notes == [f"search: 1 of 1 runs {note}"]
