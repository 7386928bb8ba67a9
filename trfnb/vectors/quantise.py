"""Store a value in four, two or one bytes, and say what the smaller ones cost."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from trfnb.vectors.blocks import Floats


def record_type(dtype: str, width: int) -> np.dtype[Any]:
    """Return how a row lies in the file; int8 rows carry their own scale."""
    if dtype == "int8":
        return np.dtype([("scale", "<f4"), ("codes", "i1", (width,))])
    return np.dtype("<f4" if dtype == "float32" else "<f2")


def to_record(vectors: Floats, record: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Turn rows of float32 into rows as stored.

    int8 rounds each row to 255 steps between plus and minus its largest absolute value.
    """
    if not record.names:
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(vectors, dtype=record)
        # float16 ends at 65504; the nearest it has stands for what lies beyond.
        if record.itemsize == 2 and not np.isfinite(stored).all():
            limit = np.finfo(np.float16).max
            stored = np.clip(vectors, -limit, limit).astype(record)
        return stored
    rows = np.empty(len(vectors), dtype=record)
    scale = np.abs(vectors).max(axis=1, initial=0) / np.float32(127)
    rows["scale"] = scale
    steps = np.divide(vectors, scale[:, None], out=np.zeros_like(vectors), where=scale[:, None] > 0)
    rows["codes"] = np.clip(np.rint(steps), -127, 127)
    return rows


def from_record(rows: np.ndarray[Any, Any]) -> Floats:
    """Turn rows as stored back into float32."""
    if rows.dtype.names:
        codes: Floats = rows["codes"].astype(np.float32)
        codes *= rows["scale"][..., None]
        return codes
    return rows.astype(np.float32)


@dataclass
class RoundingError:
    """The running error of storing rows in fewer bytes."""

    rows: int = 0
    squared: float = 0.0
    total: float = 0.0
    largest: float = 0.0
    cosine: float = 0.0

    def add(self, vectors: Floats, record: np.dtype[Any]) -> None:
        """Compare rows with what they will be read back as."""
        back = from_record(to_record(vectors, record))
        self.squared += float(((vectors - back) ** 2).sum(dtype=np.float64))
        self.total += float((vectors**2).sum(dtype=np.float64))
        self.largest = max(self.largest, float(np.abs(vectors - back).max(initial=0)))
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(back, axis=1)
        dots = (vectors * back).sum(axis=1)
        self.cosine += float(np.where(norms > 0, dots / np.where(norms > 0, norms, 1), 1).sum())
        self.rows += len(vectors)

    def measures(self) -> dict[str, float]:
        """Return the largest absolute error, the relative error of the whole, the mean cosine."""
        return {
            "rounding_largest_error": self.largest,
            "rounding_relative_error": (self.squared / self.total) ** 0.5 if self.total else 0.0,
            "rounding_mean_cosine": self.cosine / max(self.rows, 1),
        }
