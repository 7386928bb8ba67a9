"""Train while someone turns the factors: start, pause, move, stop; then export and replay."""

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from spacy.language import Language
from spacy.util import registry
from thinc.api import Config

from trfnb.experiments.configs import listeners_in
from trfnb.experiments.training import HasExamples, Trained, train
from trfnb.flow.grad_factor import GradFactor
from trfnb.flow.gradients import GradientLog

BALANCE = "balance"


class Turns:
    """A lock that is had in the order it was asked for: whoever gives it up waits behind others."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked = self._served = 0

    def __enter__(self) -> None:
        with self._changed:
            mine = self._asked
            self._asked += 1
            self._changed.wait_for(lambda: self._served == mine)

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._served += 1
            self._changed.notify_all()


# Dropout and shuffling draw from generators that the whole process shares. Only the tuner whose
# turn it is computes, with its own generators' state: on a CPU each run can be repeated exactly,
# also when several train side by side.
_TURN = Turns()


@dataclass(frozen=True)
class Move:
    """A change of a factor.

    Attributes:
        step: Updates made before it acts.
        task: Whose factor, or ``"balance"`` for the policy.
        value: A number, a schedule block or ``"auto"``; for the policy its block, or None.
    """

    step: int
    task: str
    value: Any


class Tuner:
    """A training whose factors may be moved between two updates, from another thread.

    Args:
        config: A complete config whose tasks share an encoder or tok2vec; it is not changed.
        corpus: Trained and scored on.

    Attributes:
        tasks: The tasks whose factor can be moved.
        settings: Each task's factor as last set, and the policy under ``"balance"`` if it was set.
        history: The rows of `trfnb.experiments.training.Trained.history` so far.
        moves: Every change, in order; of several before one update the last acts.
        log: Factors and gradients at the shared output, one `Step` per update.
        trained: The result, once ended; None if it was stopped before the first update.
        error: What ended a failed training.

    Raises:
        ValueError: No task of the config listens.
    """

    def __init__(self, config: Config, corpus: HasExamples) -> None:
        self.config, self.corpus = config.copy(), corpus
        # Thinc's device is a context variable, which new threads and a widget's callbacks lack.
        self._context = copy_context()
        blocks = listener_blocks(self.config)
        self.tasks = tuple(blocks)
        self.settings = {task: block["grad_factor"] for task, block in blocks.items()}
        self._reset()

    def _reset(self) -> None:
        self.history: list[dict[str, Any]] = []
        self.moves: list[Move] = []
        self.log = GradientLog()
        self.trained: Trained | None = None
        self.error: BaseException | None = None
        self._waiting: deque[tuple[str, Any]] = deque()  # its methods need no lock
        self._may_run = threading.Event()
        self._may_run.set()
        self._stop = False
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether the thread of the training lives."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def state(self) -> str:
        """``"ready"``, ``"running"``, ``"paused"``, ``"stopping"``, ``"ended"`` or ``"failed"``."""
        if self._thread is None:
            return "ready"
        if not self.busy:
            return "failed" if self.error else "ended"
        if self._stop:
            return "stopping"
        return "running" if self._may_run.is_set() else "paused"

    @property
    def eta(self) -> float | None:
        """Seconds of updates left until ``max_steps``; None where the pace or end is unknown."""
        total, made = int(self.config["training"]["max_steps"]), len(self.history)
        spent = sum(row["seconds"] for row in self.history)
        return spent / made * max(total - made, 0) if total and made else None

    def set(self, task: str, value: Any) -> None:
        """Move a factor; it acts at the next update.

        Args:
            task: One of `tasks`, or ``"balance"`` to set the policy that ``"auto"`` follows.
            value: A number, a schedule block (its first step is that update), or ``"auto"``; for
                the policy its block, or None for no policy.

        Raises:
            ValueError: There is no such task, or the value is not finite.
            TypeError: The value is not a factor.
        """
        if task not in (*self.tasks, BALANCE):
            raise ValueError(f"A move expected a task of {[*self.tasks, BALANCE]}, got {task!r}.")
        resolved = _resolved(value)  # an error belongs to who moves, not to the training
        if task != BALANCE:
            GradFactor(resolved)
        self.settings[task] = value
        self._waiting.append((task, value))

    def start(self, script: Sequence[Move] = ()) -> None:
        """Train in a thread of its own, or go on after a pause.

        After the end it trains again from the first update, with the factors as they stand.

        Args:
            script: Moves to make at their steps.
        """
        if self.busy:
            self._may_run.set()
            return
        if self._thread is not None:
            self._reset()
            self._waiting.extend(self.settings.items())
        run = self._context.copy().run
        self._thread = threading.Thread(target=run, args=(self._train, script), daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Wait before the next update."""
        if self.state == "running":
            self._may_run.clear()

    def stop(self) -> None:
        """End the training before the next update; what was reached is evaluated."""
        if self.busy:
            self._stop = True
            self._may_run.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the training has ended; raise what ended it, if it failed."""
        if self._thread is not None:
            self._thread.join(timeout)
        if self.error is not None:
            raise self.error

    def run(
        self, script: Sequence[Move] = (), follow: Callable[[], None] = lambda: None
    ) -> Trained:
        """Wait for the end of the training; it starts here unless someone started it before.

        Args:
            script: Moves to make at their steps, where it starts here.
            follow: Called a few times per second meanwhile, and once after the end.

        Raises:
            RuntimeError: It was stopped before the first update.
        """
        if self.state in ("ready", "paused"):
            self.start(script)
        try:
            while self.busy:
                follow()
                self.join(0.2)
            self.join()
        finally:
            self.stop()  # where this wait was interrupted
            follow()
        if self.trained is None:
            raise RuntimeError(
                "Tuner.run expected at least one update, but the training was stopped before it. "
                "Start it again."
            )
        return self.trained

    def export_config(self) -> Config:
        """Return a config that trains this very run again, as far as it came."""
        return tuned_config(self.config, **self.export_parameters()["tuned"])

    def export_parameters(self) -> dict[str, Any]:
        """Return the notebook parameters that train this very run again (see `tuned_config`)."""
        return {"tuned": {"factors": schedules_of(self.log), "updates": len(self.log.steps)}}

    def _train(self, script: Sequence[Move]) -> None:
        def before_step(nlp: Language, made: int) -> bool:
            for move in script:
                if move.step == made:
                    self.set(move.task, move.value)
            self._wait_for_turn()
            self._apply(nlp, made)
            return not self._stop

        try:
            with _TURN:
                self.trained = train(
                    self.config,
                    self.corpus,
                    progress=False,
                    on_step=self.history.append,
                    before_step=before_step,
                )
        except BaseException as error:
            if self.history or not self._stop:
                self.error = error

    # Let other tuners train while this one waits; keep the generators' state meanwhile.
    def _wait_for_turn(self) -> None:
        with kept_random_state():
            _TURN.__exit__()
            try:
                self._may_run.wait()
            finally:
                _TURN.__enter__()

    def _apply(self, nlp: Language, made: int) -> None:
        shared: Any = next(
            pipe for _, pipe in nlp.pipeline if self.tasks[0] in getattr(pipe, "listener_map", ())
        )
        self.log = shared.gradient_log
        while self._waiting:
            task, value = self._waiting.popleft()
            if task == BALANCE:
                shared.balance = _resolved(value)
            else:
                for layer in shared.listener_map[task]:
                    layer.grad_factor = _resolved(value)
            self.moves.append(Move(made, task, value))


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Put the state of the process's random generators back at the end, whatever drew from them."""
    drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])  # noqa: NPY002
        torch.set_rng_state(drawn[2])


