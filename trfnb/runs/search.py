"""Adaptive search with Optuna (extra ``optuna``): proposes runs, learning from those that ended.

What is known of earlier calls comes from the sweep's folder. The study itself lives in a journal
beside it as long as a call lasts, so that each run can report intermediate scores to its trial.
"""

import json
import os
import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trfnb.runs.ledger import Identities, Ledger, Run, State, Status
from trfnb.runs.notebook import read_parameters, source_of
from trfnb.runs.specification import Range, Sweep, completed

if TYPE_CHECKING:
    import optuna

REPEATS = 20
"""How many proposals that are already known are turned down at once."""


class Search:
    """Proposes runs until the trials asked for have ended, well or not.

    Args:
        sweep: with its search.
        ledger: of the sweep's folder.
        identities: of the notebook's runs.
        smoke: lay the sweep's ``smoke`` parameters over all runs.

    Attributes:
        asked: identities of the runs of this search, those of earlier calls included.

    Raises:
        ValueError: Optuna is not installed.
    """

    def __init__(self, sweep: Sweep, ledger: Ledger, identities: Identities, *, smoke: bool):
        if sweep.search is None:
            raise ValueError(f"sweep {sweep.folder_name}: expected the key `search`.")
        self.sweep, self.ledger, self.identities, self.smoke = sweep, ledger, identities, smoke
        self.total, self.metric = sweep.search.trials, sweep.search.metric
        self.asked: set[str] = set()
        self._declared = read_parameters(sweep.notebook)
        # Optuna keeps scalars alone: choices go by their source
        self._space: dict[str, Range | dict[str, Any]] = {
            name: values if isinstance(values, Range) else {source_of(v): v for v in values}
            for name, values in sweep.search.space.items()
        }
        for old in ledger.folder.glob("optuna-*.journal"):
            old.unlink()
        journal = ledger.folder / f"optuna-{secrets.token_hex(4)}.journal"
        chosen = sweep.search.model_dump(include={"metric", "direction", "pruner", "sampler"})
        known = [status for status in ledger.statuses() if status.trial is not None]
        # with the same seed, a resumed search would propose the same runs again
        self._about = chosen | {"journal": str(journal), "seed": len(known)}
        self.study = open_study(self._about)
        self._distributions = {name: _distribution(v) for name, v in self._space.items()}
        self._trials: dict[str, optuna.trial.Trial] = {}
        for status in known:
            self._learn(status)

    def next(self) -> Status | None:
        """Return the next proposal as a run; one that is known already is told at once."""
        for _ in range(REPEATS):
            if len(self.asked) >= self.total:
                break
            trial = self.study.ask(self._distributions)
            run = self._run_of(trial.params)
            (status,) = self.ledger.plan([run], self.identities, list(self._space))
            new = status.identity not in self.asked
            self.asked.add(status.identity)
            if new and not status.state.final:
                status.trial = trial.number
                self._trials[status.run] = trial
                return status
            self._tell(trial, status)
        return None

    def variables(self, status: Status) -> dict[str, Any]:
        """Return what a run must know to report to its trial."""
        return self._about | {"trial": self._trials[status.run]._trial_id}

    def settle(self, status: Status) -> None:
        """Tell the study how a run ended."""
        self._tell(self._trials.pop(status.run), status)

    def _run_of(self, params: Mapping[str, Any]) -> Run:
        row = {
            name: values[params[name]] if isinstance(values, dict) else params[name]
            for name, values in self._space.items()
        }
        return completed(self.sweep, row, self._declared, smoke=self.smoke)[0]

    def _learn(self, status: Status) -> None:
        """Tell the study of a run of an earlier call, or queue it again; others are left out."""
        from optuna.trial import TrialState, create_trial

        value = status.numbers.get(self.metric)
        state = TrialState.PRUNED if status.state is State.PRUNED else TrialState.FAIL
        if status.state is State.DONE and value is not None:
            state = TrialState.COMPLETE
        params = {
            name: (status.given if isinstance(values, dict) else status.parameters).get(name)
            for name, values in self._space.items()
        }
        try:
            trial = create_trial(
                state=state,
                value=value if state is TrialState.COMPLETE else None,
                params=params,
                distributions=self._distributions,
            )
        except ValueError:  # from another space
            return
        if self.identities.of(self._run_of(params).parameters) != status.identity:
            return
        if status.state.final:
            self.asked.add(status.identity)
            self.study.add_trial(trial)
        else:
            self.study.enqueue_trial(params)

    def _tell(self, trial: "optuna.trial.Trial", status: Status) -> None:
        from optuna.trial import TrialState

        value = status.numbers.get(self.metric)
        if status.state is State.PRUNED:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif status.state is State.DONE and value is not None:
            self.study.tell(trial, float(value))
        else:
            self.study.tell(trial, state=TrialState.FAIL)


def open_study(about: Mapping[str, Any]) -> "optuna.Study":
    """Return the study in a journal; a new one where there is none.

    Raises:
        ValueError: Optuna is not installed.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError:
        raise ValueError("A search needs Optuna: run `pip install 'trfnb[optuna]'`.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers, pruners = optuna.samplers, optuna.pruners
    sampler = samplers.TPESampler if about["sampler"] == "tpe" else samplers.RandomSampler
    return optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(about["journal"])),
        sampler=sampler(seed=about["seed"]),
        pruner=pruners.MedianPruner() if about["pruner"] == "median" else pruners.NopPruner(),
        direction=about["direction"],
        load_if_exists=True,
    )


def should_prune(name: str, value: Any, step: int) -> bool:
    """Tell this run's trial an intermediate score and return whether the search gives it up."""
    content = os.environ.get("TRFNB_TRIAL") or "{}"
    about = json.loads(content)
    ours = name == about.get("metric") and isinstance(value, int | float)
    if not ours or not Path(about["journal"]).exists():  # its sweep is over
        return False
    trial = _trial_of(content)
    trial.report(float(value), step)
    return bool(trial.should_prune())


@cache
def _trial_of(content: str) -> "optuna.trial.Trial":
    import optuna

    about = json.loads(content)
    return optuna.trial.Trial(open_study(about), about["trial"])


def _distribution(values: Range | dict[str, Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, dict):
        return CategoricalDistribution(list(values))
    whole = isinstance(values.low, int) and isinstance(values.high, int)
    return (IntDistribution if whole else FloatDistribution)(values.low, values.high, values.log)
