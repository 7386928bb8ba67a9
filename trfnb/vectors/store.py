"""spaCy `Vectors` whose numbers stay in the file: many processes share one copy."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import srsly
from spacy.util import registry
from spacy.vectors import Vectors
from spacy.vocab import Vocab
from thinc.api import Ops, get_current_ops
from thinc.backends import NumpyOps

from trfnb.vectors.blocks import Floats
from trfnb.vectors.quantise import from_record


class CompactRows(np.ndarray):
    """A table stored as float16 or int8 whose rows come out as float32.

    Indexing gives ordinary float32 arrays; so does any calculation, which expands the whole table
    first. ``scale`` holds each int8 row's scale.
    """

    scale: np.ndarray | None

    @classmethod
    def of(cls, stored: np.ndarray) -> "CompactRows":
        """Wrap a float16 array or an int8 table with scales, without copying it."""
        rows = (stored["codes"] if stored.dtype.names else stored).view(cls)
        rows.scale = np.asarray(stored["scale"]) if stored.dtype.names else None
        return rows

    def __array_finalize__(self, parent: Any) -> None:
        self.scale = getattr(parent, "scale", None)

    def stored(self) -> np.ndarray:
        """Return the rows as they lie in the file."""
        codes = self.view(np.ndarray)
        if self.scale is None:
            return codes
        kind = np.dtype([("scale", "<f4"), ("codes", "i1", (codes.shape[1],))])
        rows = np.empty(len(codes), dtype=kind)
        rows["scale"], rows["codes"] = self.scale, codes
        return rows

    def __getitem__(self, index: Any) -> Any:
        rest: tuple[Any, ...] = ()
        if isinstance(index, tuple):
            index, rest = index[0] if index else slice(None), index[1:]
        rows: np.ndarray = self.view(np.ndarray)[index].astype(np.float32)
        if self.scale is not None:
            rows *= self.scale[index][..., None]
        if rest:
            return rows[rest if rows.ndim == 1 else (slice(None), *rest)]
        return rows

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            f"A table stored as {self.dtype} is read-only. Convert it to float32 to set vectors."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return getattr(ufunc, method)(*map(_expanded, inputs), **options)

    def __array_function__(self, func: Any, types: Any, args: Any, options: Any) -> Any:
        return func(*map(_expanded, args), **{k: _expanded(v) for k, v in options.items()})


def _expanded(value: Any) -> Any:
    if isinstance(value, CompactRows):
        return value[:]
    if isinstance(value, (list, tuple)):
        return type(value)(map(_expanded, value))
    return value


class MappedVectors(Vectors):
    """spaCy's `Vectors`, read from disk by mapping the file instead of copying it.

    On a GPU, and in `to_bytes`, the table is expanded to float32 as spaCy expects.
    """

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> "MappedVectors":
        """Load the table of a ``vocab`` directory; on the CPU its numbers stay in the file."""
        # spaCy's own method cannot leave out the numbers and still read the settings.
        path = Path(path)
        if "strings" not in exclude:
            self.strings.from_disk(path / "strings.json")
        if (path / "key2row").exists():
            self.key2row = srsly.read_msgpack(path / "key2row")
        if (path / "vectors.cfg").exists():
            self._set_cfg(srsly.read_json(path / "vectors.cfg"))
        if "vectors" not in exclude and (path / "vectors").exists():
            # Copy-on-write: a vector may be set, the file never changes.
            data = np.load(path / "vectors", mmap_mode="c", allow_pickle=False)
            compact = data.dtype.names or data.dtype == np.float16
            self.data = CompactRows.of(data) if compact else data
            self.to_ops(get_current_ops())
        self._sync_unset()
        return self

    def _get_cfg(self) -> dict[str, Any]:
        # spaCy keeps the attribute of floret tables only.
        return {**super()._get_cfg(), "attr": self.attr}

    def to_ops(self, ops: Ops) -> None:
        """Bring the table to the device of ``ops``; a mapped table stays mapped on the CPU."""
        if isinstance(ops, NumpyOps) and isinstance(self.data, np.ndarray):
            return
        self.data = ops.asarray(_expanded(self.data))

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Save the table as stored, aside first: the file may be the one that is mapped."""
        path = Path(path)
        path.mkdir(exist_ok=True)
        if "strings" not in exclude:
            self.strings.to_disk(path / "strings.json")
        srsly.write_msgpack(path / "key2row", self.key2row)
        srsly.write_json(path / "vectors.cfg", self._get_cfg())
        if "vectors" in exclude:
            return
        data = self.data
        if isinstance(data, CompactRows):
            data = data.stored()
        elif not isinstance(data, np.ndarray):
            data = get_current_ops().to_numpy(data)
        partial = path / f".vectors.partial-{os.getpid()}"
        try:
            with partial.open("wb") as file:
                np.save(file, data, allow_pickle=False)
            partial.replace(path / "vectors")
        finally:
            partial.unlink(missing_ok=True)

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """Return the table as bytes, expanded to float32."""
        if not isinstance(self.data, CompactRows):
            return super().to_bytes(exclude=exclude)
        stored, self.data = self.data, self.data[:]
        try:
            return super().to_bytes(exclude=exclude)
        finally:
            self.data = stored


@registry.vectors("trfnb.Vectors.v1")
def configure_vectors() -> Callable[[Vocab], Vectors]:
    """Make the vectors of ``[nlp.vectors]`` memory-mapped when they are loaded from disk."""

    def make(vocab: Vocab) -> Vectors:
        return MappedVectors(strings=vocab.strings)

    return make


def load(path: str | Path, vocab: Vocab | None = None) -> Vectors:
    """Load a converted table (or any pipeline's) as memory-mapped spaCy `Vectors`.

    Args:
        path: the table's directory.
        vocab: takes the table as its own, with its strings; a new one by default.
    """
    from trfnb.vectors.readers.spacy_tables import find_directory
    from trfnb.vectors.report import VectorsError

    directory = find_directory(str(path))
    if directory is None:
        raise VectorsError(
            f"{path}: expected a directory with one vector table, found none there. Tables in "
            "other formats are converted first: `trfnb vectors convert`."
        )
    vocab = vocab if vocab is not None else Vocab()
    for string in srsly.read_json(directory / "strings.json"):
        vocab.strings.add(string)
    vectors = MappedVectors(strings=vocab.strings).from_disk(directory, exclude=["strings"])
    vocab.vectors = vectors
    return vectors


def stored_float32(vectors: Vectors) -> Floats:
    """Return a table's numbers as a float32 array in memory."""
    data = get_current_ops().to_numpy(vectors.data[:])
    return from_record(np.asarray(data))
