"""A little disk space set aside, so that a full disk can't swallow how a run ended."""

import contextlib
import errno
from pathlib import Path

from trfnb.runs.status import write_text

FILE = ".reserve"
SIZE = 1 << 20


def set_aside(folder: Path) -> None:
    """Fill the reserve of a run's folder, as far as there is room."""
    with contextlib.suppress(OSError):
        (folder / FILE).write_bytes(b"\1" * SIZE)


def release(folder: Path) -> None:
    """Give the reserve back."""
    (folder / FILE).unlink(missing_ok=True)


def write_despite_full_disk(path: Path, content: str) -> None:
    """Write a file of a run's folder whole; on a full disk with the reserve's space."""
    try:
        write_text(path, content)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        release(path.parent)
        write_text(path, content)
