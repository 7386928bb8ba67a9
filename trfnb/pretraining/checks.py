"""What can be known of a text before training starts."""

import gzip
import zlib
from pathlib import Path

from trfnb.pretraining.text import (
    DOCBIN,
    JSONL,
    LONGEST_LINE,
    SUFFIXES,
    Skipped,
    kind,
    opened,
    records,
    text_files,
)

_LOOK = 1 << 20
_TOLERATED = 0.1


def text_problems(path: Path | None) -> list[str]:
    """Return what makes a path useless as text, one sentence or two each; empty if nothing does."""
    if path is None:
        return ["The corpus has no path: set [paths] raw_text, or give -p paths.raw_text PATH."]
    if not path.exists():
        return [f"{path}: expected a text file or a folder, got no such path. Check it."]
    files = text_files(path)
    if not files:
        return [
            f"{path}: expected files that end in {', '.join(SUFFIXES)} (or those and .gz), got "
            "none. Rename them, or give another folder."
        ]
    return [problem for file in files if (problem := _problem(file))]


def _problem(path: Path) -> str | None:
    if kind(path) in DOCBIN:
        return _docbin_problem(path)
    try:
        with opened(path) as file:
            start = file.read(_LOOK + LONGEST_LINE)
    except (OSError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"{path}: cannot be read ({error}). Check the file."
    if not start.strip():
        return f"{path}: expected text, got an empty file. Leave it out or check the path."
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return f"{path}: expected UTF-8, got UTF-16. Convert it: `iconv -f UTF-16 -t UTF-8`."
    if start[:4096].count(b"\0") > 8:
        return f"{path}: expected text, got binary data. Leave it out or check the path."
    first, *rest = start.split(b"\n")
    if len(first) >= LONGEST_LINE or (not rest and len(first) > LONGEST_LINE):
        return (
            f"{path}: expected one text a line, got a first line of more than "
            f"{LONGEST_LINE:,} bytes. Put a paragraph on each line."
        )
    return _line_problem(path, [line for line in [first, *rest[:-1]] if line.strip()])


def _line_problem(path: Path, lines: list[bytes]) -> str | None:
    bad = sum(not _is_utf8(line) for line in lines)
    if bad > _TOLERATED * len(lines):
        return (
            f"{path}: expected UTF-8, got {bad} of the first {len(lines)} lines in another "
            "encoding. Convert it, e.g. `iconv -f LATIN1 -t UTF-8`."
        )
    if kind(path) in JSONL:
        skipped = Skipped()
        if next(iter(records(path, skipped)), None) is None:
            return (
                f'{path}: expected JSON lines with a key "text" or "tokens", got none. '
                "Write one object a line."
            )
    return None


def _docbin_problem(path: Path) -> str | None:
    try:
        if next(iter(records(path)), None) is not None:
            return None
        return f"{path}: expected Docs with words, got none. Leave it out."
    except Exception as error:  # whatever msgpack, zlib and spaCy find wrong with it
        return f"{path}: expected a DocBin, got something else ({error}). Check the path."


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
