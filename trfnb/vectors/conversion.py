"""Convert a vector table from any format into one that spaCy loads, in bounded memory."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from fsspec.utils import infer_compression

from trfnb.files import atomic_folder
from trfnb.vectors.blocks import (
    Block,
    ConversionReport,
    Hashes,
    Source,
    TableFiles,
    VectorsError,
    content_hash,
    corpus_words,
    empty_pipeline,
    murmur64,
    unit,
)
from trfnb.vectors.readers_binary import (
    FASTTEXT_MAGIC,
    TENSORS,
    Keys,
    from_gensim,
    from_spacy,
    load_keys,
    read_array,
    read_fasttext,
    read_gensim,
    read_safetensors,
    read_word2vec,
)
from trfnb.vectors.readers_text import (
    LONGEST_LINE,
    looks_like_word2vec,
    open_table,
    read_text,
)

_HEAD = 1 << 18
_KNOWN = {
    "dtype": ("float32", "float16"),
    "form": ("auto", "text", "word2vec", "fasttext", "gensim", "npy", "safetensors"),
    "attr": ("ORTH", "LOWER", "NORM", "LEMMA", "SHAPE", "PREFIX", "SUFFIX"),
}


def convert(
    source: Any,
    path: str | PathLike[str],
    *,
    form: str = "auto",
    keys: Keys | None = None,
    limit: int | None = None,
    words: Keys | None = None,
    corpus: Any = None,
    lower: bool = False,
    normalise: bool = False,
    dtype: str = "float32",
    attr: str | None = None,
    lang: str = "en",
    name: str = "trfnb.vectors",
    strict: bool = False,
    overwrite: bool = False,
) -> ConversionReport:
    """Convert a vector table into a directory that `spacy.load` opens.

    The source is read a few megabytes at a time; rows that do not fit are left out and reported.
    The table is put in place when it is whole, or not at all.

    Args:
        source: fastText ``.vec`` or ``.bin``, word2vec text or binary, GloVe text, floret's text,
            gensim ``KeyedVectors`` (a file or the object), ``.npy`` or safetensors with keys, a
            model of model2vec, or a spaCy pipeline (path, package or object). Files may be packed
            by gzip, zip, xz, bzip2 or zstd, or be a URL that fsspec opens;
            ``zip://table.txt::archive.zip`` names one of several.
        path: the directory to make.
        form: the source's format where its first bytes mislead: ``"text"``, ``"word2vec"``,
            ``"fasttext"``, ``"gensim"``, ``"npy"`` or ``"safetensors"``.
        keys: keys of an ``.npy`` or safetensors table, a file or a list.
        limit: keep the first rows, this many.
        words: keep these words (a list, or a file with one per line); a table with subwords gives
            vectors for all of them.
        corpus: keep the words of this corpus, see `corpus_words`.
        lower: lower-case the keys; the first spelling's vector stands for all.
        normalise: make every row's length one.
        dtype: ``"float32"`` or ``"float16"``, whose rounding error is in the report and which
            needs ``[nlp.vectors] @vectors = "trfnb.Vectors.v1"``.
        attr: the token attribute that keys are looked up by; the source's own by default, else
            ORTH. LOWER lower-cases the keys too.
        lang: the language of the empty pipeline that carries the table.
        name: the table's name.
        strict: raise at the first row that does not fit.
        overwrite: replace what is at ``path``, if that is a table.

    Returns:
        The report, saved in the directory as ``conversion.json``.

    Raises:
        VectorsError: the source cannot be read, an option is wrong, or the disk is full.
    """
    begun, path, attr = time.perf_counter(), Path(path), attr and attr.upper()
    wrong = [
        f"{option}: expected one of {', '.join(_KNOWN[option])}, got {value!r}"
        for option, value in {"dtype": dtype, "form": form, "attr": attr}.items()
        if value is not None and value not in _KNOWN[option]
    ]
    if limit is not None and limit < 1:
        wrong.append(f"limit: expected at least 1, got {limit}")
    if wrong:
        raise VectorsError("Cannot convert: " + "; ".join(wrong) + ".")
    check_place(path, overwrite=overwrite)
    label = str(source) if isinstance(source, (str, PathLike)) else type(source).__name__
    report = ConversionReport(label, strict=strict, dtype=dtype, path=str(path))
    try:
        with atomic_folder(path, sync=False) as folder, ThreadPoolExecutor(1) as pool:
            pipeline = pool.submit(empty_pipeline, lang, folder)
            asked = asked_words(words, corpus_words(corpus) if corpus is not None else None)
            scratch, vocab = folder / ".source", folder / "vocab"
            vocab.mkdir()
            opened = open_source(source, report, scratch, form=form, keys=keys)
            report.format, report.width = opened.format, opened.width
            attr = attr or opened.attr or "ORTH"
            if opened.floret and (lower or normalise or limit or asked):
                raise VectorsError(
                    f"{label}: a floret table has hash buckets, not words: lower, normalise, "
                    "limit, words and corpus do not apply to it. Leave them out."
                )
            files = TableFiles(vocab, opened.width, dtype)
            lower |= attr == "LOWER"
            blocks = opened.compose(asked) if asked and opened.compose else opened.blocks
            chosen = _chosen(blocks, report, asked, lower, limit)
            for block, hashes in _in_order(blocks) if opened.floret else chosen:
                if normalise:
                    block = replace(block, vectors=unit(block.vectors))
                files.write(block, hashes)
            scratch.unlink(missing_ok=True)
            if not files.rows:
                raise VectorsError(f"{label}: no usable row was found.\n{report}")
            if dtype != "float32":
                report.measures["rounding_largest_error"] = files.largest_error
            symbols = pipeline.result()
            hashes, rows = files.finish(symbols)
            mode, floret = ("floret", opened.floret) if opened.floret else ("default", {})
            settings = {"mode": mode, "attr": symbols[attr], **floret}
            (vocab / "vectors.cfg").write_text(json.dumps(settings), "utf8")
            report.rows, report.keys = files.rows, len(hashes)
            report.fingerprint = content_hash(hashes, rows, files.digest.digest(), settings)
            (folder / "meta.json").write_text(json.dumps(_meta(report, settings, lang, name)))
            report.measures["seconds"] = time.perf_counter() - begun
            report.save(folder)
    except OSError as problem:
        raise VectorsError(
            f"{path}: could not be written: {problem}. Nothing was left behind; make room or "
            "choose another place."
        ) from problem
    return report


def _meta(
    report: ConversionReport, settings: dict[str, Any], lang: str, name: str
) -> dict[str, Any]:
    return {
        "lang": lang,
        "name": "vectors",
        "version": "0.0.0",
        "description": f"Word vectors converted from {Path(report.source).name}",
        "vectors": {
            "width": report.width,
            "vectors": report.rows,
            "keys": report.keys or -1,
            "name": name,
            "mode": settings["mode"],
        },
        "labels": {},
        "pipeline": [],
        "components": [],
        "disabled": [],
        "trfnb_vectors": {"fingerprint": report.fingerprint, "dtype": report.dtype},
    }


def check_place(path: Path, *, overwrite: bool) -> None:
    """Raise `VectorsError` unless a table may be written to ``path``."""
    table = path.is_dir() and ((path / "vocab").is_dir() or not any(path.iterdir()))
    if path.exists() and not (overwrite and table):
        raise VectorsError(
            f"{path}: already there. Choose another place; or overwrite it, where it is a table or "
            "an empty directory."
        )


def open_source(
    source: Any,
    report: ConversionReport,
    scratch: Path,
    *,
    form: str = "auto",
    keys: Keys | None = None,
) -> Source:
    """Open a table in any known format.

    Args:
        source: see `convert`.
        report: takes note of what does not fit.
        scratch: a file that may be written, to unpack a format that is mapped.
        form: see `convert`; ``"auto"`` looks at the first bytes.
        keys: the rows' keys, for formats that keep numbers only.

    Raises:
        VectorsError: the source cannot be read.
    """
    if any(hasattr(source, name) for name in ("index_to_key", "wv")):
        return from_gensim(source, report)
    if any(hasattr(source, name) for name in ("vocab", "vectors", "key2row")):
        return from_spacy(source, report)
    if not isinstance(source, (str, PathLike)):
        raise VectorsError(
            f"Expected a path, a URL, a spaCy or a gensim object, got {type(source)}."
        )
    model = Path(source) / "model.safetensors"
    if model.is_file() and not Path(source, "config.cfg").is_file():
        source = model
    name, place = str(source), Path(source)
    if "://" not in name and not place.is_file():
        from trfnb.vectors.store import load

        return from_spacy(load(place), report)
    with open_table(name) as opened:
        head = opened.read(_HEAD) + opened.readline(LONGEST_LINE)
    form = _format(head) if form == "auto" else form
    if keys is not None and form not in ("npy", "safetensors"):
        raise VectorsError(f"Expected keys for a table without, such as .npy; {form} has its own.")
    if form == "text":
        return read_text(name, head, report)
    # The others are mapped from a file: what is no plain file is unpacked first.
    if "://" in name or infer_compression(name):
        place = scratch
        with open_table(name) as packed, scratch.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    readers: dict[str, tuple[str, Callable[[Path, ConversionReport, str], Source]]] = {
        "word2vec": ("word2vec's binary table", read_word2vec),
        "fasttext": (
            "fastText's whole model (.bin), not quantised (.ftz), not floret's",
            read_fasttext,
        ),
        "gensim": ("gensim's vectors", read_gensim),
        "npy": ("a .npy array", partial(read_array, keys=keys)),
        "safetensors": (
            f"one tensor, or one named {' or '.join(TENSORS)}, and model2vec's mapping and weights "
            "to fit",
            partial(read_safetensors, keys=keys),
        ),
    }
    expected, read = readers[form]
    try:
        return read(place, report, name)
    except VectorsError:
        raise
    except Exception as problem:  # each format's library raises its own
        raise VectorsError(
            f"{name}: expected {expected}, got: {problem!r}. Fetch or save it again if it is cut "
            "off or damaged, convert its text table, or name the format."
        ) from problem


def _format(head: bytes) -> str:
    signs = {
        "gensim": head[:1] == b"\x80" and b"gensim" in head[:256],
        "safetensors": head[8:10] == b'{"',
        "npy": head.startswith(b"\x93NUMPY"),
        "fasttext": head.startswith(FASTTEXT_MAGIC),
        "word2vec": looks_like_word2vec(head),
    }
    return next((form for form, there in signs.items() if there), "text")


def _in_order(blocks: Iterator[Block]) -> Iterator[tuple[Block, Hashes]]:
    # Yield a floret table's rows, each of which must be in its place.
    done = 0
    for block in blocks:
        if block.keys != [str(done + i) for i in range(len(block.keys))]:
            raise VectorsError(
                f"Expected floret's rows in order without a gap from row {done}; row numbers or "
                "rows are missing, and words would hash to wrong ones. Fetch the table again."
            )
        done += len(block.keys)
        yield block, np.empty(0, np.uint64)


def asked_words(words: Keys | None, counts: Counter[str] | None) -> list[str]:
    """Return the words of a list or file and of a corpus, each once; none where none is given."""
    asked = load_keys(words, "words") if words is not None else []
    asked = list(filter(None, dict.fromkeys([*asked, *(counts or ())])))
    if not asked and (words is not None or counts is not None):
        raise VectorsError("Expected words to keep, the list or corpus given has none.")
    return asked


def _chosen(
    blocks: Iterator[Block],
    report: ConversionReport,
    asked: list[str],
    lower: bool,
    limit: int | None,
) -> Iterator[tuple[Block, Hashes]]:
    # Yield the first rows, of the words asked for, of the first of each key; with keys' hashes.
    wanted = {word.lower() if lower else word for word in asked}
    left, room = len(wanted), limit or float("inf")
    # A set takes a hundred bytes per key, a sorted array eight. 0 is the number of no key.
    seen = np.zeros(1, np.uint64)
    for block in blocks:
        if lower:
            block = replace(block, keys=[key.lower() for key in block.keys])
        if wanted:
            block = block.take(np.array([key in wanted for key in block.keys], dtype=bool))
        hashes = murmur64(block.keys)
        numbers, first = np.unique(hashes, return_index=True)
        place = np.searchsorted(seen, numbers)
        new = seen.take(place, mode="clip") != numbers
        seen = np.insert(seen, place[new], numbers[new])
        keep = np.isin(np.arange(len(hashes)), first[new])
        for i in () if lower else np.flatnonzero(~keep).tolist():
            report.skip("the key is a duplicate", int(block.lines[i]), ascii(block.keys[i]))
        block, hashes = block.take(keep), hashes[keep]
        fits = block.rows < room
        block, hashes = block.take(fits), hashes[fits]
        room -= len(block.vectors)
        left -= len(hashes)
        yield block, hashes
        if room == 0 or (wanted and not left):
            break
    # Words are missing only where they were looked for to the end.
    report.missing = left if wanted and room != 0 else 0
