"""Runs of notebooks: one, or a sweep of many. Imports no torch.

From Python, as in a notebook::

    from trfnb.runs import Sweep, run_sweep
    run_sweep(Sweep("notebooks/01_shared_vs_independent.ipynb", grid={"sharing": [...]}, seeds=3))
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Sweep": "trfnb.runs.specification",
    "load_sweep": "trfnb.runs.specification",
    "run_sweep": "trfnb.runs.sweep",
    "write_report": "trfnb.runs.report",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'trfnb.runs' has no attribute {name!r}")
