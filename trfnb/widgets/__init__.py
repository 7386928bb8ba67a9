"""Widgets that show and select; they never compute."""

from importlib import import_module
from typing import Any

_HOME = {
    "AlignmentExplorer": "trfnb.widgets.explore",
    "GradFactorTuner": "trfnb.widgets.grad_factor",
    "Neighbours": "trfnb.widgets.explore",
    "SpanStepper": "trfnb.widgets.explore",
    "SweepForm": "trfnb.widgets.sweep_form",
}

__all__ = ["AlignmentExplorer", "GradFactorTuner", "Neighbours", "SpanStepper", "SweepForm"]


def __getattr__(name: str) -> Any:
    """Import a widget on first use: ipywidgets is not needed to import the package."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'trfnb.widgets' has no attribute {name!r}")
