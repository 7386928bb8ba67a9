"""Tables whose numbers and keys lie apart: ``.npy`` and safetensors."""

import json
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from tokenize import TokenError

import numpy as np

from trfnb.vectors.blocks import Block, Floats, Keys, checked, forget
from trfnb.vectors.readers.source import Source
from trfnb.vectors.report import Report, VectorsError

_ROWS = 4096
_TENSORS = ("vectors", "embeddings", "embedding.weight", "weight")
KeysLike = str | PathLike[str] | Iterable[str]


def load_keys(keys: KeysLike) -> Keys:
    """Load keys from a file (a JSON list, a tokenizer.json, or a key a line) or an iterable."""
    if not isinstance(keys, (str, PathLike)):
        return Keys.of(keys)
    path = Path(keys)
    if not path.is_file():
        raise VectorsError(f"{path}: expected a file of keys, found none there.")
    if path.suffix != ".json":
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        return Keys.of([line.removesuffix(b"\r") for line in lines])
    try:
        found = json.loads(path.read_text("utf8"))
    except ValueError as problem:
        raise VectorsError(f"{path}: expected keys as JSON, got {problem}.") from problem
    if isinstance(found, dict):
        vocab = found.get("model", {}).get("vocab", found)
        found = sorted(vocab, key=vocab.__getitem__) if isinstance(vocab, dict) else vocab
    if not isinstance(found, list) or not all(isinstance(key, str) for key in found):
        raise VectorsError(f"{path}: expected a JSON list of strings or a tokenizer.json.")
    return Keys.of(found)


def _beside(name: str) -> Path:
    path = Path(name)
    if path.suffix in (".gz", ".zip", ".xz", ".bz2"):
        path = path.with_suffix("")
    names = [path.with_suffix(suffix) for suffix in (".keys", ".txt", ".json")]
    names += [path.with_name(name) for name in ("keys.txt", "keys.json", "tokenizer.json")]
    # A stream's name is no path, and nothing lies beside it.
    for place in names if Path(name).exists() else []:
        if place.is_file():
            return place
    raise VectorsError(
        f"{name}: its rows have no keys. Give keys=, or put them beside it as "
        f"{', '.join(place.name for place in names[:3])} (a key a line, or a JSON list)."
    )


def read_array(path: Path, report: Report, keys: KeysLike | None, name: str) -> Source:
    """Read a two-dimensional ``.npy`` array and its keys.

    Args:
        path: the array.
        report: takes note of what does not fit.
        keys: the rows' keys; by default those in a file beside ``name``.
        name: what the array was unpacked from, or its path.

    Raises:
        VectorsError: the array is broken, not two-dimensional, not of numbers, or has no keys.
    """
    try:
        data = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TokenError) as problem:
        raise VectorsError(f"{name}: expected a .npy array, got {problem}.") from problem
    packed = load_keys(keys if keys is not None else _beside(name))
    return from_array(data, packed, report, name, ".npy")


def read_safetensors(path: Path, report: Report, keys: KeysLike | None, name: str) -> Source:
    """Read the table of a safetensors file; keys may also lie in its metadata under ``keys``.

    Args:
        path: the file.
        report: takes note of what does not fit.
        keys: as in `read_array`.
        name: as in `read_array`.

    Raises:
        VectorsError: the file is broken, has no table, or the table has no keys.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            names = list(opened.keys())
            chosen = [n for n in _TENSORS if n in names] or (names if len(names) == 1 else [])
            if not chosen:
                raise VectorsError(
                    f"{name}: expected one tensor, or one named {' or '.join(_TENSORS)}; "
                    f"got {', '.join(names[:10]) or 'none'}."
                )
            metadata = opened.metadata() or {}
    except SafetensorError as problem:
        raise VectorsError(f"{name}: expected a safetensors file, got {problem}.") from problem
    if keys is None and "keys" in metadata:
        keys = _listed(metadata["keys"], name)
    packed = load_keys(keys if keys is not None else _beside(name))
    return from_array(_mapped(path, chosen[0]), packed, report, name, "safetensors")


def _listed(text: str, name: str) -> list[str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(key, str) for key in found):
        raise VectorsError(f"{name}: expected its metadata's keys to be a JSON list of strings.")
    return found


def _mapped(path: Path, name: str) -> Floats:
    # The library would load the tensor whole; its layout lets us map it instead.
    types = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
    if entry["dtype"] not in types or len(entry["shape"]) != 2:
        raise VectorsError(
            f"{path}: expected {name!r} to be a two-dimensional tensor of F16, F32 or F64, got "
            f"{entry['dtype']} of shape {entry['shape']}."
        )
    return np.memmap(
        path,
        dtype=types[entry["dtype"]],
        mode="r",
        offset=8 + length + entry["data_offsets"][0],
        shape=tuple(entry["shape"]),
    )


def from_array(data: Floats, keys: Keys, report: Report, name: str, form: str) -> Source:
    """Make a source of an array and its keys.

    Raises:
        VectorsError: the array is not two-dimensional, not of numbers, or keys and rows differ.
    """
    if data.ndim != 2 or data.dtype.kind not in "fiu" or 0 in data.shape:
        raise VectorsError(
            f"{name}: expected a filled two-dimensional array of numbers, got shape {data.shape} "
            f"of {data.dtype}."
        )
    if len(keys) != len(data):
        report.note(f"there are {len(keys):,} keys for {len(data):,} rows; the rest is left out")
    return Source(form, data.shape[1], _blocks(data, keys, min(len(keys), len(data)), report))


def _blocks(data: Floats, keys: Keys, rows: int, report: Report) -> Iterator[Block]:
    for start in range(0, rows, _ROWS):
        stop = min(start + _ROWS, rows)
        with np.errstate(over="ignore"):
            vectors = np.array(data[start:stop], dtype=np.float32)
        forget(data)
        part = keys.part(start, stop)
        block, problems = checked(Block(part, vectors, np.arange(start + 1, stop + 1)))
        for reason, line, example in problems:
            report.skip(reason, line, example)
        if len(block.keys):
            yield block
