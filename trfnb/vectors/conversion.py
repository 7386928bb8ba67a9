"""Convert a vector table from any format into one that spaCy loads, in bounded memory."""

import time
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trfnb.vectors.aside import aside
from trfnb.vectors.options import Options
from trfnb.vectors.report import Report
from trfnb.vectors.symbols import Skeleton

if TYPE_CHECKING:
    from trfnb.vectors.readers import SourceLike
    from trfnb.vectors.readers.arrays import KeysLike
    from trfnb.vectors.wanted import Words


def convert(
    source: "SourceLike",
    path: str | PathLike[str],
    *,
    form: str = "auto",
    keys: "KeysLike | None" = None,
    limit: int | None = None,
    words: "Words | None" = None,
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
            pipeline (path, package or object); files may be packed by gzip, zip, xz or bzip2, and
            ``archive.zip/table.txt`` names one of several; ``"-"`` or an open binary file is read
            as a stream.
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
    with aside(Path(path), overwrite=overwrite) as partial:
        skeleton = Skeleton(lang, partial)
        try:
            # Now only: a process that makes an empty pipeline is at work while these load.
            from trfnb.vectors.passage import pass_rows
            from trfnb.vectors.readers import open_source
            from trfnb.vectors.wanted import asked_words

            asked = asked_words(words, corpus, lower=lower)
            opened = open_source(source, report, form=form, keys=keys)
            report.format, report.width = opened.format, width or opened.width
            pass_rows(opened, partial, asked, options, report, skeleton)
            skeleton.finish()
        finally:
            skeleton.stop()
        report.measures["seconds"] = time.perf_counter() - begun
        report.save(partial)
    return report


def _label(source: "SourceLike") -> str:
    if isinstance(source, (str, PathLike)):
        return "standard input" if str(source) == "-" else str(source)
    return str(getattr(source, "name", type(source).__name__))
