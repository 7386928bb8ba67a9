"""What every reader hands to the conversion, and the ordinary spaCy pipeline that comes of it.

Keys and rows come in blocks, with a report on the rest. Loading spaCy takes longer and more memory
than converting a table: the empty pipeline around it comes from a process of its own, at work while
the table is read; a copy is kept in the user's cache.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trfnb import __version__
from trfnb.files import atomic_folder

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

FLORET = ("minn", "maxn", "hash_count", "hash_seed", "bow", "eow")
ROWS = 4096  # of a block
_M, _R = np.uint64(0xC6A4A7935BD1E995), np.uint64(47)
_SYMBOLS = "symbols.json"


class VectorsError(ValueError):
    """A vector table that cannot be read, written or used as asked."""


@dataclass
class ConversionReport:
    """The account of one conversion.

    Attributes:
        source: where the table came from.
        format: the format it was read as.
        strict: raise at the first row that does not fit instead of leaving it out.
        rows: rows written.
        keys: keys written (several keys may share a row).
        width: values per row.
        dtype: how a value is stored.
        skipped: reason -> the lines (or rows) left out for it, by number.
        missing: words asked for that the source does not have.
        measures: seconds, error of rounding, what else was measured.
        fingerprint: the table's content hash, see `trfnb.vectors.fingerprint`.
        path: where the table lies.
    """

    source: str
    format: str = ""
    strict: bool = False
    rows: int = 0
    keys: int = 0
    width: int = 0
    dtype: str = "float32"
    skipped: dict[str, list[int]] = field(default_factory=dict)
    missing: int = 0
    measures: dict[str, float] = field(default_factory=dict)
    fingerprint: str = ""
    path: str = ""

    def skip(self, reason: str, line: int, example: str) -> None:
        """Count a row left out; under ``strict`` raise `VectorsError` instead."""
        if self.strict:
            raise VectorsError(
                f"{self.source}: line {line}: {reason} ({example}). Mend the file, or convert "
                "without strict to skip such rows and have them listed."
            )
        self.skipped.setdefault(reason, []).append(line)

    def save(self, directory: Path) -> None:
        """Write the report beside its table, as ``conversion.json``."""
        (directory / "conversion.json").write_text(json.dumps(asdict(self), indent=1), "utf8")

    def __str__(self) -> str:
        skipped = [
            f"skipped {len(places):,}: {reason} (first at line {', '.join(map(str, places[:20]))})"
            for reason, places in self.skipped.items()
        ]
        return "\n".join(
            [
                f"{self.source} ({self.format}) -> {self.path}",
                f"{self.rows:,} rows x {self.width} ({self.dtype}), {self.keys:,} keys, "
                f"fingerprint {self.fingerprint[:12]}",
                f"words asked for and not found: {self.missing:,}",
                *(f"{name}: {value:.6g}" for name, value in self.measures.items()),
                *skipped,
            ]
        )


def murmur64(keys: Sequence[str]) -> Hashes:
    """Hash each key with MurmurHash64A, as spaCy's string store does.

    spaCy gives the empty string and its own symbols other numbers.
    """
    encoded = [key.encode() for key in keys]
    lengths = np.array([len(key) for key in encoded], dtype=np.uint64)
    out = np.empty(len(keys), dtype=np.uint64)
    for full in np.unique(lengths // 8).tolist():  # keys of as many words of eight bytes at once
        places = np.flatnonzero(lengths // 8 == full)
        padded = b"".join(encoded[place].ljust(8 * full + 8, b"\0") for place in places)
        *words, rest = np.frombuffer(padded, "<u8").reshape(-1, full + 1).T
        h = np.uint64(1) ^ (lengths[places] * _M)
        for k in words:
            k = k * _M
            h = (h ^ ((k ^ (k >> _R)) * _M)) * _M
        h = np.where(lengths[places] % 8 > 0, (h ^ rest) * _M, h)
        h = (h ^ (h >> _R)) * _M
        out[places] = h ^ (h >> _R)
    return out


def fasttext_ngram_rows(
    words: Sequence[str], *, buckets: int, minn: int, maxn: int
) -> tuple[Ints, Ints]:
    """Return the buckets of every word's character n-grams, fastText's way.

    A word is wrapped in ``<`` and ``>``; each n-gram of ``minn`` to ``maxn`` characters is hashed
    with 32-bit FNV-1a over its bytes taken as signed, modulo ``buckets``; single characters at
    either end do not count. Source: `Dictionary::computeSubwords` of fastText.

    Returns:
        ``(word, bucket)``: for each n-gram the word's position in ``words`` and its bucket; word
        by word.
    """
    encoded = [f"<{word}>".encode("utf8", "surrogateescape") for word in words]
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    begins = np.flatnonzero((data & 0xC0) != 0x80)  # of each character
    ends = np.append(begins[1:], len(data))
    owner = np.searchsorted(np.cumsum([len(word) for word in encoded]), begins, side="right")
    changes = owner[1:] != owner[:-1]
    at_an_end = np.append(True, changes) | np.append(changes, True)
    signed = data.view(np.int8).astype(np.int32).view(np.uint32)
    found = [np.empty((2, 0), np.int64)]
    longest = int(np.bincount(owner).max(initial=0))
    for n in range(max(minn, 1), min(maxn, longest) + 1):
        first = np.flatnonzero(owner[: len(owner) - n + 1] == owner[n - 1 :])
        first = first[~at_an_end[first]] if n == 1 else first
        low, high = begins[first], ends[first + n - 1]
        h = np.full(len(first), 2166136261, dtype=np.uint32)
        for step in range(int((high - low).max(initial=0))):
            live = low + step < high
            h[live] = (h[live] ^ signed[low[live] + step]) * np.uint32(16777619)
        found.append(np.stack([owner[first], h % np.uint32(buckets)]))
    word, row = np.concatenate(found, axis=1)
    order = np.argsort(word, kind="stable")
    return word[order], row[order]


@dataclass(frozen=True)
class Block:
    """Rows read together.

    Attributes:
        keys: the keys; bytes that are not UTF-8 stand in them as surrogates.
        vectors: (rows, width) float32.
        lines: each key's line number in a text, or its position from 1 otherwise.
        rows: each key's row in ``vectors``: several keys may share one.
    """

    keys: list[str]
    vectors: Floats
    lines: Ints
    rows: Ints

    def take(self, index: npt.NDArray[np.bool_]) -> "Block":
        """Return the keys chosen by a mask, with the rows that they need."""
        if index.all():
            return self
        used, rows = np.unique(self.rows[index], return_inverse=True)
        keys = [key for key, chosen in zip(self.keys, index.tolist(), strict=True) if chosen]
        return Block(keys, self.vectors[used], self.lines[index], rows.astype(np.int64))


def usable(
    keys: list[str],
    vectors: Floats,
    lines: Ints,
    report: ConversionReport,
    rows: Ints | None = None,
) -> Block:
    """Return a block of the keys that are not empty, are UTF-8 and have a finite row.

    The others are named in the report. By default each key has the row at its own place.
    """
    rows = np.arange(len(keys)) if rows is None else rows
    finite = np.asarray(np.isfinite(vectors).all(axis=1))[rows]
    good = finite & np.array([bool(key) and is_utf8(key) for key in keys], dtype=bool)
    for place in np.flatnonzero(~good).tolist():
        key = keys[place]
        reason = "a value is not a finite float32" if key else "no key"
        reason = reason if is_utf8(key) else "key is not UTF-8"
        report.skip(reason, int(lines[place]), ascii(key[:40]))
    return Block(keys, vectors, lines, rows).take(good)


def in_blocks(
    keys: list[str], rows: Callable[[int, int], Floats], report: ConversionReport
) -> Iterator[Block]:
    """Yield a table of one row per key a block at a time; ``rows(start, end)`` reads a part."""
    for start in range(0, len(keys), ROWS):
        part = keys[start : start + ROWS]
        end = start + len(part)
        yield usable(part, rows(start, end), np.arange(start, end) + 1, report)


def is_utf8(key: str) -> bool:
    """Say whether a key's bytes were UTF-8."""
    return key.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in key)


