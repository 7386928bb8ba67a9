"""What a sweep's ``search`` may hold."""

from collections.abc import Mapping
from typing import Any

SAMPLERS = {"tpe": "TPE", "random": "Random", "qmc": "QMC", "gp": "GP", "cmaes": "CmaEs"}
PRUNERS = {
    "none": "Nop",
    "median": "Median",
    "percentile": "Percentile",
    "halving": "SuccessiveHalving",
    "hyperband": "Hyperband",
    "patient": "Patient",
    "threshold": "Threshold",
}


def check_search(search: Mapping[str, Any]) -> list[str]:
    """Return a line for each fault of a ``search`` mapping."""
    faults = []
    known = {"metric", "direction", "trials", "space", "sampler", "pruner"}
    for key in set(search) - known:
        faults.append(f"`search.{key}`: no such key; known: {', '.join(sorted(known))}.")
    if not isinstance(search.get("metric"), str):
        faults.append("`search.metric`: expected the name of a recorded number.")
    trials = search.get("trials")
    if not isinstance(trials, int) or trials < 1:
        faults.append(f"`search.trials`: expected a positive integer, got {trials!r}.")
    if search.get("direction", "maximize") not in {"maximize", "minimize"}:
        faults.append("`search.direction`: expected maximize or minimize.")
    space = search.get("space")
    if not isinstance(space, Mapping) or not space:
        faults.append("`search.space`: expected a mapping from parameters to ranges or choices.")
    for key, options in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        choice = search.get(key, next(iter(options)))
        name = choice.get("name") if isinstance(choice, Mapping) else choice
        if name not in options:
            faults.append(f"`search.{key}`: expected one of {', '.join(options)}, got {name!r}.")
    return faults
