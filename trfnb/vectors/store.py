"""The table in a pipeline: spaCy `Vectors` that stay in their file, and a fingerprint of them."""

import hashlib
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import srsly
from spacy.util import registry
from spacy.vectors import Vectors
from spacy.vocab import Vocab
from thinc.api import get_current_ops
from thinc.backends import get_array_ops

from trfnb.files import atomic_write
from trfnb.vectors.blocks import FLORET, VectorsError, content_hash

_ROWS = 4096


class MappedVectors(Vectors):
    """spaCy's `Vectors`, read by mapping the file: several processes share one copy of a table.

    A float16 table is widened to float32 in memory, which is what spaCy calculates with, and
    saved as float16 again.

    Attributes:
        changes: how often a vector was set; a layer then looks at the table again.
    """

    changes = 0
    dtype = np.dtype("f4")

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> "MappedVectors":
        """Load the table of a ``vocab`` directory; on the CPU its numbers stay in the file.

        Raises:
            VectorsError: its files are damaged, or do not fit each other.
        """
        path, files = Path(path), ("vectors", "key2row", "vectors.cfg")
        there = [name for name in files if (path / name).exists()]
        try:
            # spaCy's own method cannot leave out the numbers and still read the settings.
            super().from_disk(path, exclude=[*exclude, "vectors"])
            if "vectors" in exclude or not there:
                return self
            self._set_cfg(srsly.read_json(path / "vectors.cfg"))
            # Copy-on-write: a vector may be set, the file never changes.
            data = np.load(path / "vectors", mmap_mode="c", allow_pickle=False)
            if len(there) < len(files) or max(self.key2row.values(), default=-1) >= len(data):
                raise ValueError(f"only {' and '.join(there)}, or keys without a row")
        except Exception as problem:  # a damaged header is evaluated and may raise anything
            raise VectorsError(
                f"{path}: expected the files {', '.join(files)} as they were saved, got: "
                f"{problem}. Copy the table or the pipeline again."
            ) from problem
        self.dtype = data.dtype
        self.data = data if data.dtype == np.float32 else np.array(data, dtype=np.float32)
        self.to_ops(get_current_ops())
        self._sync_unset()
        return self

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Save the table as stored, in one step: the file may be the one that is mapped."""
        path = Path(path)
        super().to_disk(path, exclude=[*exclude, "vectors"])
        srsly.write_json(path / "vectors.cfg", self._get_cfg())
        if "vectors" not in exclude:
            data = get_current_ops().to_numpy(self.data)
            with atomic_write(path / "vectors", "wb") as file:
                np.save(file, data.astype(self.dtype, copy=False), allow_pickle=False)

    def add(self, key: Any, *, vector: Any = None, row: int | None = None) -> int:
        """Add a key or set its vector, as in spaCy."""
        self.changes += 1
        return int(super().add(key, vector=vector, row=row))

    def _get_cfg(self) -> dict[str, Any]:
        # spaCy keeps the attribute of floret tables only.
        return {**super()._get_cfg(), "attr": self.attr}


@registry.vectors("trfnb.Vectors.v1")
def configure_vectors() -> Callable[[Vocab], Vectors]:
    """Make the vectors of ``[nlp.vectors]`` memory-mapped when they are loaded from disk."""
    return _make_vectors


def _make_vectors(vocab: Vocab) -> Vectors:
    return MappedVectors(strings=vocab.strings)


def load(path: str | PathLike[str], vocab: Vocab | None = None) -> Vectors:
    """Load a converted table, or any pipeline's, as memory-mapped spaCy `Vectors`.

    Args:
        path: the table's directory, or an installed pipeline's name.
        vocab: takes the table as its own, with its strings; a new one by default.

    Raises:
        VectorsError: there is no table, or it cannot be read.
    """
    place, name = Path(path), str(path)
    if not place.is_dir() and name.isidentifier() and (spec := find_spec(name)):
        place = Path(next(iter(spec.submodule_search_locations or [name])))
    # An installed package keeps its pipeline a directory deeper; a folder of many is none.
    places = [place / "vocab", place, *place.glob("*/vocab")]
    found = [one for one in places if (one / "vectors").is_file()]
    if not found or (len(found) > 1 and found[0].parent != place):
        raise VectorsError(
            f"{path}: expected a file with vectors, a directory with one vector table or an "
            "installed pipeline's name, found none of them. Tables in other formats are converted "
            "first: `trfnb vectors convert`."
        )
    vocab = vocab if vocab is not None else Vocab()
    try:
        for string in srsly.read_json(found[0] / "strings.json"):
            vocab.strings.add(string)
        vectors = MappedVectors(strings=vocab.strings).from_disk(found[0], exclude=["strings"])
    except (OSError, ValueError, TypeError) as problem:
        raise VectorsError(f"{path}: expected spaCy vectors, got {problem}.") from problem
    vocab.vectors = vectors
    return vectors


def fingerprint(vectors: Any, keys: int | None = None) -> str:
    """Return the content hash of spaCy `Vectors`, of every number, however they are stored.

    Args:
        vectors: the table.
        keys: of the first keys alone, this many: those that were there before others were added.
    """
    ops = get_array_ops(vectors.data)
    count = len(vectors.key2row) if keys is None else min(keys, len(vectors.key2row))
    hashes = np.fromiter(vectors.key2row.keys(), np.uint64, count)
    rows = np.fromiter(vectors.key2row.values(), np.int64, count)
    settings = {"mode": vectors.mode, "attr": vectors.attr}
    if vectors.mode == "floret":
        settings |= {name: getattr(vectors, name) for name in FLORET}
        rows = np.arange(len(vectors.data))
    digest, used = hashlib.blake2b(digest_size=16), np.unique(rows)
    for start in range(0, len(used), _ROWS):
        part = vectors.data[ops.asarray(used[start : start + _ROWS])]
        digest.update(np.ascontiguousarray(ops.to_numpy(part), dtype="<f4").data)
    return content_hash(hashes, rows, digest.digest(), settings)
