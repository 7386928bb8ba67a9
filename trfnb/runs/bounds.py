"""Holds a sweep's metrics to recorded bounds."""

from collections.abc import Mapping, Sequence

from trfnb.runs.status import State, Status
from trfnb.runs.table import flat


def outside(statuses: Sequence[Status], bounds: Mapping[str, Sequence[float]]) -> list[str]:
    """Return a line for each metric whose mean over the runs leaves its bounds, or is missing."""
    faults = []
    done = [flat(status.metrics) for status in statuses if status.state is State.DONE]
    for name, (low, high) in bounds.items():
        values = [row[name] for row in done if isinstance(row.get(name), int | float)]
        if not values:
            faults.append(f"{name}: expected {low} to {high}, but no run recorded it.")
            continue
        mean = sum(values) / len(values)
        if not low <= mean <= high:
            faults.append(
                f"{name}: expected {low} to {high}, got {mean:.4g} (mean of {len(values)} runs)."
            )
    return faults
