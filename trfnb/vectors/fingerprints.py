"""A table's content hash: two tables that give a pipeline other numbers have other fingerprints."""

import hashlib
import json
from typing import Any

import numpy as np

from trfnb.vectors.blocks import Floats, Hashes, Ints
from trfnb.vectors.report import VectorsError

_SAMPLED = 16384


def content_hash(
    hashes: Hashes, rows: Ints, data: Any, settings: dict[str, Any], shape: tuple[int, int]
) -> str:
    """Hash a table's settings, its keys with their rows, and its numbers as float32.

    Of tables with more than 16,384 rows, that many evenly spread rows are hashed: a table changed
    in a few rows only may escape.

    Args:
        hashes: the keys' numbers.
        rows: each key's row.
        data: anything that gives float32 rows for an array of row numbers.
        settings: the mode and, for floret, its settings; the attribute.
        shape: rows and width.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([sorted(settings.items()), list(shape)]).encode())
    order = np.argsort(hashes, kind="stable")
    digest.update(np.ascontiguousarray(hashes[order], dtype="<u8").data)
    digest.update(np.ascontiguousarray(rows[order], dtype="<i8").data)
    sample = np.unique(np.linspace(0, shape[0] - 1, min(shape[0], _SAMPLED)).astype(np.int64))
    for start in range(0, len(sample), 512):
        part: Floats = np.ascontiguousarray(data[sample[start : start + 512]], dtype="<f4")
        digest.update(part.data)
    return digest.hexdigest()


def table_settings(source: Any) -> dict[str, Any]:
    """Return the settings that change what a table gives, of `Vectors` or a ``vectors.cfg``."""
    get = source.get if isinstance(source, dict) else lambda name: getattr(source, name)
    names = ["mode", "attr"]
    if get("mode") == "floret":
        names += ["minn", "maxn", "hash_count", "hash_seed", "bow", "eow"]
    return {name: get(name) for name in names}


def fingerprint(vectors: Any) -> str:
    """Return the content hash of spaCy `Vectors`, however they are stored."""
    from thinc.backends import get_array_ops

    count = len(vectors.key2row)
    hashes = np.fromiter(vectors.key2row.keys(), np.uint64, count)
    rows = np.fromiter(vectors.key2row.values(), np.int64, count)
    ops = get_array_ops(vectors.data)

    class Rows:
        def __getitem__(self, index: Ints) -> Floats:
            return ops.to_numpy(vectors.data[ops.asarray(index)])

    return content_hash(hashes, rows, Rows(), table_settings(vectors), vectors.shape)


def check_fingerprint(vectors: Any, expected: str, what: str) -> None:
    """Raise `VectorsError` unless a table is the one expected.

    Args:
        vectors: spaCy `Vectors`.
        expected: the fingerprint of the table that was there in training.
        what: who asks, for the message.
    """
    got = fingerprint(vectors)
    if got != expected:
        raise VectorsError(
            f"{what} was trained with the vector table {expected[:12]}, the vocabulary now has "
            f"{got[:12]} ({vectors.shape[0]:,} x {vectors.shape[1]}, {vectors.name!r}). Load the "
            "table it was trained with, or train it again with this one."
        )
