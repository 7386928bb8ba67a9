"""Text files as numbered lines, and as blocks between blank lines."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trfnb.corpora.errors import CorpusError

# "# key = value"; the equals sign tells a comment from a row whose token is "#".
_COMMENT = re.compile(r"#\s*([\w.:-]+(?: id)?)\s*=\s*(.*)")
_BARE = re.compile(r"#\s*(newdoc|newpar)\s*")


@dataclass
class Block:
    """One sentence's lines: comments by key, and numbered rows."""

    comments: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[int, str]] = field(default_factory=list)


def read_lines(path: Path) -> list[str]:
    r"""Return a UTF-8 file's lines, split at ``\n`` and ``\r\n`` only.

    Raises:
        CorpusError: the file cannot be read, is empty, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(
            path, expected="a readable file", got=str(error.strerror), hint="Check the path"
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise CorpusError(
            path,
            line=None if utf16 else data.count(b"\n", 0, error.start) + 1,
            expected="UTF-8 text",
            got="UTF-16 text" if utf16 else f"the byte 0x{data[error.start]:02x}",
            hint=f"Convert the file, e.g. `iconv -f {'UTF-16' if utf16 else 'LATIN1'} -t UTF-8`",
        ) from error
    if not text.strip():
        raise CorpusError(
            path, expected="annotated sentences", got="an empty file", hint="Check the path"
        )
    return [line.removesuffix("\r") for line in text.split("\n")]


def comment(line: str) -> tuple[str, str] | None:
    """Return a comment line's key and value, or ``None`` for any other line."""
    if match := _COMMENT.fullmatch(line):
        return match[1], match[2].strip()
    if match := _BARE.fullmatch(line):
        return match[1], ""
    return None


def blocks(lines: list[str], *, all_hashes: bool = False) -> Iterator[Block]:
    """Yield the blocks between blank lines that have at least one row.

    Args:
        lines: The file's lines.
        all_hashes: Take every line that starts with ``#`` as a comment, as CoNLL-U does.
    """
    block = Block()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            if block.rows:
                yield block
                block = Block()
        elif line.startswith("#") and (pair := comment(line)):
            block.comments[pair[0]] = pair[1]
        elif not (all_hashes and line.startswith("#")):
            block.rows.append((number, line))
    if block.rows:
        yield block


def document_of(block: Block, current: str | None, count: int) -> str | None:
    """Return the document that a block belongs to: a new one's id, or the current one's."""
    if "newdoc id" in block.comments:
        return block.comments["newdoc id"]
    return f"doc{count}" if "newdoc" in block.comments else current
