"""Raw text as a stream of records: plain, JSON lines, gzipped, ``.spacy``, or a folder of these.

Nothing is held but the record at hand (of a ``.spacy`` file, the file at hand). A bad record in the
middle is left out and counted.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import spacy
from spacy.tokens import DocBin

# A text to tokenise, or words that are tokens already with whether a space follows each.
Record = str | tuple[list[str], list[bool]]

PLAIN, JSONL, DOCBIN = (".txt", ".text"), (".jsonl", ".ndjson", ".json"), (".spacy",)
SUFFIXES = (*PLAIN, *JSONL, *DOCBIN)
LONGEST_LINE = 1_000_000


@dataclass
class Skipped:
    """Records that were left out, by reason.

    Attributes:
        counts: Of the pass over the text that goes on.
        before: The most that a pass before left out.
    """

    counts: Counter[str] = field(default_factory=Counter)
    before: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        """Begin another pass, which leaves out the same records again."""
        self.before |= self.counts
        self.counts.clear()

    def told(self) -> dict[str, int]:
        """Return how many records of the text were left out, however often it was read."""
        return dict(self.before | self.counts)


def text_files(path: Path) -> list[Path]:
    """Return the text files at a path: itself, or those below a folder in the order of names."""
    if path.is_dir():
        below = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p, path))
        return [p for p in below if kind(p)]
    return [path]


def kind(path: Path) -> str:
    """Return the suffix that says how to read a file, '' where none does."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else ""


def records(path: Path, skipped: Skipped | None = None) -> Iterator[Record]:
    """Yield the records of a file or folder in an order that is always the same."""
    skipped = skipped or Skipped()
    for file in text_files(path):
        if kind(file) in DOCBIN:
            yield from _docs(file)
        elif kind(file) in JSONL:
            for line in lines(file, skipped):
                record = _parsed(line)
                if record:
                    yield record
                else:
                    skipped.counts["no JSON object with a text"] += 1
        else:
            yield from lines(file, skipped)


def lines(path: Path, skipped: Skipped) -> Iterator[str]:
    """Yield a file's lines that are not blank, leaving out what is no UTF-8 text or too long."""
    with opened(path) as file:
        for raw in _raw_lines(file, skipped):
            if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                skipped.counts[f"a line of more than {LONGEST_LINE:,} bytes"] += 1
                continue
            try:
                text = raw.decode("utf-8-sig").strip()
            except UnicodeDecodeError:
                skipped.counts["not UTF-8"] += 1
                continue
            if "\0" in text:
                skipped.counts["binary"] += 1
            elif text:
                yield text


def _raw_lines(file: IO[bytes], skipped: Skipped) -> Iterator[bytes]:
    """Yield lines, of a longer one the first `LONGEST_LINE` bytes."""
    try:
        while raw := file.readline(LONGEST_LINE):
            yield raw
            while len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                raw = file.readline(LONGEST_LINE)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        skipped.counts["the rest of a broken .gz"] += 1


def opened(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, through gzip where its name says so."""
    return cast(IO[bytes], gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb"))


def _parsed(line: str) -> Record | None:
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):  # no JSON, a number too long, brackets too deep
        return None
    if not isinstance(found, dict):
        return None
    text, tokens = found.get("text"), found.get("tokens")
    if isinstance(text, str) and text.strip():
        return text if _is_unicode(text) else None
    if isinstance(tokens, list) and tokens and all(isinstance(t, str) and t for t in tokens):
        return (tokens, [True] * len(tokens)) if _is_unicode("".join(tokens)) else None
    return None


def _is_unicode(text: str) -> bool:
    """Say whether a text has no half of a character, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _docs(path: Path) -> Iterator[Record]:
    vocab = spacy.blank("xx").vocab
    for doc in DocBin().from_disk(path).get_docs(vocab):
        if len(doc):
            yield [token.text for token in doc], [bool(token.whitespace_) for token in doc]


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
