"""Convert a vector table from any format into one that spaCy loads, in bounded memory."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from trfnb.files import atomic_folder
from trfnb.vectors.blocks import (
    Block,
    Floats,
    Hashes,
    Report,
    Source,
    VectorsError,
    forget,
    murmur64,
    principal_components,
    unit,
)
from trfnb.vectors.readers_binary import (
    FASTTEXT_MAGIC,
    KeysLike,
    from_gensim,
    from_spacy,
    read_array,
    read_fasttext,
    read_gensim,
    read_safetensors,
)
from trfnb.vectors.readers_text import looks_like_word2vec, open_stream, read_text, read_word2vec
from trfnb.vectors.writer import EmptyPipeline, KeyFile, RowFile, content_hash

DTYPES = ("float32", "float16")
FORMATS = ("auto", "text", "word2vec", "fasttext", "gensim", "npy", "safetensors")
_ATTRS = ("ORTH", "LOWER", "NORM", "LEMMA", "SHAPE", "PREFIX", "SUFFIX")
_ROWS = 4096
Words = str | PathLike[str] | Iterable[str]


def convert(
    source: Any,
    path: str | PathLike[str],
    *,
    form: str = "auto",
    keys: KeysLike | None = None,
    limit: int | None = None,
    words: Words | None = None,
    corpus: Any = None,
    lower: bool = False,
    normalise: bool = False,
    dtype: str = "float32",
    width: int | None = None,
    attr: str = "ORTH",
    lang: str = "en",
    name: str = "trfnb.vectors",
    strict: bool = False,
    overwrite: bool = False,
) -> Report:
    """Convert a vector table into a directory that `spacy.load` opens.

    The source is read once, a few megabytes at a time; rows that do not fit are left out and
    reported. The table is put in place when it is whole, or not at all.

    Args:
        source: fastText ``.vec`` or ``.bin``, word2vec text or binary, GloVe text, floret, gensim
            ``KeyedVectors`` (a file or the object), ``.npy`` or safetensors with keys, a model of
            model2vec, or a spaCy pipeline (path, package or object). Files may be packed by gzip,
            zip, xz, bzip2 or zstd, or be a URL that fsspec opens;
            ``zip://table.txt::archive.zip`` names one of several. ``"-"`` or an open binary file
            is read as a stream.
        path: the directory to make.
        form: the source's format where its first bytes mislead, one of `FORMATS`.
        keys: keys of an ``.npy`` or safetensors table, a file or a list.
        limit: keep the first rows, this many.
        words: keep these words (a list, or a file with one per line); a table with subwords gives
            vectors for all of them.
        corpus: keep the words of this corpus, see `corpus_words`.
        lower: lower-case the keys; the first spelling's vector stands for all.
        normalise: make every row's length one.
        dtype: ``"float32"`` or ``"float16"``, whose rounding error is in the report and which
            needs ``[nlp.vectors] @vectors = "trfnb.Vectors.v1"``.
        width: reduce to so many dimensions by principal components.
        attr: the token attribute that keys are looked up by; LOWER lower-cases the keys too.
        lang: the language of the empty pipeline that carries the table.
        name: the table's name.
        strict: raise at the first row that does not fit.
        overwrite: replace what is at ``path``, if that is a table.

    Returns:
        The report, saved in the directory as ``conversion.json``.

    Raises:
        VectorsError: the source cannot be read, an option is wrong, or the disk is full.
    """
    begun, path, attr = time.perf_counter(), Path(path), attr.upper()
    wrong = []
    for option, value, known in (
        ("dtype", dtype, DTYPES), ("form", form, FORMATS), ("attr", attr, _ATTRS)
    ):  # fmt: skip
        if value not in known:
            wrong.append(f"{option}: expected one of {', '.join(known)}, got {value!r}")
    for option, number in (("limit", limit), ("width", width)):
        if number is not None and number < 1:
            wrong.append(f"{option}: expected at least 1, got {number}")
    if wrong:
        raise VectorsError("Cannot convert: " + "; ".join(wrong) + ".")
    check_place(path, overwrite=overwrite)
    label = source if isinstance(source, (str, PathLike)) else getattr(source, "name", "an object")
    report = Report(str(label), strict=strict, dtype=dtype, path=str(path))
    try:
        with ExitStack() as stack:
            folder = stack.enter_context(atomic_folder(path, sync=False))
            pipeline = stack.enter_context(EmptyPipeline(lang, folder))
            asked = asked_words(words, corpus)
            scratch = folder / ".source"
            opened = open_source(source, report, scratch, stack, form=form, keys=keys)
            report.format, report.width = opened.format, width or opened.width
            hashed = opened.floret is not None and asked is None
            if hashed and (lower or normalise or limit is not None):
                raise VectorsError(
                    "A floret table has hash buckets, not words: lower, normalise and limit do "
                    "not apply to it. Give words to make an ordinary table of it."
                )
            if attr == "LOWER" and not lower and not hashed:
                report.notes.append(
                    "keys were lower-cased: no token would find the others by LOWER"
                )
            chosen = _Choice(report, asked, lower=lower or attr == "LOWER", limit=limit)
            (folder / "vocab").mkdir()
            table = RowFile(
                folder / "vocab" / "vectors", opened.width, "float32" if width else dtype
            )
            index = KeyFile(folder / "vocab")
            for block in _blocks(opened, asked):
                if not hashed:
                    block, hashes = chosen(block)
                    index.write(block.keys, hashes, block.rows + table.rows)
                table.write(unit(block.vectors) if normalise and not width else block.vectors)
                if chosen.full:
                    break
            table.finish()
            scratch.unlink(missing_ok=True)
            if not table.rows:
                raise VectorsError(f"{label}: no usable row was found.\n{report}")
            if width:
                table = _reduced(table, width, dtype, report, normalise=normalise)
            if dtype != "float32":
                report.measures["rounding_largest_error"] = table.largest_error
            report.missing = chosen.missing
            floret = opened.floret if hashed else None
            _finish(folder, table, index, pipeline, report, floret, attr, lang, name)
            report.measures["seconds"] = time.perf_counter() - begun
            report.save(folder)
    except OSError as problem:
        raise VectorsError(
            f"{path}: could not be written: {problem}. Nothing was left behind; make room or "
            "choose another place."
        ) from problem
    return report


def check_place(path: Path, *, overwrite: bool) -> None:
    """Raise `VectorsError` unless a table may be written to ``path``."""
    if path.exists() and not overwrite:
        raise VectorsError(f"{path}: already there. Choose another place, or overwrite it.")
    table = path.is_dir() and ((path / "vocab").is_dir() or not any(path.iterdir()))
    if path.exists() and not table:
        raise VectorsError(
            f"{path}: expected a table or an empty directory to overwrite. Choose another place."
        )


def open_source(
    source: Any,
    report: Report,
    scratch: Path,
    stack: ExitStack,
    *,
    form: str = "auto",
    keys: KeysLike | None = None,
) -> Source:
    """Open a table in any known format.

    Args:
        source: see `convert`.
        report: takes note of what does not fit.
        scratch: a file that may be written, to unpack a format that is mapped.
        stack: closes what is opened here.
        form: one of `FORMATS`; ``"auto"`` looks at the first bytes.
        keys: the rows' keys, for formats that keep numbers only.

    Raises:
        VectorsError: the source cannot be read.
    """
    if any(hasattr(source, name) for name in ("index_to_key", "wv")):
        return from_gensim(source, report)
    if any(hasattr(source, name) for name in ("vocab", "vectors", "key2row")):
        return from_spacy(source, report)
    if isinstance(source, (str, PathLike)) and "://" not in str(source) and str(source) != "-":
        file = Path(source) / "model.safetensors"
        if file.is_file() and not (Path(source) / "config.cfg").is_file():
            return read_safetensors(file, report, str(file), keys)
        if not Path(source).exists() or Path(source).is_dir():
            from trfnb.vectors.store import load

            return from_spacy(load(source), report)
    elif not hasattr(source, "read") and not isinstance(source, (str, PathLike)):
        raise VectorsError(
            f"Expected a path, a binary stream, a spaCy or a gensim object, got {type(source)}."
        )
    stream = open_stream(source, scratch, stack)
    head = stream.peek(1 << 16)
    if not head:
        raise VectorsError(f"{stream.name}: expected vectors, the file is empty.")
    if form == "auto":
        form = _format(head)
    if keys is not None and form not in ("npy", "safetensors"):
        raise VectorsError(f"Expected keys for a table without, such as .npy; {form} has its own.")
    if form == "text":
        return read_text(stream, report)
    if form == "word2vec":
        return read_word2vec(stream, report)
    # The others are mapped from a file: what is no plain file is unpacked first.
    place = stream.file if stream.file is not None else stream.to_file(scratch)
    if form in ("fasttext", "gensim"):
        read = read_fasttext if form == "fasttext" else read_gensim
        return read(place, report, stream.name)
    read_keyed = read_array if form == "npy" else read_safetensors
    return read_keyed(place, report, stream.name, keys)


def _format(head: bytes) -> str:
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head[8:10] == b'{"':
        return "safetensors"
    if head[:1] == b"\x80" and b"gensim" in head[:256]:
        return "gensim"
    if head.startswith(FASTTEXT_MAGIC):
        return "fasttext"
    return "word2vec" if looks_like_word2vec(head) else "text"


def _blocks(opened: Source, asked: list[str] | None) -> Iterator[Block]:
    """Yield a source's blocks; the words asked for, where vectors are composed of subwords."""
    blocks = opened.blocks if opened.floret is None else _in_order(opened.blocks)
    compose = opened.compose
    if asked is not None and opened.floret is not None:
        from spacy.vectors import Vectors

        data = np.concatenate([block.vectors for block in blocks])
        vectors = Vectors(data=data, mode="floret", **asdict(opened.floret))

        def compose(words: Any) -> Floats:
            for word in words:
                vectors.strings.add(word)
            return np.asarray(vectors.get_batch(list(words)), dtype=np.float32)

    if asked is None or compose is None:
        yield from blocks
        return
    for start in range(0, len(asked), _ROWS):
        part = asked[start : start + _ROWS]
        rows = compose(part)
        places = np.arange(len(part))
        block = Block(part, rows, places + start + 1, places)
        yield block.take(np.asarray(rows.any(axis=1)))


