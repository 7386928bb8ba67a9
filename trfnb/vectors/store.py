"""spaCy `Vectors` whose numbers stay in the file, and the fingerprint that tells tables apart."""

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import srsly
from spacy.tokens import Doc
from spacy.util import registry
from spacy.vectors import Vectors
from spacy.vocab import Vocab
from thinc.api import Model, NumpyOps, Ops, get_current_ops
from thinc.backends import get_array_ops
from thinc.types import Floats2d

from trfnb.files import atomic_write
from trfnb.vectors.blocks import Floats, FloretSettings, Ints, VectorsError
from trfnb.vectors.writer import content_hash

Embedding = Model[list[Doc], list[Floats2d]]


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
        """Load the table of a ``vocab`` directory; on the CPU its numbers stay in the file."""
        path = Path(path)
        # spaCy's own method cannot leave out the numbers and still read the settings.
        super().from_disk(path, exclude=[*exclude, "vectors"])
        if "vectors" not in exclude and (path / "vectors").exists():
            self._set_cfg(srsly.read_json(path / "vectors.cfg"))
            # Copy-on-write: a vector may be set, the file never changes.
            data = np.load(path / "vectors", mmap_mode="c", allow_pickle=False)
            self.dtype, self.data = data.dtype, data.astype(np.float32, copy=False)
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

    def to_ops(self, ops: Ops) -> None:
        """Bring the table to the device of ``ops``; a mapped table stays mapped on the CPU."""
        if not isinstance(ops, NumpyOps) or not isinstance(self.data, np.ndarray):
            self.data = ops.asarray(self.data)

    def add(self, key: Any, *, vector: Any = None, row: int | None = None) -> int:
        """Add a key or set its vector, as in spaCy."""
        self.changes += 1
        added: int = super().add(key, vector=vector, row=row)
        return added

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
    found = [p for p in (place / "vocab", place) if (p / "vectors").is_file()]
    found = found or [file.parent for file in place.glob("*/vocab/vectors")]
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
    except (OSError, ValueError, EOFError) as problem:
        raise VectorsError(f"{path}: expected spaCy vectors, got {problem}.") from problem
    vocab.vectors = vectors
    return vectors


def fingerprint(vectors: Any, keys: int | None = None) -> str:
    """Return the content hash of spaCy `Vectors`, however they are stored.

    Args:
        vectors: the table.
        keys: of the first keys alone, this many: those that were there before others were added.
    """
    ops = get_array_ops(vectors.data)
    count = len(vectors.key2row) if keys is None else min(keys, len(vectors.key2row))
    hashes = np.fromiter(vectors.key2row.keys(), np.uint64, count)
    rows = np.fromiter(vectors.key2row.values(), np.int64, count)
    names = ["mode", "attr"]
    if vectors.mode == "floret":
        names += FloretSettings.__dataclass_fields__
        rows = np.arange(len(vectors.data))
    settings = {name: getattr(vectors, name) for name in names}

    class Rows:
        def __getitem__(self, index: Ints) -> Floats:
            return ops.to_numpy(vectors.data[ops.asarray(index)])

    return content_hash(hashes, rows, Rows(), settings)


def remember_table(model: Model[Any, Any], vectors: Any) -> None:
    """Keep with a layer the fingerprint of the table that it is trained with."""
    model.attrs["fingerprint"] = fingerprint(vectors)
    model.attrs["table_keys"] = len(vectors.key2row)


class TableCheck:
    """Raises where Docs bring another table than the one a layer was trained with.

    Words that were added since are no difference: spaCy's retokenizer adds one for every entity it
    merges. A table is hashed when it is first seen and when it changes, not at every batch.
    """

    _table = _data = _state = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process looks for itself.
        return {}

    def __call__(self, model: Model[Any, Any], docs: list[Doc]) -> None:
        """Raise `VectorsError` unless the Docs' table holds all that it held in training."""
        if not docs or not model.attrs["fingerprint"]:
            return
        table: Any = docs[0].vocab.vectors
        state = (len(table.key2row), getattr(table, "changes", 0))
        if self._table is table and self._data is table.data and self._state == state:
            return
        expected = model.attrs["fingerprint"]
        got = fingerprint(table, model.attrs.get("table_keys"))
        if got != expected:
            raise VectorsError(
                f"The layer {model.name!r} was trained with the vector table {expected[:12]}, the "
                f"vocabulary now has {got[:12]} ({table.shape[0]:,} x {table.shape[1]}, "
                f"{table.name!r}), or its vectors were changed. Load the table it was trained "
                "with, or train it again with this one."
            )
        self._table, self._data, self._state = table, table.data, state
