"""Train while someone turns the factors: start, pause, move, stop; then export and replay."""

import threading
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Literal

import pandas as pd
from spacy.language import Language
from spacy.util import registry
from thinc.api import Config

from trfnb.experiments.replay import listener_blocks, schedules_of, tuned_config
from trfnb.experiments.training import HasExamples, Trained, train
from trfnb.flow.grad_factor import GradFactor
from trfnb.flow.gradient_log import GradientLog

State = Literal["ready", "running", "paused", "ended", "failed"]
Value = float | str | Mapping[str, Any]
POLICY = "balance"


@dataclass(frozen=True)
class Move:
    """A change of a factor.

    Attributes:
        step: Updates made before it acts.
        task: Whose factor, or ``"balance"`` for the policy.
        value: A number, a schedule block, ``"auto"``; or a policy's block.
        seconds: Since the start.
    """

    step: int
    task: str
    value: Any
    seconds: float = 0.0


class Tuner:
    """A training whose factors may be moved between two updates, from another thread.

    Args:
        config: A complete config whose tasks listen to one body; it is not changed.
        corpus: Trained and scored on.

    Attributes:
        state: Where it is.
        history: The rows of `trfnb.experiments.training.Trained.history` so far.
        moves: Every change, in order; of several before one update the last acts.
        trained: The result, once ended; None if it was stopped before the first update.
        error: What ended a failed training.

    Raises:
        ValueError: no task of the config listens.
    """

    def __init__(self, config: Config, corpus: HasExamples) -> None:
        self.config = config.copy()
        self.corpus = corpus
        self.start_values: dict[str, Any] = {
            task: block["grad_factor"] for task, block in listener_blocks(self.config).items()
        }
        self.state: State = "ready"
        self.history: list[dict[str, Any]] = []
        self.moves: list[Move] = []
        self.trained: Trained | None = None
        self.error: BaseException | None = None
        self._log = GradientLog()
        self._waiting: list[tuple[str, Any]] = []
        self._lock = threading.Lock()
        self._may_run = threading.Event()
        self._may_run.set()
        self._stop = False
        self._thread: threading.Thread | None = None
        self._started = 0.0

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks whose factor can be moved."""
        return tuple(self.start_values)

    @property
    def log(self) -> GradientLog:
        """What met at the shared output so far."""
        return self._log

    # -- steering ---------------------------------------------------------------------------

    def set(self, task: str, value: Value) -> None:
        """Move a factor; it acts at the next update.

        Args:
            task: One of `tasks`, or ``"balance"`` to set the policy that "auto" follows.
            value: A number, a schedule block (its first step is that update), or ``"auto"``; for
                the policy its block.

        Raises:
            ValueError: there is no such task, or the value is not finite.
            TypeError: the value is no factor.
        """
        if task not in (*self.tasks, POLICY):
            raise ValueError(f"A move expected a task of {[*self.tasks, POLICY]}, got {task!r}.")
        if task != POLICY:
            GradFactor(_resolved(value))  # an error belongs to the mover, not to the training
        elif value is not None:
            _resolved(value)
        with self._lock:
            self._waiting.append((task, value))

    def start(self) -> None:
        """Train in a thread of its own, or go on after a pause."""
        if self.state == "paused":
            self.state = "running"
            self._may_run.set()
        elif self.state == "ready":
            self.state = "running"
            # Thinc keeps its present device in a context variable, which a new thread lacks.
            run = copy_context().run
            self._thread = threading.Thread(target=run, args=(self._train, ()), daemon=True)
            self._thread.start()

    def pause(self) -> None:
        """Wait before the next update."""
        if self.state == "running":
            self._may_run.clear()
            self.state = "paused"

    def stop(self) -> None:
        """End the training before the next update; what was reached is evaluated."""
        self._stop = True
        self._may_run.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the training has ended; raise what ended it, if it failed."""
        if self._thread is not None:
            self._thread.join(timeout)
        if self.error is not None:
            raise self.error

    def run(self, script: Sequence[Move] = ()) -> Trained:
        """Train to the end in this thread, making given moves: the tuner without a person."""
        self._train(tuple(script))
        self.join()
        if self.trained is None:
            raise RuntimeError("The tuner expected a result of the training, and got none.")
        return self.trained

    # -- what came out ----------------------------------------------------------------------

    def moves_table(self) -> pd.DataFrame:
        """Return a row a move: ``step``, ``task``, ``value``, ``seconds``."""
        columns = ["step", "task", "value", "seconds"]
        return pd.DataFrame([asdict(move) for move in self.moves], columns=columns)

    def schedules(self) -> dict[str, dict[str, Any]]:
        """Return the factors that were effective, as one schedule block a task."""
        return schedules_of(self.log)

    def export_config(self) -> Config:
        """Return a config that trains this very run again, as far as it came."""
        return tuned_config(self.config, self.schedules(), len(self.log.steps))

    def export_parameters(self) -> dict[str, Any]:
        """Return the notebook parameters that train this very run again (see `tuned_config`)."""
        return {"tuned": {"factors": self.schedules(), "updates": len(self.log.steps)}}

    # -- inside -----------------------------------------------------------------------------

    def _train(self, script: tuple[Move, ...]) -> None:
        self.state = "running"
        self._started = perf_counter()

        def before_step(nlp: Language, made: int) -> bool:
            for move in script:
                if move.step == made:
                    self.set(move.task, move.value)
            self._may_run.wait()
            self._apply(nlp, made)
            return not self._stop

        try:
            self.trained = train(
                self.config,
                self.corpus,
                progress=False,
                on_step=self.history.append,
                before_step=before_step,
            )
            self.state = "ended"
        except BaseException as error:
            if self._stop and not self.history:
                self.state = "ended"  # stopped before anything was done
            else:
                self.error, self.state = error, "failed"

    def _apply(self, nlp: Language, made: int) -> None:
        """Make the moves that wait."""
        upstream = next(block["upstream"] for block in listener_blocks(self.config).values())
        body: Any = nlp.get_pipe(upstream)
        self._log = body.gradient_log
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for task, value in waiting:
            resolved = None if value is None else _resolved(value)
            if task == POLICY:
                body.balance = resolved
            else:
                for layer in body.listener_map[task]:
                    layer.grad_factor = resolved
            seconds = perf_counter() - self._started
            self.moves.append(Move(made, task, value, seconds))


def _resolved(value: Any) -> Any:
    """Turn a config's block into what it names; anything else stays."""
    if not isinstance(value, Mapping):
        return value
    return registry.resolve({"value": dict(value)})["value"]
