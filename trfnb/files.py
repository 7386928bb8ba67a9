"""Atomic writes: a file or a folder is there as a whole, or not at all."""

import os
import platform
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a new file that takes the place of ``path`` when the block ends without an error.

    Args:
        path: the file to write; its folder must exist.
        mode: ``"w"`` for text in UTF-8 with line ends as they are, ``"wb"`` for bytes. A surrogate
            without its partner is written as an escape.

    Raises:
        OSError: the disk is full or cannot be written; ``path`` is as it was before.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}-{threading.get_ident()}")
    text: dict[str, Any] = {"encoding": "utf8", "errors": "backslashreplace", "newline": ""}
    try:
        with partial.open(mode, **({} if "b" in mode else text)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def refuse_existing(path: str | Path, command: str) -> None:
    """Raise a ValueError where a command's new folder is there already, or cannot be made."""
    if os.path.lexists(path):
        raise ValueError(
            f"{command} expected a directory that does not exist yet, got {str(path)!r}. Name "
            "another or remove it."
        )
    parent = next(one for one in Path(path).absolute().parents if one.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise ValueError(
            f"{command} expected a place where a directory can be made, got {str(path)!r}: "
            f"{parent} is {'not writable' if parent.is_dir() else 'a file'}. Name another."
        )


def unpacked(source: str) -> tuple[str, str | None]:
    """Return what fsspec is to open for a path or URL, and its compression.

    Raises:
        ValueError: a zip archive holds several files; fsspec would open the first.
    """
    import fsspec
    from fsspec.utils import infer_compression

    kind = infer_compression(source.partition("::")[0])
    if kind != "zip":
        return source, kind
    names = [n for n in fsspec.filesystem("zip", fo=source).find("") if "__MACOSX" not in n]
    if len(names) != 1:
        raise ValueError(
            f"expected one file in the zip archive, got {len(names)}: {', '.join(names[:10])}. "
            f"Unpack it; a vector table may be named: zip://TABLE.txt::{source}"
        )
    return f"zip://{names[0]}::{source}", None


@contextmanager
def atomic_folder(path: str | Path, *, sync: bool = True, new: str | None = None) -> Iterator[Path]:
    """Yield a new folder that takes the place of ``path`` when the block ends without an error.

    Args:
        path: the folder to write, or a link to it; missing parents are made.
        sync: wait until everything is on the disk, so that a power cut cannot leave half of it.
        new: the command whose folder must not have appeared meanwhile; see `refuse_existing`.

    Raises:
        OSError: the disk is full or cannot be written; ``path`` is as it was before.
        ValueError: ``path`` is there, and must not be; it stays as it is.
    """
    # Where a link points to, and a path such as "." that has no name to write beside.
    path = Path(path).resolve()
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        for file in partial.rglob("*") if sync else ():
            if file.is_file():
                with file.open("r+b" if os.name == "nt" else "rb") as handle:  # Windows asks for it
                    os.fsync(handle.fileno())
        if new:
            refuse_existing(path, new)
        # A folder that is not empty cannot be replaced in one step.
        elif path.exists():
            path.rename(old)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        elif old.exists():
            old.rename(path)


@contextmanager
def locked(folder: Path, work: str) -> Iterator[None]:
    """Hold a folder for this process; the lock ends with the process, however that ends.

    Args:
        folder: it is made where it is not there, and goes again if it is left empty.
        work: what it is held for, to name in the error of the next that asks.

    Raises:
        BlockingIOError: another holds it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / ".lock"), folder / ".holder"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text() if holder.exists() else "an unknown process"
        raise BlockingIOError(
            f"Another {work} is at work in {folder}: {who}. "
            "Wait for it, stop it, or give another folder (a sweep's with --out)."
        ) from None
    try:
        holder.write_text(f"process {os.getpid()} on {platform.node()}, since {time.ctime()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        with suppress(PermissionError):  # Windows keeps a file that is open
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        if not any(folder.iterdir()):  # what was refused leaves nothing behind
            folder.rmdir()
