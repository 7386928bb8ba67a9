"""The table in a pipeline: spaCy `Vectors` that stay in their file, and a layer that reads them.

A fingerprint tells tables apart: a layer raises where it meets another table than in training.
"""

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any, Literal

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
from trfnb.vectors.blocks import (
    Floats,
    FloretSettings,
    Ints,
    VectorsError,
    add_rows,
    fasttext_ngram_rows,
)
from trfnb.vectors.writer import content_hash

Embedding = Model[list[Doc], list[Floats2d]]
Backprop = Callable[[list[Floats2d]], list[Doc]]
Unknown = Literal["zeros", "mean", "lower", "learned", "subwords"]
UNKNOWN = ("zeros", "mean", "lower", "learned", "subwords")
_SAMPLE = 20_000
_WORDS = 4096


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

    def to_ops(self, ops: Ops) -> None:
        """Bring the table to the device of ``ops``; a mapped table stays mapped on the CPU."""
        if not isinstance(ops, NumpyOps) or not isinstance(self.data, np.ndarray):
            self.data = ops.asarray(self.data)  # type: ignore[arg-type]

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

    _table: Any = None
    _data: Any = None
    _state: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process looks for itself.
        return {}

    def __call__(self, model: Model[Any, Any], docs: list[Doc], is_train: bool = False) -> Any:
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


class StaticRows(TableCheck):
    """The forward pass of `static_rows`."""

    def __call__(
        self, model: Embedding, docs: list[Doc], is_train: bool = False
    ) -> tuple[list[Floats2d], Backprop]:
        """Return each Doc's rows."""
        super().__call__(model, docs)
        ops: Any = model.ops
        lengths = [len(doc) for doc in docs]
        if not sum(lengths):
            return [ops.alloc2f(0, model.get_dim("nO")) for _ in docs], lambda d_rows: []
        vocab: Any = docs[0].vocab
        keys = np.concatenate([doc.to_array(vocab.vectors.attr).reshape(-1) for doc in docs])
        types, inverse = np.unique(keys, return_inverse=True)
        table, missing = _type_rows(vocab.vectors, types, ops)
        if missing.any():
            table[ops.asarray(missing)] = _stand_ins(model, vocab, types[missing])
        rows = ops.unflatten(table[ops.asarray(inverse)], ops.asarray1i(lengths))
        absent = ops.asarray(missing[inverse])

        def backprop(d_rows: list[Floats2d]) -> list[Doc]:
            if model.attrs["unknown"] == "learned":
                model.inc_grad("unknown", ops.xp.concatenate(d_rows)[absent].sum(axis=0))
            return []

        return rows, backprop


def static_rows(
    unknown: Unknown = "zeros", *, buckets: int = 5000, minn: int = 3, maxn: int = 5
) -> Embedding:
    """Look tokens up in ``doc.vocab.vectors``; no gradient reaches the table.

    The table's fingerprint is kept with the layer: used with another table it raises.

    Args:
        unknown: what a word without a vector gets: ``"zeros"``; the table's ``"mean"``; the vector
            of its ``"lower"``-cased form, else zeros; one vector ``"learned"`` for all of them; or
            a vector of its ``"subwords"``: the mean over its character n-grams of the vectors of
            known words with the same n-gram (Zhao, Mudgal and Liang, 2018, averaged, not learned).
        buckets: rows that n-grams are hashed to.
        minn: shortest n-gram in characters.
        maxn: longest n-gram in characters.

    Returns:
        A layer from Docs to one (tokens, table width) array each.
    """
    if unknown not in UNKNOWN:
        raise VectorsError(f"Expected unknown among {', '.join(UNKNOWN)}, got {unknown!r}.")
    needed = {"mean": "unknown", "learned": "unknown", "subwords": "buckets"}
    params: dict[str, Any] = {needed[unknown]: None} if unknown in needed else {}
    attrs = {"unknown": unknown, "fingerprint": "", "buckets": buckets, "minn": minn, "maxn": maxn}
    return Model(
        "static_rows", StaticRows(), init=_init_static, params=params, dims={"nO": None},
        attrs=attrs,
    )  # fmt: skip


