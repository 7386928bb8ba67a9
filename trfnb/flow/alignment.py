"""Wordpiece rows <-> tokens, from the characters that both cover."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from spacy.attrs import IDX, LENGTH
from spacy.tokens import Doc, Span
from thinc.types import Ints1d, Ragged

from .wordpieces import Wordpieces


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
    n_tokens = sum(len(doc) for doc in docs)
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
    lengths = np.bincount(tokens, minlength=n_tokens)
    return Ragged(cast(Ints1d, rows[order].astype("int32")), cast(Ints1d, lengths.astype("int32")))


def _token_characters(
    docs: Sequence[Doc], spans: Sequence[Sequence[Span]]
) -> tuple[NDArray[np.int64], ...]:
    """Lay all spans' texts on one line of characters, a gap between two spans.

    Returns:
        For each token of each span its number in the batch, its first character and the one after
        its last; for each span the character that its text starts at.
    """
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
