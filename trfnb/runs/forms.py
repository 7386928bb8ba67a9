"""Whether the settings of a sweep have the form they need, before anything reads them."""

from collections.abc import Mapping
from difflib import get_close_matches
from numbers import Real
from typing import Any

ENGINES = ("local", "ray", "slurm")
_MAPPINGS = ("fixed", "grid", "zip", "random", "smoke", "search", "retry", "bounds", "smoke_bounds")


def form_faults(sweep: Any) -> list[str]:
    """Return a line for each setting of the wrong form; a wrong mapping is emptied.

    Args:
        sweep: a `Sweep`, as it was given.
    """
    faults = []
    for key in _MAPPINGS:
        value = getattr(sweep, key)
        if not isinstance(value, Mapping):
            faults.append(f"`{key}`: expected a mapping, got {value!r}.")
            setattr(sweep, key, {})
        elif wrong := [name for name in value if not isinstance(name, str)]:
            faults.append(f"`{key}`: expected names as keys, got {wrong}.")
            setattr(sweep, key, {})
    for key in ("data", "metrics"):
        value = getattr(sweep, key)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            faults.append(f"`{key}`: expected a list of names, got {value!r}.")
    for key in ("bounds", "smoke_bounds"):
        for name, bound in getattr(sweep, key).items():
            if not (isinstance(bound, list | tuple) and len(bound) == 2 and all(map(_real, bound))):
                faults.append(f"`{key}.{name}`: expected [low, high], got {bound!r}.")
    if not isinstance(sweep.where, list) or not all(
        isinstance(one, str) or callable(one) for one in sweep.where
    ):
        faults.append(f"`where`: expected a list of conditions, got {sweep.where!r}.")
        sweep.where = []
    for key, least in (("jobs", 1), ("threads", 1), ("gpus", 0)):
        value = getattr(sweep, key)
        if value is not None and (not _whole(value) or value < least):
            faults.append(f"`{key}`: expected a whole number from {least}, got {value!r}.")
    seeds = sweep.seeds
    listed = isinstance(seeds, list) and all(map(_whole, seeds))
    if not (seeds is None or (_whole(seeds) and seeds > 0) or listed):
        faults.append(f"`seeds`: expected a count or a list of integers, got {seeds!r}.")
        sweep.seeds = None
    return faults + _engine_faults(sweep.engine)


def _engine_faults(engine: Any) -> list[str]:
    name = engine.get("name") if isinstance(engine, Mapping) else engine
    if isinstance(name, str) and name in ENGINES:
        return []
    near = get_close_matches(str(name), ENGINES, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    known = ", ".join(ENGINES)
    return [f"`engine`: expected {known}, or a mapping with its `name`, got {engine!r}.{hint}"]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
