"""Runs of notebooks: one, or a sweep of many. Imports no torch."""
