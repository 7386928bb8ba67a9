"""Adaptive search with Optuna (extra ``optuna``): proposes runs, learning from those that ended.

What is known of earlier calls comes from the sweep's folder; the study lives in memory.
"""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from trfnb.runs.ledger import Identities, Ledger, Run, State, Status
from trfnb.runs.notebook import read_parameters, source_of
from trfnb.runs.specification import Range, Sweep, completed

# How many proposals that are already known are turned down at once.
REPEATS = 20


class Search:
    """Proposes runs until the trials asked for have ended, well or not.

    Args:
        sweep: with its search.
        ledger: of the sweep's folder.
        identities: of the notebook's runs.
        smoke: lay the sweep's ``smoke`` parameters over all runs.

    Attributes:
        asked: identities of the runs of this search, those of earlier calls included.
    """

    def __init__(self, sweep: Sweep, ledger: Ledger, identities: Identities, *, smoke: bool):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        settings: Any = sweep.search
        self.sweep, self.ledger, self.identities, self.smoke = sweep, ledger, identities, smoke
        self.total, self.metric, self.space = settings.trials, settings.metric, settings.space
        self.asked: set[str] = set()
        self._declared = read_parameters(sweep.notebook)
        # Optuna keeps scalars alone: choices go by their source.
        self._choices = {
            name: {source_of(value): value for value in values}
            for name, values in self.space.items()
            if not isinstance(values, Range)
        }
        self._distributions: dict[str, Any] = {
            name: CategoricalDistribution(list(self._choices[name]))
            if name in self._choices
            else _numbers(values)
            for name, values in self.space.items()
        }
        self._trials: dict[str, Any] = {}
        known = [status for status in ledger.statuses() if status.trial is not None]
        samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        self.study = optuna.create_study(
            # with the same seed, a resumed search would propose the same runs again
            sampler=samplers[settings.sampler](seed=len(known)),
            direction=settings.direction,
        )
        for status in known:
            self._learn(status)

    def next(self) -> Status | None:
        """Return the next proposal as a run; one that is known already is told at once."""
        for _ in range(REPEATS):
            if len(self.asked) >= self.total:
                break
            trial = self.study.ask(self._distributions)
            proposed = [self._run_of(trial.params)]
            (status,) = self.ledger.plan(proposed, self.identities, list(self.space))
            new = status.identity not in self.asked
            self.asked.add(status.identity)
            if new and status.state is not State.DONE:
                status.trial, self._trials[status.run] = trial.number, trial
                return status
            # of a run under way: that nothing came of this proposal
            self.study.tell(trial, *self._value(status))
        return None

    def settle(self, status: Status) -> None:
        """Tell the study how a run ended."""
        self.study.tell(self._trials.pop(status.run), *self._value(status))

    def _value(self, status: Status) -> tuple[float | None, Any]:
        value = status.numbers.get(self.metric) if status.state is State.DONE else None
        return value, TrialState.FAIL if value is None else TrialState.COMPLETE

    def _run_of(self, params: Mapping[str, Any]) -> Run:
        chosen = {name: values[params[name]] for name, values in self._choices.items()}
        return completed(self.sweep, {**params, **chosen}, self._declared, smoke=self.smoke)[0]

    def _learn(self, status: Status) -> None:
        value, state = self._value(status)
        params = {
            name: (status.given if name in self._choices else status.parameters).get(name)
            for name in self.space
        }
        try:
            trial = create_trial(
                state=state, value=value, params=params, distributions=self._distributions
            )
        except ValueError:  # from another space
            return
        if self.identities.of(self._run_of(params).parameters) != status.identity:
            return
        if status.state is State.DONE:
            self.asked.add(status.identity)
            self.study.add_trial(trial)
        else:
            self.study.enqueue_trial(params)


def _numbers(values: Range) -> Any:
    whole = isinstance(values.low, int) and isinstance(values.high, int)
    kind: Any = IntDistribution if whole else FloatDistribution
    return kind(values.low, values.high, values.log)
