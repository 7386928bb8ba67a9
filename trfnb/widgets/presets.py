"""Settings of all factors at once, by name."""

from collections.abc import Callable, Sequence
from typing import Any

from trfnb.experiments.tuner import POLICY

Preset = Callable[[Sequence[str]], dict[str, Any]]


def _all(value: Any) -> Preset:
    return lambda tasks: dict.fromkeys(tasks, value)


def _only_first(tasks: Sequence[str]) -> dict[str, Any]:
    return {task: 1.0 if task == tasks[0] else 0.0 for task in tasks}


def _policy(name: str) -> Preset:
    return lambda tasks: {POLICY: {"@balancers": name}, **dict.fromkeys(tasks, "auto")}


_THAW = {"@schedules": "trfnb.thaw.v1", "frozen": 50, "warmup": 50}
_RISE = {"@schedules": "trfnb.thaw.v1", "frozen": 0, "warmup": 100}
_FALL = {
    "@schedules": "warmup_linear.v1",
    "initial_rate": 1.0,
    "warmup_steps": 0,
    "total_steps": 100,
}

PRESETS: dict[str, Preset] = {
    "all at 1": _all(1.0),
    "all at 0: frozen": _all(0.0),
    "only the first task": _only_first,
    "frozen for 50 updates, then up": _all(_THAW),
    "up over 100 updates": _all(_RISE),
    "down over 100 updates": _all(_FALL),
    "policy: equal norms": _policy("trfnb.equal_norms.v1"),
    "policy: uncertainty": _policy("trfnb.uncertainty.v1"),
    "policy: UPGrad (torchjd)": _policy("trfnb.upgrad.v1"),
    "policy: PCGrad (torchjd)": _policy("trfnb.pcgrad.v1"),
}
