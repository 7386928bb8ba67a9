"""From a name or a path to the files of a corpus and their readers."""

import re
from pathlib import Path

from trfnb.corpora.errors import CorpusError

CONLLU, DOCBIN, JSONL, SPLITS = ".conllu", ".spacy", ".jsonl", ".json"
COLUMNS = (".conll", ".iob", ".iob2", ".bio", ".bioes", ".tsv")
SUFFIXES = (CONLLU, *COLUMNS, DOCBIN, JSONL, SPLITS)
EMBEDDED = "newsroom"

_TRAIN = re.compile(r"(^|[^a-z])train(ing)?([^a-z]|$)")
_DEV = re.compile(r"(^|[^a-z])(dev|val|valid|validation|testa)([^a-z]|$)")
_TEST = re.compile(r"(^|[^a-z])(test|testb|eval)([^a-z]|$)")


def split_of(name: str) -> str | None:
    """Return ``"train"``, ``"dev"`` or ``"test"`` if a file's or split's name says so."""
    for split, pattern in (("train", _TRAIN), ("dev", _DEV), ("test", _TEST)):
        if pattern.search(name.lower()):
            return split
    return None


def embedded() -> Path:
    """Return the folder of the corpus that comes with trfnb."""
    inside = Path(__file__).parent / EMBEDDED  # in a wheel
    return inside if inside.is_dir() else Path(__file__).parents[2] / "data" / EMBEDDED


def corpus_files(path: Path) -> dict[str, Path]:
    """Return a corpus' files by split; ``{"": file}`` where one file holds all.

    Args:
        path: A file, or a folder with one data file or with one file for each of train and dev
            (which the names say; a test file is left alone).

    Raises:
        CorpusError: no such path, an unknown kind of file, or a folder that could mean several
            things.
    """
    kinds = f"a file that ends in {', '.join(SUFFIXES)}"
    if path.is_file():
        if path.suffix.lower() in SUFFIXES:
            return {"": path}
        raise CorpusError(path, expected=kinds, got=repr(path.suffix), hint="Rename or convert it")
    if not path.is_dir():
        raise CorpusError(
            path, expected=f"{kinds}, or a folder of such", got="no such path", hint="Check it"
        )
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if len(found) == 1:
        return {"": found[0]}
    splits = {name: [p for p in found if split_of(p.stem) == name] for name in ("train", "dev")}
    if len(splits["train"]) == 1 and len(splits["dev"]) <= 1:
        return {name: files[0] for name, files in splits.items() if files}
    raise CorpusError(
        path,
        expected="one data file, or one with 'train' and at most one with 'dev' in its name",
        got=", ".join(p.name for p in found) or "no data file",
        hint=f"Name {kinds}",
    )
