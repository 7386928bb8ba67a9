"""Fewer dimensions by principal components, in two passes over a table of any size."""

import numpy as np
import numpy.typing as npt

from trfnb.vectors.blocks import Floats
from trfnb.vectors.report import VectorsError


class Moments:
    """The running mean and covariance of rows."""

    def __init__(self, width: int) -> None:
        self.rows = 0
        self.total = np.zeros(width)
        self.products = np.zeros((width, width))

    def add(self, vectors: Floats) -> None:
        """Take rows into account."""
        self.rows += len(vectors)
        self.total += vectors.sum(axis=0, dtype=np.float64)
        self.products += vectors.T @ vectors

    def components(self, width: int) -> tuple[Floats, Floats, float]:
        """Return the mean, the ``width`` leading directions (columns) and the variance they keep.

        Each direction's sign is set so that its largest entry is positive, to be repeatable.

        Raises:
            VectorsError: ``width`` is no smaller than the table's.
        """
        if not 0 < width < len(self.total):
            raise VectorsError(
                f"Expected a width from 1 to {len(self.total) - 1} to reduce a table of "
                f"{len(self.total)} to, got {width}."
            )
        mean = self.total / max(self.rows, 1)
        covariance: npt.NDArray[np.float64] = self.products / max(self.rows, 1)
        values, vectors = np.linalg.eigh(covariance - np.outer(mean, mean))
        leading = vectors[:, ::-1][:, :width]
        leading = leading * np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(width)])
        values = np.clip(values[::-1], 0, None)
        kept = float(values[:width].sum() / values.sum()) if values.sum() else 1.0
        return mean.astype(np.float32), leading.astype(np.float32), kept


def unit(vectors: Floats) -> Floats:
    """Return rows of length one; rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
