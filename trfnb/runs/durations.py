"""Durations and sizes as people write them, and back."""

import re

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_MEGABYTES = {"": 1.0, "mb": 1.0, "gb": 1000.0, "tb": 1e6}


def seconds(value: float | str | None) -> float | None:
    """Return ``90``, ``"90 s"``, ``"1.5 min"`` or ``"2h"`` in seconds; None stays None."""
    return _read(value, _SECONDS, "a duration such as 90, '15 min' or '2 h'")


def megabytes(value: float | str | None) -> float | None:
    """Return ``4000``, ``"4000 MB"`` or ``"4 GB"`` in megabytes (10⁶ bytes); None stays None."""
    return _read(value, _MEGABYTES, "a size such as 4000, '4000 MB' or '4 GB'")


def _read(value: float | str | None, units: dict[str, float], expected: str) -> float | None:
    if value is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-zA-Z]*)\s*", str(value))
    unit = match[2].lower() if match else None
    if match is None or unit not in units or float(match[1]) <= 0 or isinstance(value, bool):
        raise ValueError(f"expected {expected}, got {value!r}")
    return float(match[1]) * units[unit]


def clock(value: float | None) -> str:
    """Return seconds as ``42 s``, ``3 min 20 s`` or ``2 h 05 min``; a dash for None."""
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