@dataclass
class Source:
    """A table being read.

    Attributes:
        format: what it is.
        width: values per row.
        blocks: its rows, in the file's order, a block at a time; read once.
        floret: the settings named in `FLORET` when rows are floret's hash buckets, keyed by their
            numbers.
        compose: for tables with subwords: from words to blocks of those that have a subword.
        attr: the token attribute that keys are looked up by, where the source says so.
    """

    format: str
    width: int
    blocks: Iterator[Block]
    floret: dict[str, Any] | None = None
    compose: Callable[[list[str]], Iterator[Block]] | None = None
    attr: str | None = None


def unit(vectors: Floats) -> Floats:
    """Return rows of length one; rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


class TableFiles:
    """A table's files in a ``vocab`` directory, written block by block.

    Memory grows by 12 bytes per key.

    Attributes:
        rows: rows written.
        largest_error: of rounding to float16.
        digest: the hash of the rows as float32, for `content_hash`.
    """

    def __init__(self, vocab: Path, width: int, dtype: str) -> None:
        self.vocab, self.width = vocab, width
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.rows, self.largest_error = 0, 0.0
        self.digest = hashlib.blake2b(digest_size=16)
        self._hashes, self._rows = [np.empty(0, np.uint64)], [np.empty(0, np.uint32)]
        self._strings = (vocab / "strings.json").open("w", encoding="utf8")
        self._table = (vocab / "vectors").open("wb")
        self._write_header()

    def _write_header(self) -> None:
        # NumPy leaves room in it for any number of rows.
        np.lib.format.write_array_header_1_0(
            self._table,
            {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, self.width)},
        )

    def write(self, block: Block, hashes: Hashes) -> None:
        """Append rows and their keys; numbers beyond float16 become the nearest that it has."""
        stored = np.ascontiguousarray(block.vectors, dtype="<f4")
        if self.dtype.itemsize == 2:
            rounded = block.vectors.clip(-65504, 65504).astype(self.dtype)
            stored = rounded.astype("<f4")
            errors = np.abs(stored - block.vectors)
            self.largest_error = float(errors.max(initial=self.largest_error))
        self.digest.update(stored.data)
        self._table.write(stored.astype(self.dtype, copy=False).data)
        if len(hashes):
            self._strings.write(", " if len(self._hashes) > 1 else "[")
            self._strings.write(json.dumps(block.keys, ensure_ascii=False)[1:-1])
            self._hashes.append(hashes)
            self._rows.append((block.rows + self.rows).astype(np.uint32))
        self.rows += len(stored)

    def finish(self, symbols: dict[str, int]) -> tuple[Hashes, Ints]:
        """Complete the files; return what `content_hash` takes of every key, as spaCy will see it.

        Args:
            symbols: spaCy's reserved strings, whose numbers stand for their hashes.
        """
        self._strings.write("]" if len(self._hashes) > 1 else "[]")
        self._strings.close()
        self._table.seek(0)
        self._write_header()
        self._table.close()
        hashes, rows = np.concatenate(self._hashes), np.concatenate(self._rows)
        numbers = dict(zip(murmur64(list(symbols)).tolist(), symbols.values(), strict=True))
        for place in np.flatnonzero(np.isin(hashes, np.array(list(numbers), np.uint64))):
            hashes[place] = numbers[int(hashes[place])]
        # As msgpack: a map of uint64 to uint32, of one width per pair.
        pair = np.dtype([("a", "u1"), ("key", ">u8"), ("b", "u1"), ("row", ">u4")])
        packed = np.empty(len(hashes), dtype=pair)
        packed["a"], packed["b"], packed["key"], packed["row"] = 0xCF, 0xCE, hashes, rows
        head = b"\xdf" + len(hashes).to_bytes(4, "big")
        (self.vocab / "key2row").write_bytes(head + packed.tobytes())
        return hashes, rows.astype(np.int64) if len(rows) else np.arange(self.rows)


def content_hash(hashes: Hashes, rows: Ints, digest: bytes, settings: dict[str, Any]) -> str:
    """Hash a table's settings, its keys, and their rows.

    Args:
        hashes: the keys' numbers.
        rows: each key's row; all rows where there are no keys, as in floret's tables. Rows without
            a key do not count: spaCy puts new words there.
        digest: the hash of these rows' numbers as float32, each once, in order.
        settings: the mode and, for floret, its settings; the attribute.
    """
    order = np.argsort(hashes, kind="stable")
    whole = hashlib.blake2b(digest, digest_size=16)
    whole.update(json.dumps(sorted(settings.items())).encode())
    whole.update(np.ascontiguousarray(hashes[order], dtype="<u8").data)
    whole.update(np.ascontiguousarray(rows[order] if len(hashes) else rows, dtype="<i8").data)
    return whole.hexdigest()


def corpus_words(corpus: Any) -> Counter[str]:
    """Count the words of a corpus.

    Args:
        corpus: what `trfnb.corpora.load` gives or takes (a name or a path), Docs, lists of
            words, or texts (split at spaces).
    """
    if isinstance(corpus, (str, PathLike)):
        from trfnb import corpora

        corpus = corpora.load(str(corpus))
    counts: Counter[str] = Counter()
    for sentence in getattr(corpus, "train", corpus):
        if isinstance(sentence, str):
            sentence = sentence.split()
        tokens = getattr(sentence, "words", getattr(sentence, "reference", sentence))
        counts.update(token if isinstance(token, str) else token.text for token in tokens)
    return counts


def empty_pipeline(lang: str, directory: Path) -> dict[str, int]:
    """Write an empty pipeline's config and tokenizer; return spaCy's reserved strings' numbers.

    Raises:
        VectorsError: spaCy does not know the language, or lacks what its tokenizer needs.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = cache / "trfnb" / "pipelines" / f"{lang}-{__version__}-spacy-{version('spacy')}"
    try:
        if "spacy" in sys.modules:
            # It may know another language under this code than a new process does.
            write_pipeline(lang, directory)
        elif (kept / _SYMBOLS).is_file():
            shutil.copytree(kept, directory, dirs_exist_ok=True)
        else:
            code = f"import sys, {__name__} as writer; writer.write_pipeline(*sys.argv[1:])"
            subprocess.run(
                [sys.executable, "-c", code, lang, str(directory)],
                check=True,
                capture_output=True,
                text=True,
            )
            # A cache that cannot be written is no reason to fail.
            with suppress(OSError), atomic_folder(kept, sync=False) as folder:
                for name in ("config.cfg", "tokenizer", _SYMBOLS):
                    shutil.copy(directory / name, folder / name)
    except (ImportError, subprocess.CalledProcessError) as problem:
        why = str(getattr(problem, "stderr", None) or problem).strip().splitlines()[-1]
        raise VectorsError(
            f"An empty pipeline for lang={lang!r} could not be made: {why}. Give a language "
            "code that spaCy knows, for example lang='en' or 'xx'."
        ) from problem
    file = directory / _SYMBOLS
    symbols: dict[str, int] = json.loads(file.read_text("utf8"))
    file.unlink()
    return symbols


def write_pipeline(lang: str, directory: str | Path) -> None:
    """Write an empty pipeline's config and tokenizer, and spaCy's reserved strings, by spaCy."""
    from spacy.symbols import IDS
    from spacy.util import get_lang_class

    nlp: Any = get_lang_class(lang)()
    config = nlp.config.copy()
    config["nlp"]["vectors"] = {"@vectors": "trfnb.Vectors.v1"}
    config.to_disk(Path(directory) / "config.cfg")
    nlp.tokenizer.to_disk(Path(directory) / "tokenizer", exclude=["vocab"])
    (Path(directory) / _SYMBOLS).write_text(json.dumps(dict(IDS)), "utf8")
