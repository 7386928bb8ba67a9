"""Hidden states of wordpieces -> one vector for each token: alignment, pooling, layer mix.

An output belongs to the tokens that it was computed for, not to the object that carries it: a copy
of a doc has the same tokens; a doc whose tokens were merged or split since has others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from spacy.attrs import IDX, LENGTH, ORTH, SPACY
from spacy.tokens import Doc, Span
from thinc.api import Model, get_array_module, to_numpy
from thinc.types import Floats2d, Ints1d, Ragged

from .wordpieces import Wordpieces

Pooling = Model[Ragged, Floats2d]
# (tokens, 2): each token's text, as the hash in the string store, and whether a space follows.
Tokens = NDArray[np.uint64]


def align(docs: Sequence[Doc], spans: Sequence[Sequence[Span]], wordpieces: Wordpieces) -> Ragged:
    """Find the wordpiece rows of every token of a batch.

    A row belongs to a token if they share a character. One row may belong to several tokens, and
    a token that lies in several spans has rows from each.

    Args:
        docs: The batch.
        spans: For each doc, the spans that were tokenised, in the order of `wordpieces`.
        wordpieces: The wordpieces of the spans' texts.

    Returns:
        Ragged: `dataXd` holds row numbers, token after token; `lengths` (tokens of all docs,) how
        many rows each token has, zero where it has none.
    """
    token_ids, starts, ends, span_bases = _token_characters(docs, spans)
    base = np.repeat(span_bases, wordpieces.lengths)
    left, right = wordpieces.offsets[:, 0] + base, wordpieces.offsets[:, 1] + base
    first = np.searchsorted(ends, left, side="right")
    last = np.searchsorted(starts, right, side="left")
    counts = np.where(right > left, np.maximum(last - first, 0), 0)
    rows = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    tokens = token_ids[np.repeat(first, counts) + within]
    order = np.argsort(tokens, kind="stable")
    lengths = np.bincount(tokens, minlength=sum(map(len, docs)))
    return Ragged(cast(Ints1d, rows[order].astype("int32")), cast(Ints1d, lengths.astype("int32")))


def tokens_of(doc: Doc) -> Tokens:
    """Return what identifies a doc's tokens."""
    return cast(Tokens, doc.to_array([ORTH, SPACY]).reshape(-1, 2))


def realigned(alignment: Ragged, computed_for: Tokens, doc: Doc) -> Ragged | None:
    """Return the rows of each of a doc's tokens, merged where tokens were merged since.

    Args:
        alignment: For each token at the time the numbers of its rows.
        computed_for: Those tokens.
        doc: The doc as it is now.

    Returns:
        For each token of the doc the numbers of its rows, ascending; None where the text is another
        one, or a token was split: its rows cannot be told apart.
    """
    if np.array_equal(computed_for, tokens_of(doc)):
        return alignment
    strings = doc.vocab.strings
    try:
        before = [strings[int(orth)] + " " * int(space) for orth, space in computed_for]
    except KeyError:  # a word that this doc's vocabulary has never seen
        return None
    if "".join(before) != doc.text_with_ws:
        return None
    ends = np.cumsum([len(text) for text in before])
    ends_now = np.cumsum(doc.to_array([LENGTH, SPACY]).reshape(-1, 2).sum(axis=1))
    if not np.isin(ends_now, ends).all():
        return None
    token_of = np.repeat(np.searchsorted(ends_now, ends), to_numpy(alignment.lengths))
    pairs = np.unique(np.stack([token_of, to_numpy(alignment.dataXd)]), axis=1)
    xp = get_array_module(alignment.dataXd)
    return Ragged(
        xp.asarray(pairs[1].astype("int32")),
        xp.asarray(np.bincount(pairs[0], minlength=len(doc)).astype("int32")),
    )


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
    has_rows = alignment.lengths > 0
    vectors = ops.alloc2f(len(has_rows), rows.shape[1])
    if not len(indices):
        return vectors, lambda d_vectors: ops.alloc2f(*rows.shape)
    picked = Ragged(rows[indices], alignment.lengths[has_rows])
    vectors[has_rows], backprop_pooling = pooling(picked, is_train)

    def backprop(d_vectors: Floats2d) -> Floats2d:
        d_rows = ops.alloc2f(*rows.shape)
        d_picked = backprop_pooling(d_vectors[has_rows])
        ops.scatter_add(d_rows, indices, cast(Floats2d, d_picked.dataXd))
        return d_rows

    return vectors, backprop


def scalar_mix(
    model: Model, rows: Mapping[int, Floats2d]
) -> tuple[Floats2d, Callable[[Floats2d], dict[int, Floats2d]]]:
    """Return ``gamma * sum(softmax(mix)[l] * rows[l])`` over all layers.

    Each task learns which layers it needs (Peters et al., 2018, Deep contextualized word
    representations, https://arxiv.org/abs/1802.05365, eq. 1).

    Args:
        model: Holds the parameters ``mix`` (layers,) and ``gamma`` (1,).
        rows: Layer number -> (n, width), every layer from the embeddings' output on.

    Returns:
        (n, width), and a callback that adds to the parameters' gradients and returns those of the
        layers.
    """
    ops = model.ops
    weights: Any = model.get_param("mix")
    gamma: Any = cast(Any, model.get_param("gamma"))[0]
    shares: Any = ops.softmax(weights[None])[0]
    mixed: Any = sum(share * rows[layer] for layer, share in enumerate(shares))

    def backprop(d_mixed: Floats2d) -> dict[int, Floats2d]:
        slopes = ops.xp.asarray(
            [(d_mixed * one).sum(axis=(0, 1)) for _, one in sorted(rows.items())]
        )
        mean = (shares * slopes).sum()
        model.inc_grad("gamma", ops.asarray1f([mean]))
        model.inc_grad("mix", ops.asarray1f(gamma * shares * (slopes - mean)))
        return {layer: gamma * share * d_mixed for layer, share in enumerate(shares)}

    return cast(Floats2d, gamma * mixed), backprop


# Lay all spans' texts on one line of characters, a gap between two spans.
#
# Returns:
#     For each token of each span its number in the batch, its first character and the one after
#     its last; for each span the character that its text starts at.
def _token_characters(
    docs: Sequence[Doc], spans: Sequence[Sequence[Span]]
) -> tuple[NDArray[np.int64], ...]:
    token_ids, starts, ends, bases = [], [], [], []
    first_token = base = 0
    for doc, doc_spans in zip(docs, spans, strict=True):
        characters = doc.to_array([IDX, LENGTH]).astype("int64").reshape(-1, 2)
        for span in doc_spans:
            bases.append(base)
            if not len(span):
                continue
            begin, length = characters[span.start : span.end].T
            token_ids.append(np.arange(span.start, span.end) + first_token)
            starts.append(begin - begin[0] + base)
            ends.append(starts[-1] + length)
            base = int(ends[-1][-1]) + 1
        first_token += len(doc)
    empty = np.zeros(0, dtype="int64")
    return (
        np.concatenate([empty, *token_ids]),
        np.concatenate([empty, *starts]),
        np.concatenate([empty, *ends]),
        np.asarray(bases, dtype="int64"),
    )
