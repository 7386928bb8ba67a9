"""The gradients of every training step: how strong each was, and which ones were in conflict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from thinc.api import get_array_module, to_numpy
from thinc.types import Floats2d

if TYPE_CHECKING:
    import pandas as pd

Parts = dict[int, Floats2d]
"""Gradients of a shared output: layer number -> (rows, width)."""

MEASURED = "measured"
AT_ZERO = "not computed: factor 0"
ABSENT = "no gradient came"


def gram(gradients: Sequence[Parts], *, pairs: bool = True) -> np.ndarray:
    """Return all inner products of the listeners' gradients, (k, k), on the host.

    Norms are the roots of the diagonal, a cosine is an entry over two norms. Two listeners to
    different layers have no output in common: their entry is NaN.

    Args:
        gradients: What each listener sent, before its factor.
        pairs: Without them only the diagonal is computed; the rest is NaN.
    """
    places, products = [], []
    xp = get_array_module(next((d for parts in gradients for d in parts.values()), np.zeros(0)))
    for i, first in enumerate(gradients):
        for j in range(i, len(gradients) if pairs else i + 1):
            for layer in first.keys() & gradients[j].keys():
                places.append((i, j))
                products.append(xp.vdot(first[layer], gradients[j][layer]))
    found = np.full((len(gradients), len(gradients)), np.nan)
    if products:
        # One copy from the device for all of them.
        on_host = to_numpy(xp.stack(products))
        for (i, j), product in zip(places, on_host, strict=True):
            found[i, j] = np.nan_to_num(found[i, j]) + product
            found[j, i] = found[i, j]
    np.fill_diagonal(found, np.nan_to_num(found.diagonal()))
    return found


@dataclass(frozen=True)
class Step:
    """The gradients of one training step at the shared output.

    Attributes:
        listeners: Their components' names.
        factors: What each gradient was multiplied by.
        gram: Inner products of the raw gradients, (k, k); NaN where not computed.
        varied: Whether a factor changed between the parts of an accumulated step.
    """

    listeners: tuple[str, ...]
    factors: tuple[float, ...]
    gram: np.ndarray
    varied: bool = False


class GradientLog:
    """The effective factors and the gradients of every training step of a shared component.

    Attributes:
        steps: One `Step` per training step.
        pairs: Whether to compute what two listeners' gradients have in common, beside their norms.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.pairs = True
        self._parts: list[Step] = []

    def add(
        self, listeners: Sequence[str], factors: Mapping[str, float], came: Sequence[str],
        products: np.ndarray,
    ) -> None:  # fmt: skip
        """Take one batch: a whole step, or a part of one.

        Args:
            listeners: All of them.
            factors: Each one's effective factor.
            came: Whose gradient arrived.
            products: The `gram` of those.
        """
        whole = np.full((len(listeners), len(listeners)), np.nan)
        places = [listeners.index(name) for name in came]
        whole[np.ix_(places, places)] = products
        self._parts.append(
            Step(tuple(listeners), tuple(factors[name] for name in listeners), whole)
        )

    def close(self) -> None:
        """End the step. Its parts hold different words, so that their inner products add up."""
        parts, self._parts = self._parts, []
        if not parts:
            return
        last = parts[-1]
        parts = [part for part in parts if part.listeners == last.listeners]
        grams = np.stack([part.gram for part in parts])
        known = ~np.isnan(grams).all(axis=0)
        total = np.where(known, np.nansum(grams, axis=0), np.nan)
        factors = np.array([part.factors for part in parts])
        varied = bool((factors != factors[0]).any())
        mean = tuple(map(float, factors.mean(axis=0))) if varied else last.factors
        self.steps.append(Step(last.listeners, mean, total, varied))

    def clear(self) -> None:
        """Forget all steps."""
        self.steps, self._parts = [], []

    def table(self) -> "pd.DataFrame":
        """Return one row per step and listener.

        Columns: ``step`` (from 1), ``listener``, the effective ``factor``, the ``raw_norm`` of
        its gradient, the ``norm`` after the factor, its ``share`` of the summed gradient (the
        part of the sum's length that it brings along the sum's direction; all shares add up to
        1, and a negative one points against the rest), and ``state``: a gradient is measured
        unless its factor was 0 (then it is not computed) or its component was not updated.
        Listeners to other layers count as orthogonal in the shares.
        """
        import pandas as pd

        rows = []
        for number, step in enumerate(self.steps, start=1):
            raw = np.sqrt(step.gram.diagonal())
            factors = np.array(step.factors)
            products = np.nan_to_num(step.gram) * np.outer(factors, factors)
            # A cosine that was not computed would pass for 0.
            total = products.sum() if self._complete(step) else np.nan
            for i, name in enumerate(step.listeners):
                rows.append(
                    {
                        "step": number,
                        "listener": name,
                        "factor": step.factors[i],
                        "raw_norm": raw[i],
                        "norm": 0.0 if step.factors[i] == 0 else abs(step.factors[i]) * raw[i],
                        "share": products[i].sum() / total if total else np.nan,
                        "state": _state(step.factors[i], raw[i]),
                    }
                )
        columns = ["step", "listener", "factor", "raw_norm", "norm", "share", "state"]
        return pd.DataFrame(rows, columns=columns)

    def conflicts(self) -> "pd.DataFrame":
        """Return one row per step and pair: ``step``, ``first``, ``second``, ``cosine``.

        The cosine is that of the raw gradients; below 0 the two listeners want opposite changes.
        It is NaN where one was not computed, is zero, or belongs to another layer.
        """
        import pandas as pd

        rows = []
        for number, step in enumerate(self.steps, start=1):
            norms = np.sqrt(step.gram.diagonal())
            for i, j in combinations(range(len(step.listeners)), 2):
                scale = norms[i] * norms[j]
                cosine = step.gram[i, j] / scale if scale > 0 else np.nan
                rows.append((number, step.listeners[i], step.listeners[j], cosine))
        return pd.DataFrame(rows, columns=["step", "first", "second", "cosine"])

    def _complete(self, step: Step) -> bool:
        return self.pairs or len(step.listeners) == 1


def _state(factor: float, raw_norm: float) -> str:
    if not np.isnan(raw_norm):
        return MEASURED
    return AT_ZERO if factor == 0 else ABSENT
