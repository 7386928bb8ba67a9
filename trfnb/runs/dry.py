"""What a sweep would do: its runs, how many, and how long by earlier runs."""

from typing import TYPE_CHECKING

from rich.table import Table

from trfnb.runs.durations import clock
from trfnb.runs.engines import make_engine
from trfnb.runs.progress import COLOURS
from trfnb.runs.status import State

if TYPE_CHECKING:
    from trfnb.runs.sweep import Prepared


def listing(checked: "Prepared") -> Table:
    """Return the runs with their varied parameters and what is known of them."""
    varied = checked.sweep.varied
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("#", *varied, "state"):
        table.add_column(column)
    for number, status in enumerate(checked.plan.statuses, 1):
        values = [str(status.parameters.get(name, "")) for name in varied]
        colour = COLOURS.get(status.state, "")
        table.add_row(str(number), *values, f"[{colour}]{status.state}[/]" if colour else "waiting")
    return table


def estimate(checked: "Prepared") -> str:
    """Return how many runs there are to do and how long they probably take, in words."""
    sweep, statuses = checked.sweep, checked.plan.statuses
    if sweep.search:
        todo = total = int(sweep.search.get("trials", 0))
    else:
        total = len(statuses)
        todo = sum(not status.state.final for status in statuses)
    text = f"{total} runs, {total - todo} done, {todo} to do"
    known = [s.seconds for s in checked.ledger.statuses() if s.state is State.DONE and s.seconds]
    if not known or not todo:
        return text + ("; no earlier runs to estimate from." if todo else ".")
    engine = make_engine("local", jobs=sweep.jobs, threads=sweep.threads, gpus=sweep.gpus)
    mean = sum(known) / len(known)
    rounds = -(-todo // engine.slots)
    about = f"about {clock(rounds * mean)} at {engine.slots} at once"
    return f"{text}; {about}, by the mean of {len(known)} earlier runs ({clock(mean)})."
