"""Raw text as a stream: files → texts → shards → batches of Docs.

A text is a line of a file, or the key ``text`` of a line of JSON. Texts are taken in shards of
about the same size. Shuffling and batching happen within a shard and follow from its number alone.
A run therefore resumes in the middle of a text from two numbers: the shard, and how many of its
batches were used.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import infer_compression
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example, JsonlCorpus, PlainTextCorpus
from spacy.util import logger, registry

from trfnb.files import unpacked

PLAIN, JSONL = (".txt", ".text"), (".jsonl", ".ndjson", ".json")
LONGEST = 1_000_000  # characters of a text; longer ones are cut there
# Why a line is left out -> what to do where many are.
BINARY, NOT_UTF8, NO_JSON = "bytes of zero in the text", "not UTF-8", "no JSON object with a text"
_ADVICE = {
    BINARY: "Binary data does not belong here; `iconv -f UTF-16 -t UTF-8` converts UTF-16, and "
    "`tr -d '\\000'` takes single zeros out.",
    NOT_UTF8: "Convert it to UTF-8, e.g. `iconv -f LATIN1 -t UTF-8`.",
    NO_JSON: 'Write one object a line, with the key "text".',
}


class PretrainingError(ValueError):
    """Settings, text, weights or a folder that cannot be used.

    It names the object, what was expected, what was found, and what to do.
    """


def refuse(problems: Sequence[str]) -> None:
    """Raise all problems at once, if there are any."""
    if problems:
        several = "Cannot pretrain:\n- " + "\n- ".join(problems)
        raise PretrainingError(problems[0] if len(problems) == 1 else several)


@registry.readers("trfnb.RawText.v1")
@dataclass
class RawText:
    """Raw text on disk: a reader for ``trfnb pretrain`` and for ``spacy pretrain``.

    Attributes:
        path: A file or a folder: plain text (one text a line) or JSON lines, both also compressed
            (.gz, .bz2, .xz).
        min_length: Leave out shorter docs, in tokens.
        max_length: Cut longer docs into pieces of so many tokens; 0 for no limit.
        limit: Read the first texts, this many; 0 reads all.
    """

    path: Path
    min_length: int = 0
    max_length: int = 500
    limit: int = 0

    def __post_init__(self) -> None:
        self.path = Path(self.path)

    def texts(self, skipped: Counter[str]) -> Iterator[str]:
        """Yield the texts, always in the same order, and count what is left out."""
        return islice(texts(self.path, skipped), self.limit or None)

    def docs(self, nlp: Language, text: str) -> Iterator[Doc]:
        """Tokenise a text and cut it into docs."""
        doc: Doc = nlp.tokenizer(text)
        longest = self.max_length or max(len(doc), 1)
        for start in range(0, len(doc), longest):
            piece = doc if len(doc) <= longest else doc[start : start + longest].as_doc()
            if len(piece) >= self.min_length:
                yield piece

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Yield Examples, as spaCy's readers do."""
        for text in self.texts(Counter()):
            for doc in self.docs(nlp, text):
                yield Example(doc, doc.copy())


def text_of(reader: Any) -> RawText:
    """Return the text that a reader reads, spaCy's readers of raw text too.

    Raises:
        PretrainingError: it is another reader, or its path has no text.
    """
    if isinstance(reader, JsonlCorpus | PlainTextCorpus) and reader.path is not None:
        lengths = reader.min_length, reader.max_length
        reader = RawText(reader.path, *lengths, getattr(reader, "limit", 0))
    if not isinstance(reader, RawText):
        raise PretrainingError(
            "[pretraining] corpus expected a block with trfnb.RawText.v1, spacy.JsonlCorpus.v1 or "
            f"spacy.PlainTextCorpus.v1 and a path, got {reader!r}. Write the text to a file, one "
            "text a line, and give --paths.raw_text PATH."
        )
    refuse(text_problems(reader.path))
    return reader


def text_files(path: Path) -> list[Path]:
    """Return the text files at a path: itself, or those below a folder in the order of names."""
    if not path.is_dir():
        return [path]
    below = sorted(p for p in path.rglob("*") if p.is_file() and _suffix(p) in (*PLAIN, *JSONL))
    return [p for p in below if not any(part[0] == "." for part in p.relative_to(path).parts)]


def texts(path: Path, skipped: Counter[str], most: int | None = None) -> Iterator[str]:
    """Yield the texts of a file or folder, always in the same order.

    Args:
        path: The file or folder.
        skipped: Counts the lines that are left out, by reason.
        most: Lines of each file to read; all by default.

    Raises:
        PretrainingError: a file cannot be read to its end.
    """
    for file in text_files(path):
        try:
            is_json = _suffix(file) in JSONL
            unpacked(str(file))  # refuses an archive of several files
            # Not fsspec.open, which takes "::" in a file's name for a chain of addresses.
            with LocalFileSystem().open(
                str(file), "r", encoding="utf-8-sig", errors="surrogateescape", compression="infer"
            ) as opened:
                longest = 100 * LONGEST if is_json else LONGEST  # bounds the memory
                for line in islice(iter(partial(opened.readline, longest), ""), most):
                    text, reason = _text_in(line, is_json)
                    if reason:
                        skipped[reason] += 1
                    yield from (text[i : i + LONGEST] for i in range(0, len(text), LONGEST))
        except Exception as error:  # each compression raises its own
            raise PretrainingError(
                f"{file}: expected a file that can be read to its end, got "
                f"{type(error).__name__}: {error}. Check the file; pack a broken archive again."
            ) from error