def _in_order(blocks: Iterator[Block]) -> Iterator[Block]:
    """Check that a floret table has every row in its place."""
    done = 0
    for block in blocks:
        if block.keys != [str(row) for row in range(done, done + len(block.keys))]:
            raise VectorsError(
                f"Expected floret's rows in order without a gap from row {done}; row numbers or "
                "rows are missing, and words would hash to wrong ones. Fetch the table again."
            )
        done += len(block.keys)
        yield block


def _finish(
    folder: Path,
    table: RowFile,
    index: KeyFile,
    pipeline: EmptyPipeline,
    report: Report,
    floret: Any,
    attr: str,
    lang: str,
    name: str,
) -> None:
    """Complete a table's files and the report."""
    symbols = pipeline.finish()
    hashes, rows = index.finish(symbols)
    config: dict[str, Any] = {"mode": "floret", **asdict(floret)} if floret else {"mode": "default"}
    config["attr"] = symbols[attr]
    (folder / "vocab" / "vectors.cfg").write_text(json.dumps(config), "utf8")
    data = np.load(folder / "vocab" / "vectors", mmap_mode="r")
    report.rows, report.keys = table.rows, len(hashes)
    report.fingerprint = content_hash(
        hashes, np.arange(table.rows) if floret else rows, data, config
    )
    meta = {
        "lang": lang,
        "name": "vectors",
        "version": "0.0.0",
        "description": f"Word vectors converted from {Path(report.source).name}",
        "vectors": {
            "width": report.width,
            "vectors": report.rows,
            "keys": -1 if floret else report.keys,
            "name": name,
            "mode": config["mode"],
        },
        "labels": {},
        "pipeline": [],
        "components": [],
        "disabled": [],
        "trfnb_vectors": {"fingerprint": report.fingerprint, "dtype": report.dtype},
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2), "utf8")


