"""A convolution's vectors at chosen rows alone.

A loss that looks at one row in seven needs the last layer there, the layer below in a window
around it, and so on down. Each layer is computed where the one above asks for it and nowhere
else: the same numbers and gradients as from all rows, from less than half of the products.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from thinc.api import Model
from thinc.types import Floats2d

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class WindowEncoder:
    """The parts of spaCy's window encoders.

    Attributes:
        layers: What each layer does with a row's window, from the bottom up.
        window: Rows on either side.
        pad: Rows of zeros between docs.
    """

    layers: tuple[Model[Floats2d, Floats2d], ...]
    window: int
    pad: int


def window_encoder(encode: Model) -> WindowEncoder | None:
    """Recognise ``with_array(clone(residual(expand_window >> ...)))``, or return None."""
    if not encode.name.startswith("with_array(") or "pad" not in encode.attrs:
        return None
    (inner,) = encode.layers
    # A single layer is not chained.
    blocks = [inner] if len(inner.layers) == 1 else inner.layers
    layers, windows = [], set()
    for block in blocks:
        if not block.name.startswith("residual(") or len(block.layers) != 1:
            return None
        part = block.layers[0]
        if not part.layers or part.layers[0].name != "expand_window":
            return None
        windows.add(int(part.layers[0].attrs["window_size"]))
        layers.append(part)
    if len(windows) != 1:
        return None
    return WindowEncoder(tuple(layers), windows.pop(), int(encode.attrs["pad"]))


def encode_rows(
    encoder: WindowEncoder, X: Floats2d, rows: Rows, is_train: bool
) -> tuple[Floats2d, Callable[[Floats2d], Floats2d]]:
    """Encode a padded array of embeddings at chosen rows.

    Args:
        encoder: From `window_encoder`.
        X: (n, width), with `WindowEncoder.pad` rows of zeros around each doc.
        rows: Sorted numbers of the rows to return.
        is_train: Whether dropout applies.

    Returns:
        (rows, width), and what turns its gradient into that of ``X``.
    """
    n, wanted = len(X), [rows]
    for _ in encoder.layers[1:]:
        wanted.append(_around(wanted[-1], encoder.window, n))
    wanted.reverse()
    have: Rows = np.arange(n)
    backprops: list[tuple[Any, ...]] = []
    states: Any = X
    for layer, rows_out in zip(encoder.layers, wanted, strict=True):
        windows, valid = _windows(have, rows_out, encoder.window, n)
        columns = states[windows]
        columns[~valid] = 0
        Y, backprop = states[windows[:, encoder.window]], []
        out: Any = columns.reshape(len(rows_out), -1)
        for part in layer.layers[1:]:
            out, back = part(out, is_train)
            backprop.append(back)
        backprops.append((backprop, windows, valid, len(states)))
        states, have = out + Y, rows_out

    def backprop_rows(dY: Floats2d) -> Floats2d:
        d_states: Any = dY
        for backs, windows, valid, before in reversed(backprops):
            d_columns: Any = d_states
            for back in reversed(backs):
                d_columns = back(d_columns)
            d_columns = d_columns.reshape(*windows.shape, -1)
            d_below = np.zeros((before, d_states.shape[1]), dtype="f")
            # One place of all windows holds each row at most once: indexed addition adds all.
            for place in range(windows.shape[1]):
                there = valid[:, place]
                d_below[windows[there, place]] += d_columns[there, place]
            d_below[windows[:, windows.shape[1] // 2]] += d_states
            d_states = d_below
        return d_states

    return states, backprop_rows


def _around(rows: Rows, window: int, n: int) -> Rows:
    """Return the rows and their neighbours, sorted."""
    near = np.zeros(n + 2 * window, dtype=bool)
    for shift in range(2 * window + 1):
        near[rows + shift] = True
    return np.flatnonzero(near[window : window + n])


def _windows(have: Rows, rows: Rows, window: int, n: int) -> tuple[Rows, NDArray[np.bool_]]:
    """Return where in ``have`` each row's window lies, and which of its places exist."""
    place = np.zeros(n, dtype=np.int64)
    place[have] = np.arange(len(have))
    near = rows[:, None] + np.arange(-window, window + 1)
    valid = (near >= 0) & (near < n)
    return place[np.clip(near, 0, n - 1)], valid
