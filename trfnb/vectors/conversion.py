"""Convert a vector table from any format into one that spaCy loads, in bounded memory."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from trfnb.vectors.blocks import Block, Floats, Keys, forget
from trfnb.vectors.fingerprints import content_hash, table_settings
from trfnb.vectors.project import Moments, unit
from trfnb.vectors.quantise import DTYPES, RoundingError, from_record
from trfnb.vectors.readers import SourceLike, open_source
from trfnb.vectors.readers.arrays import KeysLike
from trfnb.vectors.readers.source import FloretSettings, Source
from trfnb.vectors.report import Report, VectorsError
from trfnb.vectors.symbols import Skeleton
from trfnb.vectors.wanted import KeyFilter, Words, corpus_words, load_words
from trfnb.vectors.writer import RowFile, TableWriter, aside

_ROWS = 4096


@dataclass(frozen=True)
class Options:
    """How to convert; see `convert`."""

    limit: int | None = None
    lower: bool = False
    normalise: bool = False
    dtype: str = "float32"
    width: int | None = None
    attr: str = "ORTH"
    lang: str = "en"
    name: str = "trfnb.vectors"

    def check(self) -> None:
        """Raise `VectorsError` with everything that is wrong."""
        wrong = []
        if self.dtype not in DTYPES:
            wrong.append(f"dtype: expected one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.limit is not None and self.limit < 1:
            wrong.append(f"limit: expected at least 1, got {self.limit}")
        if self.width is not None and self.width < 1:
            wrong.append(f"width: expected at least 1, got {self.width}")
        if self.attr not in ("ORTH", "LOWER", "NORM", "LEMMA", "SHAPE", "PREFIX", "SUFFIX"):
            wrong.append(f"attr: expected a token attribute such as ORTH, got {self.attr!r}")
        if wrong:
            raise VectorsError("Cannot convert: " + "; ".join(wrong) + ".")


def convert(
    source: SourceLike,
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
    reported. The table is written aside and put in place when it is whole.

    Args:
        source: fastText ``.vec`` or ``.bin``, word2vec text or binary, GloVe text, floret, gensim
            ``KeyedVectors`` (a file or the object), ``.npy`` or safetensors with keys, or a spaCy
            pipeline (path, package or object); files may be packed by gzip, zip, xz or bzip2;
            ``"-"`` or an open binary file is read as a stream.
        path: the directory to make.
        form: the source's format where its first bytes mislead, see `readers.FORMATS`.
        keys: keys of an ``.npy`` or safetensors table, a file or a list.
        limit: keep the first rows, this many.
        words: keep these words (a list, or a file with one a line); a table with subwords gives
            vectors for all of them.
        corpus: keep the words of this corpus, see `wanted.corpus_words`.
        lower: lower-case the keys; the first spelling's vector stands for all.
        normalise: make every row's length one.
        dtype: ``"float32"``, ``"float16"`` or ``"int8"`` (a scale a row); the rounding error is
            in the report. The smaller ones need ``[nlp.vectors] @vectors = "trfnb.Vectors.v1"``.
        width: reduce to so many dimensions by principal components.
        attr: the token attribute that keys are looked up by.
        lang: the language of the empty pipeline that carries the table.
        name: the table's name.
        strict: raise at the first row that does not fit.
        overwrite: replace what is at ``path``.

    Returns:
        The report; it is also saved in the directory as ``conversion.json``.

    Raises:
        VectorsError: the source cannot be read, an option is wrong, or the disk is full.
    """
    begun = time.perf_counter()
    options = Options(limit, lower, normalise, dtype, width, attr.upper(), lang, name)
    options.check()
    report = Report(source=_label(source), strict=strict, dtype=dtype, path=str(path))
    asked = load_words(words) if words is not None else None
    if corpus is not None:
        of_corpus = list(corpus_words(corpus))
        asked = list(dict.fromkeys([*(asked or []), *of_corpus]))
    if asked is not None and lower:
        asked = list(dict.fromkeys(word.lower() for word in asked))
    with aside(Path(path), overwrite=overwrite) as partial:
        skeleton = Skeleton(lang, partial)
        try:
            opened = open_source(source, report, form=form, keys=keys)
            report.format, report.width = opened.format, width or opened.width
            _convert(opened, partial, asked, options, report, skeleton)
            skeleton.finish()
        finally:
            skeleton.stop()
        report.measures["seconds"] = time.perf_counter() - begun
        report.save(partial)
    return report


def _label(source: SourceLike) -> str:
    if isinstance(source, (str, PathLike)):
        return "standard input" if str(source) == "-" else str(source)
    return str(getattr(source, "name", type(source).__name__))


