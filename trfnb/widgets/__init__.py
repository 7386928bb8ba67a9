"""Widgets that show and select; they never compute."""
