"""Wordpiece rows -> one vector a token."""

from collections.abc import Callable
from typing import cast

from thinc.api import Model
from thinc.types import Floats2d, Ints1d, Ragged

Pooling = Model[Ragged, Floats2d]


def pool(
    pooling: Pooling, rows: Floats2d, alignment: Ragged, is_train: bool
) -> tuple[Floats2d, Callable[[Floats2d], Floats2d]]:
    """Reduce each token's rows to one vector; a token without rows gets zeros.

    Args:
        pooling: A reduction such as Thinc's ``reduce_mean``; it never sees a token without rows.
        rows: (n, width) hidden states.
        alignment: Which rows belong to which token, from `align`.
        is_train: Whether the pooling may keep what its backprop needs.

    Returns:
        (tokens, width) vectors, and a callback from their gradient to that of the rows.
    """
    ops, indices = pooling.ops, cast(Ints1d, alignment.dataXd)
    lengths = alignment.lengths
    has_rows = lengths > 0
    everywhere = bool(has_rows.all())
    picked = Ragged(rows[indices], lengths if everywhere else lengths[has_rows])
    reduced, backprop_pooling = pooling(picked, is_train) if len(indices) else (None, None)
    if everywhere and reduced is not None:
        vectors = reduced
    else:
        vectors = ops.alloc2f(len(lengths), rows.shape[1])
        if reduced is not None:
            vectors[has_rows] = reduced

    def backprop(d_vectors: Floats2d) -> Floats2d:
        d_rows = ops.alloc2f(*rows.shape)
        if backprop_pooling is not None:
            d_picked = backprop_pooling(d_vectors if everywhere else d_vectors[has_rows])
            ops.scatter_add(d_rows, indices, cast(Floats2d, d_picked.dataXd))
        return d_rows

    return vectors, backprop
