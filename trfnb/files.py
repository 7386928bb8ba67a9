"""Atomic writes: a file or a folder is there as a whole, or not at all, even after kill -9."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a new file that takes the place of ``path`` when the block ends without an error.

    Args:
        path: The file to write; its folder must exist.
        mode: ``"w"`` for text in UTF-8, ``"wb"`` for bytes.

    Raises:
        OSError: the disk is full or cannot be written; ``path`` is as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    encoding, newline = (None, None) if "b" in mode else ("utf8", "")
    try:
        with temporary.open(mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of ``path`` when the block ends without an error.

    Args:
        path: The folder to write; its parent must exist.

    Raises:
        OSError: the disk is full or cannot be written; ``path`` is as it was before.
    """
    path = Path(path)
    temporary, old = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            # A folder that is not empty cannot be replaced in one step.
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sha256(path: str | Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
