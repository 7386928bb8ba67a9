"""The table that a sweep ends with: a line a run, failures first."""

from collections.abc import Sequence

from rich.table import Table

from trfnb.runs.durations import clock
from trfnb.runs.progress import COLOURS, label
from trfnb.runs.status import Status
from trfnb.runs.table import flat

COLUMNS = 6


def summary(statuses: Sequence[Status], varied: Sequence[str], wanted: Sequence[str]) -> Table:
    """Return all runs as a table: parameters that vary, state, time, the main metrics."""
    metrics = [flat(status.metrics) for status in statuses]
    numbers = [n for m in metrics for n, v in m.items() if isinstance(v, int | float)]
    names = list(dict.fromkeys([*(w for w in wanted if w in numbers), *numbers]))
    names = names[: max(COLUMNS, len(wanted))]
    table = Table(header_style="bold", box=None, padding=(0, 2, 0, 0))
    differ = [v for v in varied if any(v in s.parameters for s in statuses)]
    for column in [*differ, *([] if differ else ["run"]), "status", "time"]:
        table.add_column(column)
    for name in names:
        table.add_column(name, justify="right")
    order = sorted(range(len(statuses)), key=lambda i: not statuses[i].state.bad)
    for index in order:
        status = statuses[index]
        about = [str(status.parameters.get(name, "")) for name in differ] or [label(status, [])]
        state = f"[{COLOURS.get(status.state, '')}]{status.state}[/]"
        values = [_number(metrics[index].get(name)) for name in names]
        table.add_row(*about, state, clock(status.seconds), *values)
    return table


def _number(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