def _convert(
    opened: Source,
    partial: Path,
    asked: list[str] | None,
    options: Options,
    report: Report,
    skeleton: Skeleton,
) -> None:
    vocab = partial / "vocab"
    floret = opened.floret if asked is None else None
    moments = Moments(opened.width) if options.width else None
    writer = TableWriter(vocab, opened.width, "float32" if moments else options.dtype)
    error = None if moments or options.dtype == "float32" else RoundingError()
    chosen = KeyFilter(
        report,
        None if floret else asked,
        lower=options.lower and not floret,
        limit=None if floret else options.limit,
    )
    try:
        for block in _blocks(opened, asked, floret, options):
            kept, hashes = chosen(block)
            if not len(kept.vectors):
                continue
            vectors = unit(kept.vectors) if options.normalise and not moments else kept.vectors
            if moments:
                moments.add(vectors)
            if error:
                error.add(vectors, writer.rows.record)
            if floret is None:
                rows = kept.rows if kept.rows is not None else np.arange(len(kept.keys))
                writer.write_keys(kept.keys, hashes, rows + writer.rows.rows)
            writer.rows.write(vectors)
            if chosen.full:
                break
        if not writer.rows.rows:
            raise VectorsError(
                f"{report.source}: no usable row was found ({report.skipped_rows:,} skipped)."
            )
        hashes, key_rows = writer.finish(skeleton.symbols(), options.attr, floret)
    finally:
        writer.close()
    if moments and options.width:
        report.measures["variance_kept"] = _reduce(vocab, moments, options, report)
    if error:
        report.measures |= error.measures()
    report.missing = 0 if asked is None else len(asked) - chosen.found
    report.rows, report.keys = writer.rows.rows, len(hashes)
    settings = table_settings(json.loads((vocab / "vectors.cfg").read_text("utf8")))
    shape = (report.rows, report.width)
    report.fingerprint = content_hash(
        hashes, key_rows, _AsFloats(vocab / "vectors"), settings, shape
    )
    _write_meta(partial, options, report, "floret" if floret else "default")


def _blocks(
    opened: Source, asked: list[str] | None, floret: FloretSettings | None, options: Options
) -> Iterator[Block]:
    if floret is not None:
        return _buckets(opened.blocks, options)
    return opened.blocks if asked is None else _composed(opened, asked)


class _AsFloats:
    """A table's file as float32 rows. Mapped pages are let go after each read."""

    def __init__(self, path: Path) -> None:
        self._data = np.load(path, mmap_mode="r", allow_pickle=False)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: Any) -> Floats:
        rows = from_record(np.array(self._data[index]))
        forget(self._data)
        return rows


def _buckets(blocks: Iterator[Block], options: Options) -> Iterator[Block]:
    """Check that a floret table has every row in its place."""
    if options.lower or options.limit is not None:
        raise VectorsError(
            "A floret table has hash buckets, not words: lower and limit do not apply to it. "
            "Give words to make an ordinary table of it."
        )
    done = 0
    for block in blocks:
        numbers = [int(key) if key.isdigit() else -1 for key in block.keys.bytes_list()]
        if numbers != list(range(done, done + len(numbers))):
            raise VectorsError(
                f"Expected floret's rows in order without a gap from row {done}; row numbers or "
                "rows are missing, and words would hash to wrong ones. Fetch the table again."
            )
        done += len(numbers)
        yield block


def _composed(opened: Source, asked: list[str]) -> Iterator[Block]:
    """Give the words asked for their vectors: composed where the table has subwords."""
    compose = opened.compose
    if opened.floret is not None:
        from trfnb.vectors.readers.spacy_tables import floret_compose

        floret = opened.floret
        table = np.concatenate([b.vectors for b in _buckets(opened.blocks, Options())])

        def compose(words: Any) -> Floats:
            return floret_compose(table, floret, words)

    if compose is None:
        yield from opened.blocks
        return
    for start in range(0, len(asked), _ROWS):
        part = asked[start : start + _ROWS]
        vectors = compose(part)
        block = Block(Keys.of(part), vectors, np.arange(start + 1, start + len(part) + 1))
        yield block.take(np.asarray(vectors.any(axis=1)))


def _reduce(vocab: Path, moments: Moments, options: Options, report: Report) -> float:
    """Rewrite a table with fewer dimensions."""
    width = options.width or 0
    mean, components, kept = moments.components(width)
    wide = _AsFloats(vocab / "vectors")
    slim = vocab / ".slim"
    error = RoundingError() if options.dtype != "float32" else None
    writer = RowFile(slim, width, options.dtype)
    for start in range(0, len(wide), _ROWS):
        vectors: Floats = np.matmul(wide[start : start + _ROWS] - mean, components)
        vectors = unit(vectors) if options.normalise else vectors
        if error:
            error.add(vectors, writer.record)
        writer.write(vectors)
    writer.finish()
    slim.replace(vocab / "vectors")
    if error:
        report.measures |= error.measures()
    return kept


def _write_meta(partial: Path, options: Options, report: Report, mode: str) -> None:
    meta = {
        "lang": options.lang,
        "name": "vectors",
        "version": "0.0.0",
        "description": f"Word vectors converted from {Path(report.source).name}",
        "vectors": {
            "width": report.width,
            "vectors": report.rows,
            "keys": report.keys if mode == "default" else -1,
            "name": options.name,
            "mode": mode,
        },
        "labels": {},
        "pipeline": [],
        "components": [],
        "disabled": [],
        "trfnb_vectors": {"fingerprint": report.fingerprint, "dtype": report.dtype},
    }
    (partial / "meta.json").write_text(json.dumps(meta, indent=2), "utf8")
