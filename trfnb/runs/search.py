"""Adaptive search with Optuna (extra ``optuna``): proposes runs, learning from those that ended.

The study lives in ``optuna.journal`` in the sweep's folder; each run reports to its own trial.
"""

import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trfnb.runs.ledger import Identities, Ledger, Run, State, Status, changed
from trfnb.runs.notebook import source_of
from trfnb.runs.specification import Range, Sweep

if TYPE_CHECKING:
    import optuna

VARIABLE = "TRFNB_TRIAL"
REPEATS = 20
"""How many proposals that are already known are turned down at once."""
_SUFFIXED = {
    "tpe": "TPE",
    "random": "Random",
    "qmc": "QMC",
    "gp": "GP",
    "cmaes": "CmaEs",
    "none": "Nop",
    "halving": "SuccessiveHalving",
}


class Search:
    """Proposes runs until the trials asked for have ended, well or not.

    Args:
        sweep: with its search.
        ledger: of the sweep's folder.
        identities: of the notebook's runs.
        complete: makes a run of the parameters that are searched for.
    """

    def __init__(
        self,
        sweep: Sweep,
        ledger: Ledger,
        identities: Identities,
        complete: Callable[[Mapping[str, Any]], Run],
    ):
        if sweep.search is None:
            raise ValueError(f"sweep {sweep.folder_name}: expected the key `search`.")
        self.search, self.ledger, self.identities = sweep.search, ledger, identities
        self.complete, self.total = complete, sweep.search.trials
        self.space, self.metric = sweep.search.space, sweep.search.metric
        fixed = {n: v for n, v in complete({}).parameters.items() if n not in self.space}
        about = sweep.search.model_dump(mode="json")
        named = json.dumps([identities.of(fixed), about["space"], self.metric])
        self._about = about | {"journal": str(ledger.folder / "optuna.journal"), "study": named}
        self.study = open_study(self._about, create=True)
        self._trials: dict[str, optuna.trial.Trial] = {}
        notebook, version = identities.notebook, identities.version
        data = identities.data(fixed)
        known = [s for s in ledger.statuses() if not changed(s, notebook, version, data)]
        # neither a failed run nor one without the metric ends as a trial; both have had their turn
        self._without = sum(s.state.final and not self._value(s) for s in known)
        self._catch_up({s.trial: s for s in known if s.trial is not None})

    def next(self) -> Status | None:
        """Return the next proposal as a run; one that is known already is told at once."""
        for _ in range(REPEATS):
            ended = [t.state.name for t in self.study.get_trials(deepcopy=False)]
            ended = [name for name in ended if name in {"COMPLETE", "PRUNED"}]
            if len(ended) + len(self._trials) + self._without >= self.total:
                break
            trial = self.study.ask()
            run = self.complete({n: _suggest(trial, n, values) for n, values in self.space.items()})
            (status,) = self.ledger.plan([run], self.identities, list(self.space))
            if status.state.final or status.run in self._trials:
                self._tell(trial.number, status)
                continue
            status.trial = trial.number
            self._trials[status.run] = trial
            return status
        return None

    def variables(self, status: Status) -> dict[str, str]:
        """Return what a run must know to report to its trial."""
        trial = self._trials[status.run]
        return {VARIABLE: json.dumps(self._about | {"trial": trial._trial_id})}

    def settle(self, status: Status) -> None:
        """Tell the study how a run ended."""
        self._tell(self._trials.pop(status.run).number, status)
        self._without += not self._value(status)

    def _value(self, status: Status) -> dict[str, Any]:
        """Return what to tell the study of a run; empty when it has nothing to say."""
        if status.state is State.PRUNED:
            return {"state": status.state.upper()}
        value = status.numbers.get(self.metric)
        return {} if value is None or status.state is not State.DONE else {"values": float(value)}

    def _tell(self, number: int, status: Status | None) -> None:
        from optuna.trial import TrialState

        told = self._value(status) if status else {}
        if "values" in told:
            self.study.tell(number, told["values"])
        else:
            self.study.tell(number, state=TrialState[told.get("state", "FAIL")])

    def _catch_up(self, known: Mapping[int, Status]) -> None:
        """Tell the study what it missed, and queue again what failed."""
        for trial in self.study.get_trials(deepcopy=False):
            status = known.get(trial.number)
            if trial.state.name == "RUNNING":
                self._tell(trial.number, status)
        for trial in self.study.get_trials(deepcopy=False):
            status, mark = known.get(trial.number), f"again-{trial.number}"
            failed = trial.state.name == "FAIL" and not (status and status.state.final)
            if failed and trial.params and mark not in self.study.user_attrs:
                self.study.enqueue_trial(trial.params)
                self.study.set_user_attr(mark, True)


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
    storage = JournalStorage(JournalFileBackend(about["journal"]))
    pruner = _made(optuna.pruners, "Pruner", about["pruner"])
    if not create:
        return optuna.load_study(study_name=about["study"], storage=storage, pruner=pruner)
    study = optuna.create_study(
        study_name=about["study"],
        storage=storage,
        pruner=pruner,
        direction=about["direction"],
        load_if_exists=True,
    )
    sampler = dict(about["sampler"])
    if isinstance(sampler.get("seed"), int):
        # resumed with the same seed, it would propose the same runs again
        sampler["seed"] += len(study.get_trials(deepcopy=False))
    study.sampler = _made(optuna.samplers, "Sampler", sampler)
    return study


def should_prune(name: str, value: Any, step: int) -> bool:
    """Tell this run's trial an intermediate score and return whether the search gives it up."""
    content = os.environ.get(VARIABLE, "")
    if not content or not Path(json.loads(content)["journal"]).exists():
        return False
    trial, metric = _trial_of(content)
    if name != metric or not isinstance(value, int | float):
        return False
    trial.report(float(value), step)
    return bool(trial.should_prune())


@cache
def _trial_of(content: str) -> tuple["optuna.trial.Trial", str]:
    import optuna

    about = json.loads(content)
    return optuna.trial.Trial(open_study(about), about["trial"]), about["metric"]


def _made(module: Any, suffix: str, options: Mapping[str, Any]) -> Any:
    name = options["name"]
    make = getattr(module, _SUFFIXED.get(name, name.title()) + suffix)
    try:
        return make(**{key: value for key, value in options.items() if key != "name"})
    except TypeError as error:
        raise ValueError(f"search: {name} {suffix.lower()}: {error}.") from None


def _suggest(trial: "optuna.trial.Trial", name: str, values: Any) -> Any:
    if not isinstance(values, Range):  # Optuna keeps scalars alone: choose by their source
        choices = {source_of(value): value for value in values}
        return choices[trial.suggest_categorical(name, list(choices))]
    low, high = values.low, values.high
    if isinstance(low, int) and isinstance(high, int):
        step = int(values.step or 1)
        return trial.suggest_int(name, low, high, step=step, log=values.log)
    return trial.suggest_float(name, low, high, step=values.step, log=values.log)
