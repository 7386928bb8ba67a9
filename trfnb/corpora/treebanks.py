"""Public treebanks by name, downloaded once and checked against their checksums."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trfnb.corpora.errors import CorpusError

_REGISTRY = Path(__file__).with_name("treebanks.toml")
_SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Treebank:
    """Where a treebank's files lie, and what they must hash to.

    Attributes:
        name: Its name, also of the folder it is kept in.
        url: Address of the folder with the files, with a slash at its end.
        files: SHA-256 by file name; empty where it is not known.
    """

    name: str
    url: str
    files: Mapping[str, str]


@cache
def registry() -> dict[str, Treebank]:
    """Return the treebanks that trfnb knows, from ``treebanks.toml``."""
    entries = tomllib.loads(_REGISTRY.read_text(encoding="utf-8"))
    return {name: Treebank(name, entry["url"], entry["files"]) for name, entry in entries.items()}


def known() -> tuple[str, ...]:
    """Return the names of the treebanks that `fetch` and `load` take."""
    return tuple(registry())


def cache_folder() -> Path:
    """Return where downloads are kept: ``TRFNB_DATA``, or the user's cache folder."""
    if folder := os.environ.get("TRFNB_DATA"):
        return Path(folder).expanduser()
    import pooch

    return Path(pooch.os_cache("trfnb"))


def fetch(treebank: str | Treebank, *, sha256: Mapping[str, str] | None = None) -> Path:
    """Return a treebank's folder; download what is not there yet.

    Every file is checked, freshly downloaded or put there by hand. Where neither the registry nor
    the caller knows a file's SHA-256, the first copy's is written to ``SHA256SUMS`` beside it and
    holds from then on: that notices later changes, but cannot vouch for the first copy.

    Args:
        treebank: A name from `known`, or a treebank of your own.
        sha256: Hashes by file name, over the registry's.

    Raises:
        CorpusError: an unknown name, no network (says where to put the files by hand), or a file
            whose hash is another.
    """
    entry = registry().get(treebank) if isinstance(treebank, str) else treebank
    if entry is None:
        raise CorpusError(
            str(treebank),
            expected=f"one of {', '.join(known())}",
            got="an unknown treebank",
            hint="Check the spelling, or give a path",
        )
    folder = cache_folder() / entry.name
    kept = _read_sums(folder)
    sums = {
        name: ((sha256 or {}).get(name) or value or kept.get(name, "")).lower()
        for name, value in entry.files.items()
    }
    found = {name: _fetch_file(entry, name, sums[name], folder) for name in entry.files}
    if found != kept:
        text = "".join(f"{value}  {name}\n" for name, value in found.items())
        aside = folder / f".{_SUMS}.{os.getpid()}"
        aside.write_text(text, encoding="utf-8")
        aside.replace(folder / _SUMS)
    return folder


def _fetch_file(entry: Treebank, name: str, expected: str, folder: Path) -> str:
    import pooch

    path, url = folder / name, entry.url + name
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            pooch.retrieve(
                url,
                known_hash=None,  # checked below, where the file can be named
                fname=f".{name}.{os.getpid()}",
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=30),
            )
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            raise CorpusError(
                path,
                expected=f"the file, or a network to download {url}",
                got=f"{type(error).__name__}: {str(error)[:120]}",
                hint=f"Download it elsewhere and put it at {path}; TRFNB_DATA names another folder",
            ) from error
        aside = folder / f".{name}.{os.getpid()}"
        if expected and pooch.file_hash(str(aside)) != expected:
            got = pooch.file_hash(str(aside))
            aside.unlink()
            raise _wrong_sum(path, expected, got, f"What {url} gave was not kept")
        aside.replace(path)
    got = str(pooch.file_hash(str(path)))
    if expected and got != expected:
        raise _wrong_sum(path, expected, got, "Remove the file to download it again")
    return got


def _wrong_sum(path: Path, expected: str, got: str, hint: str) -> CorpusError:
    return CorpusError(
        path,
        expected=f"a file with SHA-256 {expected}",
        got=got,
        hint=f"{hint}, or pass sha256={{{path.name!r}: …}} if you trust it",
    )


def _read_sums(folder: Path) -> dict[str, str]:
    path = folder / _SUMS
    if not path.exists():
        return {}
    pairs = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}