def presets(tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return settings of all factors at once, by name, for `Tuner.set` one by one."""
    rise = {"@schedules": "trfnb.frozen_then_warmup.v1", "frozen": 50, "warmup": 50}
    automatic = dict.fromkeys(tasks, "auto")
    policies = ("equal_norms", "uncertainty", "upgrad", "pcgrad")
    return {
        "all at 1": dict.fromkeys(tasks, 1.0),
        "all at 0: frozen": dict.fromkeys(tasks, 0.0),
        "only the first task": {task: float(task == tasks[0]) for task in tasks},
        "frozen for 50 updates, then up": dict.fromkeys(tasks, rise),
        **{
            f"policy: {policy}": {BALANCE: {"@balancers": f"trfnb.{policy}.v1"}, **automatic}
            for policy in policies
        },
    }


def listener_blocks(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each component's listener block, by the component's name; the blocks themselves.

    Raises:
        ValueError: No component listens.
    """
    listeners = {
        name: block
        for name, component in config["components"].items()
        for block in listeners_in(component)
        if "grad_factor" in block
    }
    if not listeners:
        raise ValueError(
            f"Expected a config with listeners that have a grad_factor, got the components "
            f"{list(config['components'])} without any. Build it with sharing='shared'."
        )
    return listeners


def schedules_of(log: GradientLog) -> dict[str, dict[str, Any]]:
    """Write each listener's effective factors as a block of a piecewise constant schedule.

    Raises:
        ValueError: There is no step yet, or a policy chose several factors within one step.
    """
    if not log.steps:
        raise ValueError("No factors to export: expected at least one training step, got none.")
    if varied := [number for number, step in enumerate(log.steps, 1) if step.varied]:
        raise ValueError(
            f"The factors of {len(varied)} steps (first: {varied[0]}) differ between the parts of "
            "one accumulated batch, and a schedule has one per step. Keep the policy in the config "
            "instead, or train with accumulate_gradient = 1."
        )
    schedules = {}
    for name, factors in zip(
        log.steps[0].listeners, np.array([s.factors for s in log.steps]).T, strict=True
    ):
        starts = [0, *(np.flatnonzero(np.diff(factors)) + 1).tolist()]
        schedules[name] = {
            "@schedules": "trfnb.piecewise_constant.v1",
            "starts": starts,
            "factors": factors[starts].tolist(),
        }
    return schedules


def tuned_config(
    config: Config, factors: Mapping[str, Mapping[str, Any]], updates: int = 0
) -> Config:
    """Put a tuned run's factors into its config; they take the place of a policy.

    Args:
        config: The config that was tuned; it is not changed.
        factors: A schedule block per task, as `schedules_of` writes them.
        updates: Where the tuned run ended; 0 leaves the config's own limits.

    Raises:
        ValueError: Names all tasks that the config lacks.
    """
    tuned = config.copy()
    blocks = listener_blocks(tuned)
    if unknown := [task for task in factors if task not in blocks]:
        raise ValueError(f"Factors expected tasks of {list(blocks)}, got unknown {unknown}.")
    for task, factor in factors.items():
        blocks[task]["grad_factor"] = dict(factor)
    for component in tuned["components"].values():
        if "balance" in component:
            component["balance"] = None
    if updates:
        tuned["training"]["max_steps"] = updates
    return tuned


def _resolved(value: Any) -> Any:
    return (
        registry.resolve({"value": dict(value)})["value"] if isinstance(value, Mapping) else value
    )
