"""Fill a directory aside, then put it in its place."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trfnb.vectors.report import VectorsError


@contextmanager
def aside(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a directory to fill that takes ``path``'s place when all went well, else vanishes.

    Raises:
        VectorsError: something is already at ``path`` (with ``overwrite``, something that is no
            table), or the disk is full.
    """
    check_place(path, overwrite=overwrite)
    # Where a link points to, and a path such as "." that has no name to write beside.
    path = path.resolve()
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if path.exists():
            path.rename(old)
        partial.rename(path)
    except OSError as problem:
        raise VectorsError(
            f"{path}: could not be written: {problem}. Nothing was left behind; make room or "
            "choose another place."
        ) from problem
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        elif old.exists():
            old.rename(path)


def check_place(path: Path, *, overwrite: bool) -> None:
    """Raise `VectorsError` unless a table may be written to ``path``."""
    if path.exists() and not overwrite:
        raise VectorsError(f"{path}: already there. Choose another place, or overwrite it.")
    if path.exists() and not _replaceable(path):
        raise VectorsError(
            f"{path}: expected a table or an empty directory to overwrite, found something else. "
            "Take it away yourself, or choose another place."
        )


def _replaceable(path: Path) -> bool:
    return path.is_dir() and ((path / "vocab").is_dir() or not any(path.iterdir()))
