"""Widgets that show and select; they never compute."""

from .runtime import AlignmentExplorer, SpanStepper

__all__ = ["AlignmentExplorer", "SpanStepper"]
