"""Public treebanks by name, downloaded once and checked against their checksums."""

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from trfnb.corpora.corpus import CorpusError


@cache
def registry() -> dict[str, dict[str, Any]]:
    """Return ``treebanks.toml`` by name and alias: an address, and files with their SHA-256."""
    path = Path(__file__).with_name("treebanks.toml")
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    named = {name: {"name": name, **entry} for name, entry in entries.items()}
    return named | {entry["alias"]: entry for entry in named.values()}


def known() -> tuple[str, ...]:
    """Return the names of the treebanks that `fetch` and `load` take."""
    return tuple(registry())


def fetch(name: str) -> Path:
    """Return a treebank's folder; download what is not there yet.

    Files lie under ``TRFNB_DATA``, or in the user's cache folder. Every file is checked, freshly
    downloaded or put there by hand.

    Raises:
        CorpusError: an unknown name, no network (says where to put the files by hand), or a file
            whose hash is another.
    """
    import pooch

    if name not in registry():
        raise CorpusError(
            name,
            expected=f"one of {', '.join(known())}",
            got="an unknown treebank",
            hint="Check the spelling, or give a path",
        )
    bank = registry()[name]
    folder = Path(os.environ.get("TRFNB_DATA") or pooch.os_cache("trfnb")).expanduser()
    shelf = pooch.create(
        path=folder / bank["name"],
        base_url=bank["url"],
        registry={file: f"sha256:{value}" for file, value in bank["files"].items()},
        allow_updates=False,  # a file that changed is told of, not replaced
    )
    for file in shelf.registry_files:
        path = shelf.abspath / file
        try:
            shelf.fetch(file, downloader=pooch.HTTPDownloader(timeout=30))
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            raise CorpusError(
                path,
                expected=f"the file with SHA-256 {bank['files'][file]}, or a network to download "
                f"{shelf.get_url(file)}",
                got=f"{type(error).__name__}: {str(error)[:200]}",
                hint=f"Remove a file that is another, or download it elsewhere and put it at {path}"
                "; TRFNB_DATA names another folder",
            ) from error
    return Path(shelf.abspath)
