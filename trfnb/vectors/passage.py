"""The way of rows from an opened source into a table's files, a block at a time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trfnb.vectors.blocks import Block, Floats, Keys, forget
from trfnb.vectors.fingerprints import content_hash, table_settings
from trfnb.vectors.options import Options
from trfnb.vectors.project import Moments, unit
from trfnb.vectors.quantise import RoundingError, from_record
from trfnb.vectors.readers.source import FloretSettings, Source
from trfnb.vectors.report import Report, VectorsError
from trfnb.vectors.symbols import Skeleton
from trfnb.vectors.wanted import KeyFilter
from trfnb.vectors.writer import RowFile, TableWriter

_ROWS = 4096


def pass_rows(
    opened: Source,
    partial: Path,
    asked: list[str] | None,
    options: Options,
    report: Report,
    skeleton: Skeleton,
) -> None:
    """Write a source's table, and account for it.

    Args:
        opened: the source.
        partial: the directory to write into.
        asked: keep these words only.
        options: what to do with the rows.
        report: gets rows, keys, measures and fingerprint.
        skeleton: knows spaCy's reserved strings.

    Raises:
        VectorsError: no usable row was found, or an option does not fit the source.
    """
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
            skeleton.check()
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
            raise VectorsError(f"{report.source}: no usable row was found{report.why()}.")
        hashes, key_rows = writer.finish(skeleton.symbols(), options.attr, floret)
    finally:
        writer.close()
    if moments and options.width:
        report.measures["variance_kept"] = _reduce(vocab, moments, options, report)
    if error:
        report.measures |= error.measures()
    # Words behind the limit were not looked for.
    report.missing = 0 if asked is None or chosen.at_limit else len(asked) - chosen.found
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
    if options.lower or options.normalise or options.limit is not None:
        raise VectorsError(
            "A floret table has hash buckets, not words: lower, normalise and limit do not apply "
            "to it. Give words to make an ordinary table of it."
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
