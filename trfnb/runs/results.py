"""What notebooks give and get: ``record`` inside a run, ``results`` of a sweep afterwards."""

from pathlib import Path
from typing import TYPE_CHECKING

from trfnb.runs.recording import Pruned, record

if TYPE_CHECKING:
    import pandas

__all__ = ["Pruned", "record", "results"]


def results(folder: Path | str, *, outdated: bool = False) -> "pandas.DataFrame":
    """Return a sweep's runs as a table, a row each, also while it is under way.

    Args:
        folder: the sweep's folder, such as ``papermill_runs/shared_vs_independent``.
        outdated: also rows of earlier notebooks, library versions or data, told apart by the
            column ``outdated``.

    Raises:
        FileNotFoundError: the folder holds no sweep.
    """
    import pandas

    from trfnb.runs.gather import gather
    from trfnb.runs.table import columns_of, row_of

    found = gather(Path(folder))
    rows = [row_of(status) for status in found.current]
    if outdated:
        rows = [row | {"outdated": False} for row in rows]
        rows += [row_of(status) | {"outdated": True} for status in found.outdated]
    return pandas.DataFrame(rows, columns=columns_of(rows))
