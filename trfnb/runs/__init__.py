"""Runs of notebooks: one, or a sweep of many. Imports no torch.

From Python, as in a notebook::

    from trfnb.runs.sweep import Sweep, run_sweep
    run_sweep(Sweep("notebooks/01_shared_vs_independent.ipynb", grid={"sharing": [...]}, seeds=3))
"""
