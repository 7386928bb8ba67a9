"""Raw text as a stream: files → records → shards → batches of Docs.

A record is a line of text or a JSON object. Records are taken in shards of about the same size.
Shuffling and batching happen within a shard and follow from its number alone. A run therefore
resumes in the middle of a text from two numbers: the shard, and how many of its batches were used.
"""

import gzip
import json
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import spacy
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from fsspec.utils import infer_compression  # type: ignore[import-untyped]
from spacy.cli._util import import_code
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.training.corpus import JsonlCorpus, PlainTextCorpus
from spacy.util import load_model_from_config
from thinc.api import Config
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from trfnb.pipe.architectures import registry

# Words, and whether a space follows each.
Words = tuple[list[str], list[bool]]
# Text to tokenise, or words that are tokens already.
Record = str | Words

PLAIN, JSONL, DOCBIN = (".txt", ".text"), (".jsonl", ".ndjson", ".json"), (".spacy",)
LONGEST_LINE = 1_000_000  # bytes
# Why a line is left out -> what to do where many are.
BINARY, NOT_UTF8, NO_JSON = "bytes of zero in the text", "not UTF-8", "no JSON object with a text"
TOO_LONG = f"a line of more than {LONGEST_LINE:,} bytes"
BROKEN = "the rest of a broken archive"
_ADVICE = {
    BINARY: "Binary data does not belong here; `iconv -f UTF-16 -t UTF-8` converts UTF-16, and "
    "`tr -d '\\000'` takes single zeros out.",
    NOT_UTF8: "Convert it to UTF-8, e.g. `iconv -f LATIN1 -t UTF-8`.",
    NO_JSON: 'Write one object a line, with the key "text" or "tokens".',
    TOO_LONG: "Put one paragraph on each line.",
    BROKEN: "Pack it again.",
}


class PretrainingError(ValueError):
    """Settings, text, weights or a folder that cannot be used.

    Args:
        problems: Each names the object, what was expected, what was found, and what to do.
    """

    def __init__(self, *problems: str) -> None:
        several = "Cannot pretrain:\n- " + "\n- ".join(problems)
        super().__init__(problems[0] if len(problems) == 1 else several)


def refuse(problems: Sequence[str]) -> None:
    """Raise all problems at once, if there are any."""
    if problems:
        raise PretrainingError(*problems)


@registry.readers("trfnb.RawText.v1")
@dataclass
class RawText:
    """Raw text on disk: a reader for ``trfnb pretrain`` and for ``spacy pretrain``.

    Attributes:
        path: A file or a folder: plain text (one text a line), JSON lines, both also compressed
            (.gz, .bz2, .xz), and ``.spacy``.
        min_length: Leave out shorter docs, in tokens.
        max_length: Longest doc in tokens, 0 for no limit.
        limit: Read the first records, this many; 0 reads all.
        split: Cut longer docs into pieces; otherwise they are left out.
    """

    path: Path
    min_length: int = 0
    max_length: int = 500
    limit: int = 0
    split: bool = True

    def __post_init__(self) -> None:
        self.path = Path(self.path)

    def records(self, skipped: Counter[str]) -> Iterator[Record]:
        """Yield the records, always in the same order, and count what is left out."""
        return islice(records(self.path, skipped), self.limit or None)

    def docs(self, nlp: Language, record: Record) -> Iterator[Words]:
        """Tokenise a record and cut it into docs."""
        if isinstance(record, str):
            record = _words(nlp.make_doc(record[: nlp.max_length]))
        words, spaces = record
        if self.max_length and not self.split and len(words) > self.max_length:
            return
        step = self.max_length or max(len(words), 1)
        for start in range(0, len(words), step):
            piece = words[start : start + step], spaces[start : start + step]
            if len(piece[0]) >= self.min_length:
                yield piece

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Yield Examples, as spaCy's readers do."""
        for record in self.records(Counter()):
            for words, spaces in self.docs(nlp, record):
                doc = Doc(nlp.vocab, words=words, spaces=spaces)
                yield Example(doc, doc.copy())


