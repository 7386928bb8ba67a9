"""Reports as text."""

from typing import Any


def _range(one: dict[str, float]) -> str:
    return f"{one['median']:.2f} [{one['low']:.2f}–{one['high']:.2f}]"


def show(part: str, report: dict[str, Any]) -> None:
    """Print a part's report: ratios with their spread, above 1 where trfnb is faster."""
    print(f"\n== {part} ==")
    for name, found in report.items():
        if name == "about":
            continue
        if part in ("inference", "engines"):
            for precision, one in found.items():
                if isinstance(one, dict) and "ratio" in one:
                    _ratios(f"{name}, {precision}", one)
        elif part == "training" and "ratio" in found:
            _ratios(name, found)
        elif part == "memory":
            print(name, found["MB"], "| trfnb over:", found["ratio"])
        elif part == "start-up":
            print(f"{name:30} {_range(found)} s")
        elif part == "growth":
            print(f"{name}: " + ", ".join(f"{n}: {_range(one)} µs a word"
                                          for n, one in found.items()))  # fmt: skip


def _ratios(title: str, one: dict[str, Any]) -> None:
    print(title)
    for side, speed in one["words a second"].items():
        ratio = one["ratio"].get(side)
        times = f"   trfnb is {_range(ratio)} times as fast" if ratio else ""
        print(f"  {side:42} {speed['median']:8.0f} words/s{times}")
