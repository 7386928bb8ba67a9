"""Readers, one a format; `open_source` tells which one a source needs."""

import re
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import IO, Any, BinaryIO

from trfnb.vectors.readers.arrays import KeysLike, read_array, read_safetensors
from trfnb.vectors.readers.fasttext import MAGIC, read_fasttext
from trfnb.vectors.readers.gensim import from_gensim, looks_like_gensim, read_gensim
from trfnb.vectors.readers.source import Source
from trfnb.vectors.readers.sources import (
    Stream,
    inside_zip,
    on_disk,
    open_stream,
    opened_file,
    packed,
)
from trfnb.vectors.readers.spacy_tables import find_directory, from_spacy, read_spacy
from trfnb.vectors.readers.text import read_text
from trfnb.vectors.readers.word2vec import read_word2vec
from trfnb.vectors.report import Report, VectorsError

FORMATS = ("auto", "text", "word2vec", "fasttext", "gensim", "npy", "safetensors")
_NUMBER = re.compile(rb"[-+]?[\d.]+([eE][-+]?\d+)?")
FileReader = Callable[[Path, Report, KeysLike | None, str], Source]
SourceLike = str | PathLike[str] | BinaryIO | IO[bytes] | Any


def open_source(
    source: SourceLike, report: Report, *, form: str = "auto", keys: KeysLike | None = None
) -> Source:
    """Open a table in any known format.

    Args:
        source: a path, ``"-"``, an open binary file, a spaCy pipeline (object, directory or
            package name), spaCy ``Vectors``, or gensim ``KeyedVectors``.
        report: takes note of what does not fit.
        form: one of `FORMATS`; ``"auto"`` looks at the first bytes.
        keys: the rows' keys, for formats that keep numbers only.

    Raises:
        VectorsError: the format is unknown, or the source cannot be read as it.
    """
    if form not in FORMATS:
        raise VectorsError(f"Expected a format among {', '.join(FORMATS)}, got {form!r}.")
    opened = _opened(source, report, form, keys)
    if keys is not None and opened.format not in (".npy", "safetensors"):
        raise VectorsError(
            f"Expected keys for a table without any, such as .npy; {opened.format} has its own."
        )
    return opened


def _opened(source: SourceLike, report: Report, form: str, keys: KeysLike | None) -> Source:
    if hasattr(source, "index_to_key") or hasattr(source, "wv"):
        return from_gensim(source, report)
    if hasattr(source, "vocab") or hasattr(source, "vectors") or hasattr(source, "key2row"):
        return from_spacy(source, report)
    if isinstance(source, (str, PathLike)) and source != "-":
        path = Path(source)
        # A pipe, as a shell's `<(command)`, can be opened only once.
        if path.is_fifo() or inside_zip(path)[1]:
            return _stream(open_stream(path, report), form, report, keys)
        if not path.is_file():
            return _directory(str(source), report, keys)
        with opened_file(path) as file:
            head = file.read(256)
        if not packed(head) and (read := _file_reader(head, form)):
            return read(path, report, keys, str(path))
    elif not hasattr(source, "read") and source != "-":
        raise VectorsError(
            f"Expected a path, a binary stream, a spaCy or a gensim object, got {type(source)}."
        )
    return _stream(open_stream(source, report), form, report, keys)


def _file_reader(head: bytes, form: str) -> FileReader | None:
    """Return the reader of formats that need a file of their own, None for the others."""
    if form == "npy" or (form == "auto" and head.startswith(b"\x93NUMPY")):
        return read_array
    if form == "safetensors" or (form == "auto" and head[8:10] == b'{"'):
        return read_safetensors
    if form == "gensim" or (form == "auto" and looks_like_gensim(head)):
        return lambda path, report, keys, name: read_gensim(path, report, name)
    return None


def _directory(name: str, report: Report, keys: KeysLike | None) -> Source:
    if found := find_directory(name):
        return read_spacy(found, report)
    if (tensors := Path(name) / "model.safetensors").is_file():
        return read_safetensors(tensors, report, keys, str(tensors))
    raise VectorsError(
        f"{name}: expected a file with vectors, a pipeline's directory or an installed pipeline's "
        "name, found none of them."
    )


def _stream(stream: Stream, form: str, report: Report, keys: KeysLike | None) -> Source:
    head = stream.peek(1 << 16)
    if not head:
        raise VectorsError(f"{stream.name}: expected vectors, the file is empty{report.why()}.")
    if read := _file_reader(head, form):
        with on_disk(stream) as path:
            return read(path, report, keys, stream.name)
    if form == "fasttext" or (form == "auto" and head.startswith(MAGIC)):
        return read_fasttext(stream, report)
    if form == "word2vec" or (form == "auto" and _binary(head)):
        return read_word2vec(stream, report)
    return read_text(stream, report)


def _binary(head: bytes) -> bool:
    """Say whether the bytes after a header of two numbers are float32 rather than text."""
    first, _, rest = head.partition(b"\n")
    parts = first.split()
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return False
    # A line of text is a key and numbers; packed floats make such a line by no likely chance.
    fields = (line.split(None, 4)[1:4] for line in rest.split(b"\n")[:20])
    return not any(part and all(map(_NUMBER.fullmatch, part)) for part in fields)
