"""Widgets that show and select; they never compute. They need ipywidgets."""

from trfnb import on_first_use

__getattr__, __dir__, __all__ = on_first_use(
    __name__,
    {
        "AlignmentExplorer": "trfnb.widgets.explore",
        "GradFactorTuner": "trfnb.widgets.grad_factor",
        "Neighbours": "trfnb.widgets.explore",
        "SpanStepper": "trfnb.widgets.explore",
        "SweepForm": "trfnb.widgets.sweep_form",
    },
)