@dataclass
class OwnReader:
    """A reader that a user registered: it tokenises by itself and gives Examples or Docs."""

    reader: Callable[[Language], Any]
    nlp: Language
    path: str = "[pretraining] corpus"

    def records(self, skipped: Counter[str]) -> Iterator[Record]:
        """Yield the words of each doc."""
        for one in self.reader(self.nlp):
            yield _words(one if isinstance(one, Doc) else one.reference)

    def docs(self, nlp: Language, record: Record) -> Iterator[Words]:
        """Yield each doc as it is."""
        if not isinstance(record, str) and record[0]:
            yield record


Text = RawText | OwnReader


def text_of(reader: Callable[[Language], Any], nlp: Language) -> Text:
    """Return the text that a reader reads; spaCy's readers are read as streams."""
    if isinstance(reader, RawText):
        return reader
    if isinstance(reader, JsonlCorpus | PlainTextCorpus) and reader.path is not None:
        # spaCy's JSON reader leaves out docs of exactly max_length too.
        longest = max(reader.max_length - isinstance(reader, JsonlCorpus), 0)
        limit = getattr(reader, "limit", 0)
        return RawText(reader.path, reader.min_length, longest, limit, split=False)
    return OwnReader(reader, nlp)


def text_files(path: Path) -> list[Path]:
    """Return the text files at a path: itself, or those below a folder in the order of names."""
    if not path.is_dir():
        return [path]
    below = sorted(p for p in path.rglob("*") if p.is_file())
    hidden = [any(part.startswith(".") for part in p.relative_to(path).parts) for p in below]
    return [p for p, hide in zip(below, hidden, strict=True) if _kind(p) and not hide]


def records(path: Path, skipped: Counter[str], most: int | None = None) -> Iterator[Record]:
    """Yield the records of a file or folder, always in the same order.

    Args:
        path: The file or folder.
        skipped: Counts the lines that are left out, by reason.
        most: Lines of each file to read; all by default.
    """
    for file in text_files(path):
        if _kind(file) in DOCBIN:
            docs = DocBin().from_disk(file).get_docs(spacy.blank("xx").vocab)
            yield from (_words(doc) for doc in docs if len(doc))
            continue
        for line in _lines(file, skipped, most):
            record = _parsed(line) if _kind(file) in JSONL else line
            if record is None:
                skipped[NO_JSON] += 1
            else:
                yield record


def text_problems(path: Path | None) -> list[str]:
    """Return what makes a path useless as text, one entry a file; empty if nothing does."""
    if path is None:
        return ["The corpus has no path. Set [paths] raw_text, or give --paths.raw_text PATH."]
    if not path.exists():
        return [f"{path}: expected a text file or a folder, got no such path. Check it."]
    files = text_files(path)
    if not files:
        known = ", ".join((*PLAIN, *JSONL, *DOCBIN))
        return [
            f"{path}: expected files that end in {known} (or .gz and the like after it), got "
            "none. Rename them, or give another folder."
        ]
    return [problem for file in files if (problem := _file_problem(file))]


def _file_problem(path: Path) -> str | None:
    skipped: Counter[str] = Counter()
    try:
        found = sum(1 for _ in records(path, skipped, most=1000))
    except Exception as error:  # whatever msgpack, an archive or the disk finds wrong with it
        return f"{path}: cannot be read ({type(error).__name__}: {error}). Check the file."
    bad = skipped.total()
    if not found + bad:
        return f"{path}: expected text, got a file without any. Leave it out or check the path."
    if bad <= 0.1 * (found + bad):
        return None
    reasons = ", ".join(f"{reason} ({n})" for reason, n in skipped.most_common())
    return (
        f"{path}: expected text in UTF-8, got {bad} of {found + bad} lines that cannot be used: "
        f"{reasons}. {_ADVICE[skipped.most_common(1)[0][0]]}"
    )


