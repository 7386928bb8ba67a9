"""The files of a saved pipeline: digests of all when it is saved, compared when it is loaded.

spaCy calls nothing of a pipeline's own after it wrote the last file or before it reads the first,
so `Language.to_disk` and `from_disk` themselves write and compare. A pipeline in whose config and
requirements nothing is trfnb's is saved and loaded as ever. ``config.cfg`` and ``meta.json`` are
not compared: spaCy reads them before there is a pipeline, `spacy package` rewrites them, and people
edit them.
"""

import hashlib
from collections.abc import Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import srsly
from spacy.language import Language

NOTE = "trfnb_files.json"
_to_disk, _from_disk = Language.to_disk, Language.from_disk


@wraps(_to_disk)
def to_disk(nlp: Language, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
    """Save a pipeline, and note the digests of its files.

    Args:
        nlp: The pipeline.
        path: The folder to write.
        exclude: Names of components and other parts that are not to be written.
    """
    _to_disk(nlp, path, exclude=exclude)
    (Path(path) / NOTE).unlink(missing_ok=True)
    if "trfnb" in f"{nlp.config.to_str()} {nlp.meta}":  # where imported, only required yet
        parts = ("tokenizer", "vocab", *nlp.component_names)
        srsly.write_json(Path(path) / NOTE, _digests(Path(path), {*parts} - {*exclude}))


@wraps(_from_disk)
def from_disk(
    nlp: Language, path: str | Path, *, exclude: Iterable[str] = (), **options: Any
) -> Language:
    """Load a pipeline, and compare its files with those that were saved.

    Args:
        nlp: The pipeline, made from the config that was saved with it.
        path: Its folder.
        exclude: Names of components and other parts that are not to be read.
        options: As `Language.from_disk` takes them.

    Raises:
        OSError: a file is lost, damaged or not the one that was saved.
    """
    changed = _changed(Path(path), exclude)
    try:
        _from_disk(nlp, path, exclude=exclude, **options)
        if changed:
            raise ValueError("what is there can be read")
    except Exception as error:  # each file's reader raises its own, mostly without the file's name
        if not changed:
            raise
        raise OSError(
            f"The pipeline in {path} expected the files that were saved together, got "
            f"{', '.join(changed)}: lost, damaged or of another pipeline. Copy the whole pipeline "
            "again, or save it again where it still is; where the change is meant, remove "
            f"{NOTE}. ({type(error).__name__}: {error})"
        ) from error
    return nlp


# Say which files of a pipeline are lost or not those that were saved.
def _changed(folder: Path, exclude: Iterable[str]) -> list[str]:
    try:
        noted: Any = srsly.read_json(folder / NOTE) if (folder / NOTE).exists() else {}
    except ValueError:
        noted = {NOTE: "whole"}
    parts = {name: name.split("/")[0].removesuffix(".json") for name in noted}
    found = _digests(folder, {*parts.values()} - {*exclude})
    return [
        f"{'another' if name in found else 'no'} {name}"
        for name, digest in noted.items()
        if parts[name] not in exclude and found.get(name) != digest
    ]


# Digest each file in parts of a folder, but for hidden ones and descriptions, which nothing reads.
# A part is a folder, a file, or a file that its component gives an ending, as the sentencizer.
def _digests(folder: Path, parts: Iterable[str]) -> dict[str, str]:
    paths = (
        path
        for base in map(folder.joinpath, parts)
        for path in (base, base.with_suffix(".json"), *base.rglob("*"))
    )
    return {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in sorted(paths)
        if path.is_file() and path.suffix != ".md" and not path.name.startswith(".")
    }


# Return a file's SHA-256 without carriage returns: git puts them into texts on Windows.
def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block.replace(b"\r", b""))
    return digest.hexdigest()
