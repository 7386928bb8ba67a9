"""What makes a run this run: its parameters, the notebook's code, the library, the data."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import trfnb
from trfnb.runs.notebook import UNKNOWN, Parameter, read_cells, source_of
from trfnb.runs.parameters import normalised

_CHUNK = 1 << 20


def digest_of(value: Any) -> str:
    """Return the hash of any JSON value; the order of keys doesn't count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def notebook_digest(notebook: Path | str) -> str:
    """Return the hash of a notebook's code cells; prose and outputs change no result."""
    return digest_of([source_of(c) for c in read_cells(notebook) if c.get("cell_type") == "code"])


def path_digest(path: Path) -> str:
    """Return the hash of a file, or of a folder's relative paths and contents."""
    total = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        total.update(str(file.relative_to(path)).encode() + b"\0")
        content = hashlib.sha256()
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                content.update(chunk)
        total.update(content.digest())
    return total.hexdigest()


def data_digest(value: Any) -> str | None:
    """Return the hash of the data that a parameter names: a path, or an embedded corpus.

    None when it names neither (a hub name, say): then its text alone tells runs apart.
    """
    if not isinstance(value, str) or not value:
        return None
    path = Path(value).expanduser()
    if path.exists():
        return path_digest(path)
    package = Path(trfnb.__file__).parent
    for home in (package / "corpora", package / "data", package.parent / "data"):
        embedded = sorted(home.glob(f"{value}*")) if Path(value).name == value else []
        if embedded:
            return digest_of([path_digest(found) for found in embedded])
    return None


def resolved(values: Mapping[str, Any], declared: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return all parameters of a run, defaults included, in the notebook's order."""
    full = {
        name: normalised(values.get(name, parameter.default), parameter.kind)
        for name, parameter in declared.items()
    }
    return {name: value for name, value in full.items() if value is not UNKNOWN}


class Identities:
    """Gives runs of one notebook their identity; reads each piece of data once."""

    def __init__(self, notebook: Path, data: Iterable[str]):
        self.notebook = notebook_digest(notebook)
        self.version = trfnb.__version__
        self._names = tuple(data)
        self._seen: dict[str, str | None] = {}

    def data(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Return the hash of each data parameter's content, by parameter name."""
        found = {}
        for name in self._names:
            value = parameters.get(name)
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str):
                    if item not in self._seen:
                        self._seen[item] = data_digest(item)
                    if self._seen[item]:
                        found[f"{name}={item}"] = str(self._seen[item])
        return found

    def of(self, parameters: Mapping[str, Any]) -> str:
        """Return the identity of a run with these (resolved) parameters: 12 hex digits."""
        parts = [parameters, self.notebook, self.version, self.data(parameters)]
        return digest_of(parts)[:12]
