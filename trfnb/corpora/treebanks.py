"""Public treebanks by name, downloaded once."""

from pathlib import Path


def known() -> tuple[str, ...]:
    """Return the names of the treebanks that can be downloaded."""
    return ()


def fetch(name: str) -> Path:
    """Return the folder of a downloaded treebank."""
    raise KeyError(name)