def _reduced(table: RowFile, width: int, dtype: str, report: Report, *, normalise: bool) -> RowFile:
    """Rewrite a table with fewer dimensions."""
    wide = np.load(table.path, mmap_mode="r")
    mean, components, report.measures["variance_kept"] = principal_components(wide, width)
    table.path.unlink()
    slim = RowFile(table.path, width, dtype)
    for start in range(0, len(wide), _ROWS):
        vectors: Floats = np.matmul(wide[start : start + _ROWS] - mean, components)
        slim.write(unit(vectors) if normalise else vectors)
        forget(wide)
    slim.finish()
    return slim


def load_words(words: Words) -> list[str]:
    """Return the words of a list, or of a file with one per line, each once, in their order."""
    if isinstance(words, (str, PathLike)):
        try:
            # Not splitlines: a word may hold U+0085 or U+2028.
            lines = Path(words).read_text("utf8").removeprefix("\ufeff").split("\n")
        except (OSError, UnicodeDecodeError) as problem:
            raise VectorsError(f"{words}: expected words in UTF-8, got {problem}.") from problem
        words = [line.removesuffix("\r") for line in lines]
    return list(dict.fromkeys(word for word in words if word))


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


def asked_words(words: Words | None, corpus: Any) -> list[str] | None:
    """Return the words to keep, from a list and a corpus; None where neither is given."""
    if words is None and corpus is None:
        return None
    asked = load_words(words) if words is not None else []
    asked = list(dict.fromkeys([*asked, *(corpus_words(corpus) if corpus is not None else ())]))
    if not asked:
        raise VectorsError("Expected words to keep, the list or corpus given has none.")
    return asked