def _type_rows(vectors: Any, types: Any, ops: Any) -> tuple[Any, Any]:
    """Return one float32 row per key, and which keys have none (zeros)."""
    if getattr(vectors, "mode", "") != "default":
        return ops.asarray2f(vectors.get_batch(types.tolist())), np.zeros(len(types), dtype=bool)
    found = np.array([vectors.key2row.get(key, -1) for key in types.tolist()], dtype=np.int64)
    table = ops.xp.array(vectors.data[ops.asarray(np.maximum(found, 0))], dtype="f")
    table[ops.asarray(found < 0)] = 0
    return table, found < 0


def _stand_ins(model: Embedding, vocab: Any, types: Any) -> Any:
    """Return what words without a vector get."""
    ops: Any = model.ops
    policy = model.attrs["unknown"]
    words = [vocab.strings[key] for key in types.tolist()]
    if policy in ("mean", "learned"):
        return model.get_param("unknown")
    if policy == "lower":
        lowered = np.array([vocab.strings.add(word.lower()) for word in words], dtype=np.uint64)
        return _type_rows(vocab.vectors, lowered, ops)[0]
    if policy == "subwords":
        buckets = ops.to_numpy(model.get_param("buckets"))
        shape = {"buckets": len(buckets), "minn": model.attrs["minn"], "maxn": model.attrs["maxn"]}
        word, bucket = fasttext_ngram_rows(words, **shape)
        sums: Floats = np.zeros((len(words), buckets.shape[1]), dtype=np.float32)
        add_rows(sums, word, buckets, bucket)
        counts = np.bincount(word, minlength=len(words)).clip(min=1)
        return ops.asarray2f(sums / counts[:, None].astype(np.float32))
    return 0


def _init_static(model: Embedding, X: Any = None, Y: Any = None) -> None:
    if not X:
        raise VectorsError(
            f"The layer {model.name!r} needs Docs to be initialised: they bring the table."
        )
    ops: Any = model.ops
    vectors: Any = X[0].vocab.vectors
    if 0 in vectors.shape:
        raise VectorsError(
            f"The layer {model.name!r} needs a vector table, the vocabulary has none. Name one in "
            'the config: [initialize] vectors = "path", see `trfnb vectors convert`.'
        )
    model.set_dim("nO", vectors.shape[1], force=True)
    remember_table(model, vectors)
    if model.attrs["unknown"] == "learned":
        model.set_param("unknown", ops.alloc1f(vectors.shape[1]))
    if model.attrs["unknown"] == "mean":
        some = np.linspace(0, vectors.shape[0] - 1, min(vectors.shape[0], _SAMPLE)).astype(np.int64)
        model.set_param("unknown", ops.asarray2f(vectors.data[ops.asarray(some)]).mean(axis=0))
    if model.attrs["unknown"] == "subwords":
        shape = {name: model.attrs[name] for name in ("buckets", "minn", "maxn")}
        model.set_param("buckets", ops.asarray2f(bucket_table(vectors, **shape)))


def bucket_table(vectors: Any, buckets: int, *, minn: int, maxn: int) -> Floats:
    """Average, for each hash bucket, the vectors of the table's words with an n-gram in it.

    Args:
        vectors: spaCy `Vectors` in default mode.
        buckets: rows of the result.
        minn: shortest n-gram in characters.
        maxn: longest n-gram in characters.

    Returns:
        (buckets, table width) float32; zeros for a bucket that no word reaches.
    """
    ops = get_array_ops(vectors.data)
    known = [
        (vectors.strings[k], row) for k, row in vectors.key2row.items() if k in vectors.strings
    ]
    sums = np.zeros((buckets, vectors.shape[1]), dtype=np.float32)
    counts = np.zeros(buckets, dtype=np.float32)
    for start in range(0, len(known), _WORDS):
        words, rows = zip(*known[start : start + _WORDS], strict=True)
        table = ops.to_numpy(vectors.data[ops.asarray(np.array(rows))])
        word, bucket = fasttext_ngram_rows(list(words), buckets=buckets, minn=minn, maxn=maxn)
        add_rows(sums, bucket, table, word)
        counts += np.bincount(bucket, minlength=buckets).astype(np.float32)
    return np.divide(sums, np.maximum(counts, 1)[:, None], dtype=np.float32)
