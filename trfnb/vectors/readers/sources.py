"""Open a file, an archive or a stream as one stream of bytes."""

import bz2
import gzip
import io
import lzma
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, BinaryIO, cast

from trfnb.vectors.report import Report, VectorsError

_CHUNK = 1 << 20
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
BROKEN = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile)


class Stream:
    """Bytes read once, from the front, with a look ahead.

    A truncated or broken archive ends the stream and is noted in the report; what came before it
    is kept.
    """

    def __init__(
        self,
        raw: BinaryIO | IO[bytes],
        name: str,
        report: Report,
        *,
        owned: bool = True,
        inner: "Stream | None" = None,
    ) -> None:
        self.raw, self.name, self.report = raw, name, report
        self._owned, self._inner = owned, inner
        self._ahead = b""
        self._ended = False

    def _pull(self, size: int) -> bytes:
        if self._ended:
            return b""
        try:
            data = self.raw.read(size)
        except (*BROKEN, OSError) as problem:
            # bz2 tells of broken data by a bare OSError; one with an errno is the disk's.
            if isinstance(problem, OSError) and problem.errno is not None:
                raise VectorsError(f"{self.name}: could not be read: {problem}.") from problem
            self._ended = True
            self.report.note(f"the archive is truncated or broken ({problem}); rows before it kept")
            return b""
        if not isinstance(data, bytes):
            raise VectorsError(f"{self.name}: expected a stream of bytes, got text. Open it 'rb'.")
        self._ended = not data
        return data

    def peek(self, size: int) -> bytes:
        """Return up to ``size`` bytes without consuming them."""
        while len(self._ahead) < size:
            data = self._pull(max(size - len(self._ahead), 1 << 16))
            if not data:
                break
            self._ahead += data
        return self._ahead[:size]

    def read(self, size: int) -> bytes:
        """Return exactly ``size`` bytes, or fewer at the end."""
        if not self._ahead:
            # What comes in one piece is passed on as it is; a join would copy it.
            self._ahead = self._pull(size)
        parts = [self._ahead[:size]]
        self._ahead = self._ahead[size:]
        have = len(parts[0])
        while have < size:
            data = self._pull(min(size - have, 4 * _CHUNK))
            if not data:
                break
            if len(data) > size - have:
                data, self._ahead = data[: size - have], data[size - have :]
            parts.append(data)
            have += len(data)
        return b"".join(parts)

    def unread(self, data: bytes) -> None:
        """Put bytes back in front."""
        self._ahead = data + self._ahead

    def tell(self) -> int | None:
        """Say how far a plain file has been read; None for archives, pipes and streams."""
        if self._inner is not None or not self._owned or not self.raw.seekable():
            return None
        return self.raw.tell() - len(self._ahead)

    def close(self) -> None:
        """Close what was opened here; a caller's own stream stays open."""
        if self._owned:
            self.raw.close()
        if self._inner is not None:
            self._inner.close()


def packed(head: bytes) -> str | None:
    """Tell an archive by its first bytes: gzip, xz, bzip2 or zip."""
    return next((kind for magic, kind in _PACKED.items() if head.startswith(magic)), None)


def opened_file(path: Path) -> BinaryIO:
    """Open a file, or raise `VectorsError` where the system refuses."""
    try:
        return path.open("rb")
    except OSError as problem:
        raise VectorsError(f"{path}: could not be read: {problem}.") from problem


@contextmanager
def on_disk(stream: Stream, size: int | None = None) -> Iterator[Path]:
    """Give what is left of a stream as a temporary file, for readers that map or seek.

    Args:
        stream: read to its end.
        size: read so many bytes only.

    Raises:
        VectorsError: there is no room for it.
    """
    with tempfile.NamedTemporaryFile(suffix=".vectors") as file:
        left = size if size is not None else sys.maxsize
        try:
            while data := stream.read(min(4 * _CHUNK, left)):
                file.write(data)
                left -= len(data)
            file.flush()
        except OSError as problem:
            raise VectorsError(
                f"{stream.name}: could not be unpacked to {file.name}: {problem}. Make room there, "
                "or name another directory in the variable TMPDIR."
            ) from problem
        yield Path(file.name)


def open_stream(source: str | PathLike[str] | BinaryIO | IO[bytes], report: Report) -> Stream:
    """Open ``source`` for reading, unpacking gzip, zip, xz and bzip2 by their first bytes.

    Args:
        source: a path, ``"-"`` for standard input, or an open binary file;
            ``archive.zip/table.txt`` names one of several tables in an archive.
        report: takes note of a truncated archive.

    Raises:
        VectorsError: no such file, or a zip archive without exactly one table to read.
    """
    owned, member = False, ""
    if isinstance(source, str) and source == "-":
        raw: BinaryIO | IO[bytes] = sys.stdin.buffer
        name = "standard input"
    elif isinstance(source, (str, PathLike)):
        path, member = inside_zip(Path(source))
        if not path.exists() or path.is_dir():
            raise VectorsError(f"{path}: expected a file with vectors, found none there.")
        raw, name, owned = opened_file(path), str(source), True
    else:
        raw, name = source, str(getattr(source, "name", "stream"))
    stream = Stream(raw, name, report, owned=owned)
    kind = packed(stream.peek(6))
    if kind is None:
        return stream
    opened: BinaryIO | IO[bytes]
    if kind == "gzip":
        opened = cast(BinaryIO, gzip.GzipFile(fileobj=_buffered(stream)))
    elif kind == "xz":
        opened = cast(BinaryIO, lzma.LZMAFile(_buffered(stream)))  # noqa: SIM115
    elif kind == "bzip2":
        opened = cast(BinaryIO, bz2.BZ2File(_buffered(stream)))
    else:
        opened = _zip_member(stream, member)
    return Stream(opened, name, report, inner=stream)


def _buffered(stream: Stream) -> io.BufferedReader:
    return io.BufferedReader(_Joined(stream), _CHUNK)


class _Joined(io.RawIOBase):
    """A `Stream` as a file object, for the standard library's decompressors."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)


def inside_zip(path: Path) -> tuple[Path, str]:
    """Part a path that leads into a zip archive: the archive's own, and what it names there."""
    for parent in () if path.exists() else path.parents:
        if parent.is_file() and zipfile.is_zipfile(parent):
            return parent, path.relative_to(parent).as_posix()
    return path, ""


def _zip_member(stream: Stream, member: str) -> IO[bytes]:
    # A zip archive's directory is at its end: a stream that cannot seek goes to disk first.
    raw = stream.raw
    if raw.seekable():
        raw.seek(0)
    else:
        with on_disk(stream) as path:
            raw = path.open("rb")
    try:
        archive = zipfile.ZipFile(raw)
        names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n]
        wanted = [member] if member else names
        if len(wanted) != 1 or wanted[0] not in names:
            raise VectorsError(
                f"{stream.name}: expected one table in the zip archive, found {len(names)}: "
                f"{', '.join(names[:10])}. Name the one wanted as a path into it: "
                "ARCHIVE.zip/TABLE.txt."
            )
        return archive.open(wanted[0])
    except zipfile.BadZipFile as problem:
        raise VectorsError(
            f"{stream.name}: the zip archive is truncated or broken ({problem}). Fetch it again."
        ) from problem
