"""The sweep's loop: start what is waiting, note what has ended, stop when told."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from trfnb.runs.engines import Ended, Engine
from trfnb.runs.job import Job
from trfnb.runs.ledger import Ledger
from trfnb.runs.sources import Source
from trfnb.runs.status import State, Status, read_status

TICK = 0.05
REFRESH = 0.5
MOVES = 3
"""How often a run whose worker was lost is started elsewhere."""


class Loop:
    """Takes runs from a source through an engine.

    Args:
        job_of: makes the job of a run that has just been taken up.
        retry: how often to run again, by the state that a run ended in.
        show: called with (running, settled) now and then, for progress.
    """

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        source: Source,
        *,
        job_of: Callable[[Status], Job],
        retry: dict[str, int] | None = None,
        show: Callable[[dict[str, Status], list[Status]], None] = lambda running, settled: None,
    ):
        self.ledger, self.engine, self.source = ledger, engine, source
        self.job_of, self.retry, self.show = job_of, retry or {}, show
        self.running: dict[str, Status] = {}
        self.settled: list[Status] = []
        self.stops = 0
        self._tried: Counter[tuple[str, str]] = Counter()
        self._cancelled = 0
        self._elsewhere: set[str] = set()

    def run(self) -> bool:
        """Run until nothing is left; return whether it was interrupted."""
        shown = 0.0
        with self._signals():
            self._start()
            while self.running:
                for name, over in self.engine.ended().items():
                    self._settle(self.running.pop(name), over)
                self._settle_elsewhere()
                self._stop()
                if time.monotonic() - shown > REFRESH:
                    shown = time.monotonic()
                    self._refresh()
                    self.show(self.running, self.settled)
                time.sleep(TICK)
                self._start()
        self.show(self.running, self.settled)
        return self.stops > 0

    def _start(self) -> None:
        while not self.stops and len(self.running) < self.engine.slots:
            status = self.source.next()
            if status is None:
                return
            self.running[status.run] = status
            if self.ledger.elsewhere(status):
                self._elsewhere.add(status.run)
                continue
            self.ledger.take_up(status)
            job = replace(self.job_of(status), variables=self.source.variables(status))
            self.engine.start(job)

    def _settle(self, started: Status, over: Ended) -> None:
        home = self.ledger.home(started)
        status = read_status(home) or started
        if status.state in {State.WAITING, State.RUNNING}:
            status.state, status.cause, status.ended = over.state, over.cause, time.time()
            status.write(home)
        limit = MOVES if over.lost else self.retry.get(status.state, 0)
        key = (status.run, "lost" if over.lost else status.state)
        if status.state.final:
            limit = 0
        if not self.stops and self._tried[key] < limit:
            self._tried[key] += 1
            self.source.again(status)
            return
        self.source.settle(status)
        self.settled.append(status)

    def _settle_elsewhere(self) -> None:
        """Wait for runs that an earlier sweep left to a batch system, rather than doubling them."""
        for name in list(self._elsewhere):
            status = read_status(self.ledger.home(self.running[name]))
            if status is None or not self.ledger.elsewhere(status) or self.stops:
                self._elsewhere.remove(name)
                lost = "the machine it ran on sends no heartbeat any more"
                self._settle(self.running.pop(name), Ended(lost, lost=True))

    def _refresh(self) -> None:
        for name in self.running:
            self.running[name] = (
                read_status(self.ledger.home(self.running[name])) or (self.running[name])
            )

    def _stop(self) -> None:
        if self.stops > self._cancelled:
            self._cancelled = self.stops
            for name in list(self.running):
                self.engine.cancel(name, now=self.stops > 1)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(*_: Any) -> None:
            self.stops += 1

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
