"""Which tokens an output was computed for: it belongs to them, not to the object that carries it.

A copy of a doc has the same tokens; a doc whose tokens were merged or split since has others.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray
from spacy.attrs import LENGTH, ORTH, SPACY
from spacy.tokens import Doc
from thinc.api import get_array_module, to_numpy
from thinc.types import Ragged

# (tokens, 2): each token's text, as the hash in the string store, and whether a space follows.
Tokens = NDArray[np.uint64]


def tokens_of(doc: Doc) -> Tokens:
    """Return what identifies a doc's tokens."""
    return cast(Tokens, doc.to_array([ORTH, SPACY]).reshape(-1, 2))


def content(doc: Doc) -> bytes:
    """Return the same in a form that can be compared at once and looked up."""
    return tokens_of(doc).tobytes()


def realigned(alignment: Ragged, computed_for: Tokens | None, doc: Doc) -> Ragged | None:
    """Return the rows of each of a doc's tokens, merged where tokens were merged since.

    Args:
        alignment: For each token at the time the numbers of its rows.
        computed_for: Those tokens; None where they are not known, and only counted.
        doc: The doc as it is now.

    Returns:
        For each token of the doc the numbers of its rows, ascending; None where the text is another
        one, or a token was split: its rows cannot be told apart.
    """
    if computed_for is None:
        return alignment if len(alignment.lengths) == len(doc) else None
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
    lengths, rows = to_numpy(alignment.lengths), to_numpy(alignment.dataXd)
    token_of = np.searchsorted(ends_now, ends)
    pairs = np.unique(np.stack([np.repeat(token_of, lengths), rows]), axis=1)
    xp = get_array_module(alignment.dataXd)
    return Ragged(
        xp.asarray(pairs[1].astype("int32")),
        xp.asarray(np.bincount(pairs[0], minlength=len(doc)).astype("int32")),
    )
