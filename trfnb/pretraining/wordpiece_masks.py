"""Masks over a transformer's wordpieces; special tokens are never hidden."""

import numpy as np
from numpy.typing import NDArray

from trfnb.flow.wordpieces import Wordpieces
from trfnb.pretraining.corruption import Replacement
from trfnb.pretraining.masking import Groups, Hidden, Strategy, hide


def wordpiece_groups(wordpieces: Wordpieces) -> tuple[list[Groups], Hidden]:
    """Number each text's wordpieces by word, and say which wordpieces stand for text at all.

    Returns:
        One array a text, without special tokens; and (n,) True at wordpieces of text.
    """
    content = wordpieces.offsets[:, 1] > wordpieces.offsets[:, 0]
    groups, ends = [], np.cumsum(wordpieces.lengths)
    for end, n in zip(ends.tolist(), wordpieces.lengths.tolist(), strict=True):
        offsets = wordpieces.offsets[end - n : end][content[end - n : end]]
        apart = offsets[1:, 0] > offsets[:-1, 1]
        groups.append(np.concatenate([np.zeros(len(offsets[:1])), np.cumsum(apart)]).astype("i8"))
    return groups, content


def hide_wordpieces(
    wordpieces: Wordpieces,
    strategy: Strategy,
    replacement: Replacement,
    mask_id: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], Hidden]:
    """Return the ids with hidden ones replaced, and which were hidden."""
    groups, content = wordpiece_groups(wordpieces)
    hidden = np.zeros(len(content), dtype=bool)
    hidden[content] = hide(strategy, groups, rng)
    places = np.flatnonzero(hidden)
    rolls = rng.random(len(places))
    others = wordpieces.ids[content][rng.integers(max(content.sum(), 1), size=len(places))]
    ids = wordpieces.ids.copy()
    masked = rolls < replacement.mask
    other = ~masked & (rolls < replacement.mask + replacement.other)
    ids[places[masked]] = mask_id
    ids[places[other]] = others[other]
    return ids, hidden