class _Choice:
    """Keep the first rows, the words asked for, the first of each key.

    Args:
        report: is told of duplicates.
        words: keep these only.
        lower: lower-case every key first; the first spelling's vector stands for all of them.
        limit: keep this many rows.
    """

    def __init__(
        self, report: Report, words: list[str] | None, *, lower: bool, limit: int | None
    ) -> None:
        self.report, self.lower, self.limit = report, lower, limit
        self._wanted = None
        if words is not None:
            self._wanted = {word.lower() if lower else word for word in words}
        self._seen: set[int] = set()
        self.kept = 0

    @property
    def at_limit(self) -> bool:
        """Whether as many rows as may be are kept."""
        return self.limit is not None and self.kept >= self.limit

    @property
    def missing(self) -> int:
        """Words asked for and not found; none where they were not looked for to the end."""
        return (
            len(self._wanted or ()) - len(self._seen) if self._wanted and not self.at_limit else 0
        )

    @property
    def full(self) -> bool:
        """Whether no more rows are wanted."""
        return self.at_limit or (self._wanted is not None and not self.missing)

    def __call__(self, block: Block) -> tuple[Block, Hashes]:
        """Return what is kept of a block, and its keys' hashes."""
        if self.lower:
            keys = [key.lower() for key in block.keys]
            block = Block(keys, block.vectors, block.lines, block.rows)
        hashes = murmur64(block.keys)
        keep = np.ones(len(hashes), dtype=bool)
        room = None if self.limit is None else self.limit - self.kept
        for place, (key, number) in enumerate(zip(block.keys, hashes.tolist(), strict=True)):
            if self._wanted is not None and key not in self._wanted:
                keep[place] = False
            elif number in self._seen:
                keep[place] = False
                if not self.lower:
                    self.report.skip("the key is a duplicate", int(block.lines[place]), ascii(key))
            else:
                self._seen.add(number)
        block, hashes = block.take(keep), hashes[keep]
        if room is not None and len(block.vectors) > room:
            fits = block.rows < room
            block, hashes = block.take(fits), hashes[fits]
        self.kept += len(block.vectors)
        return block, hashes
