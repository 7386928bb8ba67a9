"""Widgets that show and select; they never compute. They need ipywidgets."""

from trfnb import on_first_use

_HOME = {
    "AlignmentExplorer": "trfnb.widgets.explore",
    "GradFactorTuner": "trfnb.widgets.grad_factor",
    "Neighbours": "trfnb.widgets.explore",
    "SpanStepper": "trfnb.widgets.explore",
    "SweepForm": "trfnb.widgets.sweep_form",
}

__all__ = [*_HOME]

__getattr__ = on_first_use(__name__, _HOME)
