"""Adaptive search with Optuna over a notebook's parameters (extra ``optuna``).

``search`` of a sweep holds ``metric``, ``direction`` (maximize), ``trials``, ``space`` (see
:mod:`trfnb.runs.distributions`), ``sampler`` and ``pruner`` (a name, or a mapping with ``name``
and its options). The study lives in ``optuna.journal`` in the sweep's folder.
"""

import json
import os
from collections import deque
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trfnb.runs.distributions import Distribution
from trfnb.runs.expansion import complete
from trfnb.runs.identity import digest_of
from trfnb.runs.ledger import changed
from trfnb.runs.search_options import PRUNERS, SAMPLERS
from trfnb.runs.status import State, Status
from trfnb.runs.table import flat

if TYPE_CHECKING:
    import optuna

    from trfnb.runs.sweep import Prepared

VARIABLE = "TRFNB_TRIAL"
JOURNAL = "optuna.journal"
REPEATS = 20
"""How many proposals that are already under way are turned down at once."""


class Search:
    """A source of runs that learns from those that ended."""

    def __init__(self, checked: "Prepared"):
        self.checked, self.search = checked, checked.sweep.search
        self.metric, self.total = str(self.search["metric"]), int(self.search["trials"])
        self.space = {n: Distribution.read(n, d) for n, d in self.search["space"].items()}
        self.study = open_study(self._about(), create=True)
        self._trials: dict[str, optuna.trial.Trial] = {}
        self._again: deque[Status] = deque()
        self._failed = 0
        self._reconcile()

    def _about(self) -> dict[str, Any]:
        checked, search = self.checked, self.search
        first = complete(checked.sweep, {}, smoke=checked.smoke)
        fixed = {name: value for name, value in first.items() if name not in search["space"]}
        parts = [fixed, checked.identities.notebook, checked.identities.version]
        parts += [checked.identities.data(fixed), search["space"], search["metric"]]
        return {
            "journal": str(checked.ledger.folder / JOURNAL),
            "study": f"{checked.sweep.name}-{digest_of(parts)[:10]}",
            "metric": search["metric"],
            "direction": search.get("direction", "maximize"),
            "sampler": search.get("sampler", "tpe"),
            "pruner": search.get("pruner", "none"),
        }

    def _reconcile(self) -> None:
        """Tell the study what it missed, and queue again what has no result."""
        identities = self.checked.identities
        earlier = [s for s in self.checked.ledger.statuses() if not changed(s, identities)]
        known = {status.trial: status for status in earlier}
        for trial in self.study.get_trials(deepcopy=False):
            status = known.get(trial.number)
            if trial.state.name == "RUNNING":
                self._tell(trial.number, status)
        for trial in self.study.get_trials(deepcopy=False):
            mark = f"again-{trial.number}"
            if trial.state.name == "FAIL" and trial.params and mark not in self.study.user_attrs:
                self.study.enqueue_trial(trial.params)
                self.study.set_user_attr(mark, True)

    def _ended(self) -> int:
        states = [trial.state.name for trial in self.study.get_trials(deepcopy=False)]
        return states.count("COMPLETE") + states.count("PRUNED")

    def next(self) -> Status | None:
        """Return the next proposal as a run; one that is known already is told at once."""
        if self._again:
            return self._again.popleft()
        for _ in range(REPEATS):
            if self._ended() + len(self._trials) + self._failed >= self.total:
                break
            trial = self.study.ask()
            row = {name: _suggest(trial, name, d) for name, d in self.space.items()}
            full = complete(self.checked.sweep, row, smoke=self.checked.smoke)
            plan = self.checked.ledger.plan([full], self.checked.identities, list(self.space))
            status = plan.statuses[0]
            if status.state.final or status.run in self._trials:
                self._tell(trial.number, status)
                continue
            status.trial = trial.number
            self._trials[status.run] = trial
            return status
        return None

    def variables(self, status: Status) -> dict[str, str]:
        """Return what a run must know to report to its trial."""
        trial = self._trials.get(status.run)
        if trial is None:
            return {}
        return {VARIABLE: json.dumps(self._about() | {"trial": trial._trial_id})}

    def settle(self, status: Status) -> None:
        """Tell the study how a run ended."""
        if self._trials.pop(status.run, None) is not None and status.trial is not None:
            self._tell(status.trial, status)
            self._failed += status.state.bad

    def again(self, status: Status) -> None:
        """Put a run back; it keeps its trial."""
        self._again.append(status)

    def _tell(self, number: int, status: Status | None) -> None:
        import optuna

        states = optuna.trial.TrialState
        value = flat(status.metrics).get(self.metric) if status else None
        if status and status.state is State.PRUNED:
            self.study.tell(number, state=states.PRUNED)
        elif status and status.state is State.DONE and isinstance(value, int | float):
            self.study.tell(number, float(value))
        else:
            self.study.tell(number, state=states.FAIL)


def open_study(about: Mapping[str, Any], *, create: bool = False) -> "optuna.Study":
    """Return a study in its journal.

    Raises:
        ValueError: Optuna is missing, or a sampler's or pruner's options are wrong.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError:
        raise ValueError("A search needs Optuna: run `pip install 'trfnb[optuna]'`.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(about["journal"])))
    pruner = _made(optuna.pruners, "Pruner", PRUNERS, about["pruner"])
    if not create:
        return optuna.load_study(study_name=about["study"], storage=storage, pruner=pruner)
    study = optuna.create_study(
        study_name=about["study"],
        storage=storage,
        pruner=pruner,
        direction=about["direction"],
        load_if_exists=True,
    )
    sampler = about["sampler"]
    if isinstance(sampler, Mapping) and isinstance(sampler.get("seed"), int):
        # taken up again with the same seed, it would propose the same runs again
        sampler = {**sampler, "seed": sampler["seed"] + len(study.get_trials(deepcopy=False))}
    study.sampler = _made(optuna.samplers, "Sampler", SAMPLERS, sampler)
    return study


def _made(module: Any, suffix: str, names: Mapping[str, str], choice: Any) -> Any:
    options = dict(choice) if isinstance(choice, Mapping) else {"name": choice}
    name = options.pop("name")
    try:
        return getattr(module, names[name] + suffix)(**options)
    except TypeError as error:
        raise ValueError(f"search: {name} {suffix.lower()}: {error}.") from None


def _suggest(trial: "optuna.trial.Trial", name: str, values: Distribution) -> Any:
    if values.choices:
        return trial.suggest_categorical(name, values.choices)
    if values.integer:
        step = int(values.step or 1)
        return trial.suggest_int(name, int(values.low), int(values.high), step=step, log=values.log)
    return trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)


@cache
def _trial_of(content: str) -> tuple["optuna.trial.Trial", str]:
    import optuna

    about = json.loads(content)
    study = open_study(about)
    return optuna.trial.Trial(study, about["trial"]), about["metric"]


def report(name: str, value: Any, step: int) -> bool:
    """Tell this run's trial an intermediate score and return whether the search gives it up."""
    content = os.environ.get(VARIABLE, "")
    if not content or not Path(json.loads(content)["journal"]).exists():
        return False
    trial, metric = _trial_of(content)
    if name != metric or not isinstance(value, int | float):
        return False
    trial.report(float(value), step)
    return bool(trial.should_prune())
