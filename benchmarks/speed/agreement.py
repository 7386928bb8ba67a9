"""Do the sides compute the same? Checked before anything is timed."""

from pathlib import Path
from typing import Any

import numpy as np


def vectors(folder: Path, ours: str, theirs: str, kind: str, precision: str) -> dict[str, float]:
    """Compare token vectors, ours in a precision with theirs in fp32."""
    a = np.load(folder / f"{ours}-{kind}-{precision}.npy")
    b = np.load(folder / f"{theirs}-{kind}-fp32.npy")
    if a.shape != b.shape:
        raise ValueError(f"{ours} has token vectors of shape {a.shape}, {theirs} of {b.shape}.")
    difference = np.abs(a - b).max(axis=1)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(axis=1) / np.maximum(norms, 1e-9)
    return {
        "largest difference": float(difference.max()),
        "share within 1e-4": float((difference < 1e-4).mean()),
        "cosine, median": float(np.median(cosine)),
        "cosine, 1st percentile": float(np.percentile(cosine, 1)),
    }


def checked_vectors(found: dict[str, float], side: str, precision: str) -> dict[str, float]:
    """Return what was found.

    spacy-curated-transformers splits words by a tokenizer of its own, so a few words differ, and
    with them, a little, what stands beside them.

    Raises:
        ValueError: the outputs are not the same work.
    """
    if precision != "fp32":
        good = found["cosine, 1st percentile"] > 0.999
    elif side == "spacy-curated-transformers":
        good = found["cosine, median"] > 0.9999
    else:
        good = found["largest difference"] < 1e-4
    if not good:
        raise ValueError(f"The vectors of trfnb and {side} differ in {precision}: {found}")
    return found


def checked_states(
    folder: Path, ours: str, theirs: str, kind: str, precision: str
) -> dict[str, float]:
    """Compare states of wordpieces in a precision with another side's in fp32.

    Raises:
        ValueError: they are not the same work. int8 need only be near: what it loses is reported.
    """
    found = vectors(folder, ours, theirs, kind, precision)
    if precision == "fp32":
        good = found["largest difference"] < 1e-3
    elif precision == "int8":
        good = found["cosine, median"] > 0.9
    else:
        good = found["cosine, 1st percentile"] > 0.999
    if not good:
        raise ValueError(f"The states of {ours} and {theirs} differ in {precision}: {found}")
    return found


def losses(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
    """Return the relative differences of first losses.

    Raises:
        ValueError: one is larger than a hundredth.
    """
    found = {task: abs(ours[task] / theirs[task] - 1) for task in theirs}
    if max(found.values()) > 1e-2:
        raise ValueError(f"First losses differ: {ours} and {theirs}.")
    return found
