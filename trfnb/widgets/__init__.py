"""Widgets that show and select; they never compute. They need ipywidgets."""

from trfnb import notebook_side

with notebook_side():
    from trfnb.widgets.explore import AlignmentExplorer, Neighbours, SpanStepper
    from trfnb.widgets.grad_factor import GradFactorTuner
    from trfnb.widgets.sweep_form import SweepForm

__all__ = ["AlignmentExplorer", "GradFactorTuner", "Neighbours", "SpanStepper", "SweepForm"]
