"""Keep a table's first rows; words of the others get their nearest kept row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from spacy.vectors import Vectors
from thinc.backends import get_array_ops

from trfnb.vectors.blocks import Floats, Hashes
from trfnb.vectors.closest import closest
from trfnb.vectors.report import VectorsError
from trfnb.vectors.similar import SomeRows

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Pruned:
    """A smaller table and what it cost.

    Attributes:
        vectors: the table, with every key of the larger one.
        cosines: for each key that lost its row, the cosine to the row it has now.
        keys: those keys.
        stand_ins: for each of them, a key whose row it has now.
    """

    vectors: Vectors
    cosines: Floats
    keys: Hashes
    stand_ins: Hashes

    @property
    def remapped(self) -> dict[str, tuple[str, float]]:
        """``word: (stand-in, cosine)`` of every key that lost its row, in spaCy's form."""
        return {word: (other, cosine) for word, other, cosine in self._named(slice(None))}

    def harmed(self, most: int = 20) -> list[tuple[str, str, float]]:
        """Return the words served worst, worst first: word, stand-in, cosine.

        Of words that shared the row they lost, and so their stand-in and cosine, the first.
        """
        shown: dict[tuple[int, float], int] = {}
        for place in np.argsort(self.cosines, kind="stable").tolist():
            if len(shown) == most:
                break
            shown.setdefault((int(self.stand_ins[place]), float(self.cosines[place])), place)
        return self._named(list(shown.values()))

    def _named(self, which: Any) -> list[tuple[str, str, float]]:
        columns = (self.keys[which], self.stand_ins[which], self.cosines[which])
        return [
            (_text(self.vectors, key), _text(self.vectors, other), cosine)
            for key, other, cosine in zip(*(c.tolist() for c in columns), strict=True)
        ]

    def quantiles(self, at: Sequence[float] = _QUANTILES) -> dict[str, float]:
        """Return quantiles of the cosines, and their mean."""
        if not len(self.cosines):
            return {"mean": 1.0} | {f"{q:g}": 1.0 for q in at}
        values = np.quantile(self.cosines, at)
        named = {f"{q:g}": float(value) for q, value in zip(at, values, strict=True)}
        return {"mean": float(self.cosines.mean())} | named


def prune(vectors: Any, rows: int, *, priority: Sequence[str] = ()) -> Pruned:
    """Shrink a table to ``rows`` rows.

    The rows of the words in ``priority`` are kept first, then the others in the table's order
    (which for most tables is by frequency). A batch of cosines is in memory at a time, and no
    more.

    Args:
        vectors: spaCy `Vectors` in default mode; it is left as it is.
        rows: how many rows to keep.
        priority: words to keep before others.

    Raises:
        VectorsError: the table is floret's (its rows are shared by all words), or ``rows`` is not
            from 1 to the table's own number.
    """
    if vectors.mode != "default":
        raise VectorsError(
            "A floret table has no row a word and cannot be pruned. Convert it with words= to "
            "make an ordinary table of them first."
        )
    if not 0 < rows <= vectors.shape[0]:
        raise VectorsError(f"Expected to keep from 1 to {vectors.shape[0]} rows, got {rows}.")
    keys = np.fromiter(vectors.key2row.keys(), np.uint64, len(vectors.key2row))
    owned = np.fromiter(vectors.key2row.values(), np.int64, len(vectors.key2row))
    first = vectors.find(keys=list(priority)) if len(priority) else np.empty(0, np.int64)
    # Row numbers in the order of their worth; rows without a key are worth nothing.
    order = np.concatenate([np.asarray(first, dtype=np.int64), np.unique(owned)])
    _, place = np.unique(order[order >= 0], return_index=True)
    order = order[order >= 0][np.sort(place)]
    keep, toss = np.sort(order[:rows]), np.sort(order[rows:])
    ops = get_array_ops(vectors.data)
    kept: Floats = np.ascontiguousarray(ops.to_numpy(vectors.data[ops.asarray(keep)]), dtype="f4")
    new_row = np.full(vectors.shape[0], -1, dtype=np.int64)
    new_row[keep] = np.arange(len(keep))
    cosine_of = np.ones(vectors.shape[0], dtype=np.float32)
    if len(toss):
        new_row[toss], cosine_of[toss] = closest(SomeRows(vectors.data, toss), kept)
    smaller = Vectors(strings=vectors.strings, data=ops.asarray(kept), name=vectors.name,
                      attr=vectors.attr)  # fmt: skip
    smaller.key2row = dict(zip(keys.tolist(), new_row[owned].tolist(), strict=True))
    smaller._sync_unset()
    kept_row = np.zeros(vectors.shape[0], dtype=bool)
    kept_row[keep] = True
    lost = np.flatnonzero(~kept_row[owned])
    stand_in = np.zeros(len(keep), dtype=np.uint64)
    stays = np.flatnonzero(kept_row[owned])[::-1]
    stand_in[new_row[owned[stays]]] = keys[stays]
    return Pruned(smaller, cosine_of[owned[lost]], keys[lost], stand_in[new_row[owned[lost]]])


def _text(vectors: Any, key: int) -> str:
    return vectors.strings[key] if key in vectors.strings else str(key)