@dataclass(frozen=True, order=True)
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
        text: Where the records come from.
        batcher: Groups Docs, as ``[pretraining.batcher]`` does.
        held_out: Numbers of records that are left for the dev loss.
        shard_size: Characters of a shard, about.
        shuffle: Mix the docs of each shard.
        seed: Of the mixing.
        workers: Processes that tokenise ahead; 0 tokenises in this one.
        code: A file of registered functions that the workers import first.
        skipped: Lines that were left out of the text, by reason, however often it was read.
    """

    nlp: Language
    text: Text
    batcher: Callable[[Iterable[Doc]], Iterable[list[Doc]]]
    held_out: frozenset[int] = frozenset()
    shard_size: int = 400_000
    shuffle: bool = True
    seed: int = 0
    workers: int = 0
    code: str | Path | None = None
    skipped: Counter[str] = field(default_factory=Counter)

    def batches(self, start: Position, epochs: int) -> Iterator[tuple[Position, list[Doc]]]:
        """Yield batches from a place on, each with the place after it, until ``epochs`` passes end.

        Raises:
            PretrainingError: a whole pass gave no batch, or a worker ended.
        """
        for epoch in range(start.epoch, epochs):
            first = start.shard if epoch == start.epoch else 0
            empty = first == 0
            for shard, pieces, skipped in self._shards(first):
                # A pass that begins again leaves out the same lines again.
                self.skipped |= skipped
                used = start.batch if (epoch, shard) == (start.epoch, start.shard) else 0
                for number, docs in enumerate(self._batches(epoch, shard, pieces), start=1):
                    empty = False
                    if number > used:
                        yield Position(epoch, shard, number), docs
            if empty:
                left = ", ".join(f"{reason} ({n})" for reason, n in self.skipped.items())
                raise PretrainingError(
                    f"{self.text.path}: expected text to train on, got no batch"
                    + (f"; lines left out: {left}. " if left else ". ")
                    + "Lower min_length, raise max_length, or give more text."
                )

    def _shards(self, first: int) -> Iterator[tuple[int, list[Words], Counter[str]]]:
        workers = 0 if isinstance(self.text, OwnReader) else self.workers
        shards = _Shards(self, first)
        # A fork would copy the locks of this process's threads, closed or not.
        context = "spawn" if workers else None
        loader: DataLoader[Any] = DataLoader(
            shards,
            batch_size=None,
            num_workers=workers,
            collate_fn=tuple,  # the default one would look at every word
            multiprocessing_context=context,
        )
        try:
            yield from loader
        except RuntimeError as error:
            if not workers:
                raise
            raise PretrainingError(
                f"[pretraining_loop] workers expected {workers} processes that tokenise, got one "
                f"that ended ({error}). If it was killed for memory, lower shard_size or workers."
            ) from error

    def _batches(self, epoch: int, shard: int, pieces: list[Words]) -> Iterator[list[Doc]]:
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch, shard]).permutation(len(pieces))
            pieces = [pieces[i] for i in order]
        return map(list, self.batcher(docs_of(self.nlp, pieces)))


class _Shards(IterableDataset[Any]):
    """Tokenised shards; among several workers each takes every n-th.

    A worker ends by itself when the process that trains is gone: torch sees to that.
    """

    def __init__(self, stream: Stream, first: int) -> None:
        self.nlp, self.text, self.code = stream.nlp, stream.text, stream.code
        self.held_out, self.size, self.first = stream.held_out, stream.shard_size, first

    def __getstate__(self) -> dict[str, Any]:
        # A pipeline cannot be pickled: a worker builds its tokenizer again.
        config = Config({"nlp": dict(self.nlp.config["nlp"]) | {"pipeline": []}})
        tokenizer: Any = self.nlp.tokenizer
        state = tokenizer.to_bytes() if hasattr(tokenizer, "to_bytes") else None
        return self.__dict__ | {"nlp": (config.to_str(), state)}

    def __iter__(self) -> Iterator[tuple[int, list[Words], Counter[str]]]:
        worker, nlp = get_worker_info(), self.nlp
        own, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        if isinstance(nlp, tuple):
            nlp = self._rebuilt(*nlp)
        skipped: Counter[str] = Counter()
        for number, group in enumerate(self._groups(skipped), start=-self.first):
            if number >= 0 and number % workers == own:
                docs = [piece for record in group for piece in self.text.docs(nlp, record)]
                yield number + self.first, docs, skipped.copy()

    def _groups(self, skipped: Counter[str]) -> Iterator[list[Record]]:
        group: list[Record] = []
        length = 0
        for number, record in enumerate(self.text.records(skipped)):
            if number not in self.held_out:
                group.append(record)
                length += len(record) if isinstance(record, str) else sum(map(len, record[0]))
            if length >= self.size:
                yield group
                group, length = [], 0
        # Even if it is empty: lines may have been left out after the one before.
        yield group

    def _rebuilt(self, config: str, state: bytes | None) -> Language:
        try:
            import_code(self.code)
            nlp = load_model_from_config(Config().from_str(config), auto_fill=True)
            restored: Any = nlp.tokenizer
            if state is not None:
                restored.from_bytes(state)
        except Exception as error:
            raise PretrainingError(
                "[pretraining_loop] workers expected processes that can build the config's "
                f"tokenizer, got an error in one: {error} Give registered functions by --code, or "
                "set workers to 0."
            ) from error
        return nlp


def held_out(nlp: Language, text: Text, words: int) -> tuple[frozenset[int], list[Doc]]:
    """Choose records for the dev loss: every tenth until they have enough words.

    Returns:
        The records' numbers, and their docs.
    """
    numbers: list[int] = []
    docs: list[Doc] = []
    for number, record in islice(enumerate(text.records(Counter())), 9, None, 10):
        if sum(map(len, docs)) >= words:
            break
        numbers.append(number)
        docs += docs_of(nlp, text.docs(nlp, record))
    return frozenset(numbers), docs


def docs_of(nlp: Language, pieces: Iterable[Words]) -> Iterator[Doc]:
    """Make Docs of words and spaces."""
    for words, spaces in pieces:
        yield Doc(nlp.vocab, words=words, spaces=spaces)


def _words(doc: Doc) -> Words:
    return [token.text for token in doc], [bool(token.whitespace_) for token in doc]


def _kind(path: Path) -> str:
    """Return the suffix that says how to read a file, '' where none does."""
    name = Path(path.stem if infer_compression(path.name) else path.name)
    suffix = name.suffix.lower()
    return suffix if suffix in (*PLAIN, *JSONL, *DOCBIN) else ""


def _lines(path: Path, skipped: Counter[str], most: int | None) -> Iterator[str]:
    """Yield a file's lines that are not blank, and leave out what is no line of UTF-8 text."""
    with LocalFileSystem().open(str(path), "rb", compression="infer") as file:
        for raw in islice(_raw_lines(file, skipped), most):
            if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                skipped[TOO_LONG] += 1
            elif b"\0" in raw:
                skipped[BINARY] += 1
            else:
                try:
                    text = raw.decode("utf-8-sig").strip()
                except UnicodeDecodeError:
                    skipped[NOT_UTF8] += 1
                    continue
                if text:
                    yield text


def _raw_lines(file: IO[bytes], skipped: Counter[str]) -> Iterator[bytes]:
    """Yield lines, of a longer one the first `LONGEST_LINE` bytes."""
    try:
        while raw := file.readline(LONGEST_LINE):
            yield raw
            while len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                raw = file.readline(LONGEST_LINE)
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError):
        skipped[BROKEN] += 1


def _parsed(line: str) -> Record | None:
    try:
        found: Any = json.loads(line)
        if not isinstance(found, dict):
            return None
        text, tokens = found.get("text"), found.get("tokens")
        if isinstance(text, str) and text.strip():
            text.encode()
            return text
        if isinstance(tokens, list) and tokens and all(isinstance(t, str) and t for t in tokens):
            "".join(tokens).encode()
            return tokens, [True] * len(tokens)
    # No JSON, half a character that UTF-8 cannot spell, a number too long, brackets too deep.
    except (ValueError, RecursionError):
        return None
    return None
