"""A sweep as it goes: a live table in a terminal or JupyterLab, plain lines elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trfnb.runs.durations import clock
from trfnb.runs.sources import Source
from trfnb.runs.specification import Sweep
from trfnb.runs.status import State, Status
from trfnb.runs.table import flat

COLOURS = {
    State.DONE: "green",
    State.PRUNED: "cyan",
    State.RUNNING: "blue",
    State.FAILED: "red",
    State.TIMED_OUT: "red",
    State.OUT_OF_MEMORY: "red",
    State.KILLED: "yellow",
}
SCORES = 3
WIDE = 160


class Progress(AbstractContextManager["Progress"]):
    """Shows where a sweep is.

    Args:
        before: the runs asked for, as the folder holds them.
        opening: lines to begin with.
        quiet: show nothing.
        console: where to; standard output by default.
    """

    def __init__(
        self,
        sweep: Sweep,
        before: Sequence[Status],
        slots: int,
        source: Source,
        *,
        opening: Sequence[str] = (),
        quiet: bool = False,
        console: Console | None = None,
    ):
        self.sweep, self.slots, self.source, self.quiet = sweep, slots, source, quiet
        self.opening = opening
        self.console = console or Console()
        self.before = [status for status in before if status.state.final]
        self.varied = sweep.varied
        self.started = time.time()
        self._told = 0
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        for line in self.opening if not self.quiet else ():
            self.console.print(line, soft_wrap=True, highlight=False)
        if not self.quiet and (self.console.is_terminal or self.console.is_jupyter):
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live:
            self._live.stop()

    def show(self, running: Mapping[str, Status], settled: Sequence[Status]) -> None:
        """Show the runs under way and those that have ended since the start."""
        if self.quiet:
            return
        for status in settled[self._told :]:
            self._told += 1
            self.console.print(self._line(status), soft_wrap=True, highlight=False)
        if self._live:
            self._live.update(self._table(running, settled))

    def _line(self, status: Status) -> Text:
        count = len(self.before) + self._told
        line = Text(f"[{count}/{self.source.total}] ")
        line.append(str(status.state), style=COLOURS.get(status.state, ""))
        line.append(f"  {label(status, self.varied)}  {clock(status.seconds)}")
        about = status.cause if status.state.bad else scores(status, self.sweep.metrics)
        return line.append(f"  {about}" if about else "")

    def _table(self, running: Mapping[str, Status], settled: Sequence[Status]) -> Group:
        counts = Counter(str(s.state) for s in [*self.before, *settled])
        left = self.source.total - len(self.before) - len(settled) - len(running)
        counts |= {"running": len(running), "waiting": max(0, left)}
        head = " · ".join(f"{number} {state}" for state, number in counts.items() if number)
        remaining = eta(self.before, settled, list(running.values()), max(0, left), self.slots)
        head += f" · about {clock(remaining)} left" if remaining else ""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("run", "cell", "time", "memory", "latest"):
            table.add_column(column, no_wrap=column != "latest")
        for status in running.values():
            spent = time.time() - status.started if status.started else None
            memory = f"{status.peak_memory:.0f} MB" if status.peak_memory else ""
            table.add_row(
                label(status, self.varied),
                f"{status.cell}/{status.cells}" if status.cells else "starting",
                clock(spent),
                memory,
                scores(status, self.sweep.metrics),
            )
        return Group(Text(head, style="bold"), table)


def label(status: Status, varied: Sequence[str]) -> str:
    """Return what tells a run from the others: its varied parameters."""
    shown = {k: status.parameters[k] for k in varied if k in status.parameters}
    parts = (f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in shown.items())
    return " ".join(parts) or status.run


def scores(status: Status, wanted: Sequence[str]) -> str:
    """Return a run's latest numbers, the wanted ones first, a few of them."""
    values = flat(status.latest | status.metrics)
    numbers = {k: v for k, v in values.items() if isinstance(v, float) or type(v) is int}
    first = [name for name in wanted if name in numbers]
    names = [*first, *(name for name in numbers if name not in first)][: max(SCORES, len(first))]
    return " ".join(f"{name}={numbers[name]:.4g}" for name in names)


def eta(
    before: Sequence[Status],
    settled: Sequence[Status],
    running: Sequence[Status],
    waiting: int,
    slots: int,
) -> float | None:
    """Return the seconds that are probably left; None before any run has ended well."""
    known = [s.seconds for s in [*settled, *before] if s.state is State.DONE and s.seconds]
    if not known:
        return None
    mean = sum(known) / len(known)
    now = time.time()
    rest = sum(max(0.0, mean - (now - (s.started or now))) for s in running)
    return (rest + waiting * mean) / slots


def plain_console() -> Console:
    """Return a console for standard output, wide where that is a file."""
    return Console() if sys.stdout.isatty() else Console(width=WIDE, soft_wrap=True)
