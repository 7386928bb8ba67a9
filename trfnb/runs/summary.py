"""The table that a sweep ends with: a line a run, failures first."""

from collections.abc import Sequence

from rich.table import Table

from trfnb.runs.durations import clock
from trfnb.runs.progress import COLOURS, label
from trfnb.runs.status import Status
from trfnb.runs.table import flat

GAP = 2


def summary(
    statuses: Sequence[Status], varied: Sequence[str], wanted: Sequence[str], width: int
) -> Table:
    """Return all runs as a table: parameters that vary, state, time, and metrics.

    Args:
        statuses: the runs.
        varied: parameters that tell them apart.
        wanted: metrics that come first and stay whatever the width.
        width: characters that there is room for; further metrics are left to ``results.csv``.
    """
    ordered = sorted(statuses, key=lambda status: not status.state.bad)
    differ = [name for name in varied if any(name in s.parameters for s in ordered)]
    columns: dict[str, list[str]] = {
        name: [_short(status.parameters.get(name, "")) for status in ordered] for name in differ
    }
    if not differ:
        columns["run"] = [label(status, []) for status in ordered]
    columns["status"] = [str(status.state) for status in ordered]
    columns["time"] = [clock(status.seconds) for status in ordered]
    metrics = [flat(status.metrics) for status in ordered]
    numbers = dict.fromkeys(n for m in metrics for n, v in m.items() if isinstance(v, int | float))
    room = width - sum(_width(name, cells) for name, cells in columns.items())
    shown = {}
    for name in dict.fromkeys([*(w for w in wanted if w in numbers), *numbers]):
        cells = [_short(values.get(name, "")) for values in metrics]
        room -= _width(name, cells)
        if room >= 0 or name in wanted:
            shown[name] = cells
    table = Table(header_style="bold", box=None, padding=(0, GAP, 0, 0))
    for name in columns:
        table.add_column(name, no_wrap=True)
    for name in shown:
        table.add_column(name, justify="right", overflow="fold")
    rows = zip(*columns.values(), *shown.values(), strict=True)
    for status, row in zip(ordered, rows, strict=True):
        colour = COLOURS.get(status.state, "default")
        cells = list(row)
        cells[len(columns) - 2] = f"[{colour}]{status.state}[/]"
        table.add_row(*cells)
    return table


def _width(name: str, cells: Sequence[str]) -> int:
    return max([len(name), *map(len, cells)]) + GAP


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
