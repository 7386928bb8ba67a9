"""``trfnb status``: a sweep seen from another shell."""

import time
from collections import Counter
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trfnb.runs.durations import clock
from trfnb.runs.gather import gather
from trfnb.runs.ledger import Ledger
from trfnb.runs.progress import COLOURS, eta, label, scores
from trfnb.runs.status import State, Status

LINES = 20


def show_status(folder: Path, *, watch: bool = False, console: Console | None = None) -> int:
    """Print where a sweep is; with ``watch`` until it ends.

    Returns:
        0 when every run has its results, else 1.
    """
    console = console or Console()
    if watch and console.is_terminal:
        with Live(console=console, transient=True) as live:
            while Ledger(folder).is_locked():
                live.update(overview(folder))
                time.sleep(1)
    console.print(overview(folder))
    return 0 if all(status.state.final for status in gather(folder).current) else 1


def overview(folder: Path) -> Group:
    """Return counts, the runs under way and the failures of a sweep."""
    found, at_work = gather(folder), Ledger(folder).is_locked()
    current = found.current
    for status in current:
        if status.state is State.RUNNING and not at_work and not Ledger.elsewhere(status):
            status.state, status.cause = State.KILLED, "its sweep or machine died; call it again"
    counts = Counter(str(status.state) for status in current)
    missing = len(set(found.about.get("order", [])) - {s.identity for s in current})
    counts["waiting"] += missing
    head = " · ".join(f"{number} {state}" for state, number in counts.items() if number)
    running = [status for status in current if status.state is State.RUNNING]
    left = eta([], current, running, counts["waiting"], max(1, len(running)))
    ending = f" · about {clock(left)} left" if at_work and left else ""
    title = f"{found.about['name']}: {head}{ending}" + ("" if at_work else " · no sweep at work")
    shown = running + [status for status in current if status.state.bad]
    return Group(Text(title, style="bold"), _table(shown[:LINES], found.about))


def _table(statuses: list[Status], about: dict[str, list[str]]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("run", "state", "cell", "time", "about"):
        table.add_column(column)
    for status in statuses:
        seconds = status.seconds
        if status.state is State.RUNNING and status.started:
            seconds = time.time() - status.started
        table.add_row(
            label(status, about["varied"]),
            f"[{COLOURS.get(status.state, '')}]{status.state}[/]",
            f"{status.cell}/{status.cells}" if status.cells else "",
            clock(seconds),
            Text(status.cause or scores(status, about["metrics"])),
        )
    return table