def text_problems(path: Path) -> list[str]:
    """Return what makes a path useless as text, one entry a file; empty if nothing does."""
    if not path.exists():
        return [f"{path}: expected a text file or a folder, got no such path. Check it."]
    none = (
        f"{path}: expected files that end in {', '.join((*PLAIN, *JSONL))} (or .gz and the "
        "like after it), got none. Rename them, or give another folder."
    )
    files = text_files(path)
    return list(filter(None, map(_file_problem, files))) if files else [none]


@dataclass(frozen=True)
class Position:
    """A place in the stream: what comes next is batch ``batch`` of shard ``shard``."""

    epoch: int = 0
    shard: int = 0
    batch: int = 0


@dataclass
class Stream:
    """Batches of a text.

    Attributes:
        nlp: Tokenises.
        text: Where the texts come from.
        batcher: Groups Docs, as ``[pretraining.batcher]`` does.
        held_out: Numbers of texts that are left for the dev loss.
        shard_size: Characters of a shard, about; its docs are mixed.
        seed: Of the mixing.
    """

    nlp: Language
    text: RawText
    batcher: Callable[[Iterable[Doc]], Iterable[list[Doc]]]
    held_out: frozenset[int] = frozenset()
    shard_size: int = 400_000
    seed: int = 0

    def batches(self, start: Position, epochs: int) -> Iterator[tuple[Position, list[Doc]]]:
        """Yield batches from a place on, each with the place after it, until ``epochs`` passes end.

        Raises:
            PretrainingError: a whole pass gave no batch.
        """
        for epoch in range(start.epoch, epochs):
            first = start if epoch == start.epoch else Position(epoch)
            empty, skipped = first == Position(epoch), Counter[str]()
            for shard, texts in islice(enumerate(self._shards(skipped)), first.shard, None):
                batches = enumerate(self._batches(epoch, shard, texts), start=1)
                used = first.batch if shard == first.shard else 0
                for number, docs in islice(batches, used, None):
                    empty = False
                    yield Position(epoch, shard, number), docs
            if empty:
                raise PretrainingError(
                    f"{self.text.path}: expected text to train on, got no batch. Lower min_length, "
                    "or give more text."
                )
            # Every pass leaves out the same lines.
            for reason, count in skipped.items() if epoch == 0 else ():
                logger.warning("%s: left out %d lines: %s", self.text.path, count, reason)

    def _shards(self, skipped: Counter[str]) -> Iterator[list[str]]:
        shard, length = list[str](), 0
        for number, text in enumerate(self.text.texts(skipped)):
            if number not in self.held_out:
                shard.append(text)
                length += len(text)
            if length >= self.shard_size:
                yield shard
                shard, length = [], 0
        yield shard

    def _batches(self, epoch: int, shard: int, texts: list[str]) -> Iterator[list[Doc]]:
        docs = [doc for text in texts for doc in self.text.docs(self.nlp, text)]
        order = np.random.default_rng([self.seed, epoch, shard]).permutation(len(docs))
        return map(list, self.batcher(docs[i] for i in order))


def held_out(nlp: Language, text: RawText, words: int) -> tuple[frozenset[int], list[Doc]]:
    """Choose texts for the dev loss: every tenth until they have enough words.

    Returns:
        The texts' numbers, and their docs.
    """
    numbers, docs = set[int](), list[Doc]()
    for number, every_tenth in islice(enumerate(text.texts(Counter())), 9, None, 10):
        if sum(map(len, docs)) >= words:
            break
        numbers.add(number)
        docs += text.docs(nlp, every_tenth)
    return frozenset(numbers), docs


def _suffix(path: Path) -> str:
    return Path(path.stem if infer_compression(path.name) else path.name).suffix.lower()


# A line's text, or '' and why it cannot be used.
def _text_in(line: str, is_json: bool) -> tuple[str, str]:
    if "\0" in line:
        return "", BINARY
    try:
        text = json.loads(line)["text"] if is_json and line.strip() else line
        text.encode()
    except UnicodeEncodeError:  # half a character, or a byte that was no UTF-8
        return "", NOT_UTF8
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", NO_JSON
    return text.replace("\0", " ").strip(), ""


def _file_problem(path: Path) -> str | None:
    skipped: Counter[str] = Counter()
    try:
        good = sum(1 for _ in texts(path, skipped, most=1000))
    except PretrainingError as error:
        return str(error)
    bad = skipped.total()
    if not good + bad:
        return f"{path}: expected text, got a file without any. Leave it out or check the path."
    if bad <= 0.1 * (good + bad):
        return None
    reasons = ", ".join(f"{reason} ({n})" for reason, n in skipped.most_common())
    return (
        f"{path}: expected text in UTF-8, got {bad} of {good + bad} lines that cannot be used: "
        f"{reasons}. {_ADVICE[skipped.most_common(1)[0][0]]}"
    )
