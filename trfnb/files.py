"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_write(path: Path | str, mode: str = "w") -> Iterator[IO[Any]]:
    r"""Open a file that replaces ``path`` once it is complete and on the disk.

    On an error the old file stays and nothing is left behind. Text is UTF-8; a surrogate without
    its partner is written as ``\\udc80``.

    Args:
        path: the file to replace; its folder must exist.
        mode: ``"w"`` or ``"wb"``.
    """
    path = Path(path)
    text: dict[str, Any] = (
        {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
    )
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, mode, **text) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
