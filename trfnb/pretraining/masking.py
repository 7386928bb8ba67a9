"""Which places of a text are hidden: strategies that stand by themselves and combine.

A strategy gets the units of each text as group numbers, one a unit (words, grouped where no space
stands between them, or wordpieces, grouped by word), and returns which units to hide. Random
places are BERT's (Devlin et al., 2019, https://arxiv.org/abs/1810.04805), whole words its later
release's, spans SpanBERT's (Joshi et al., 2020, https://arxiv.org/abs/1907.10529).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Groups = NDArray[np.int64]
Hidden = NDArray[np.bool_]
Strategy = Callable[[Groups, np.random.Generator], Hidden]


def random_mask(probability: float = 0.15) -> Strategy:
    """Hide each unit with a probability."""
    _check(probability)

    def choose(groups: Groups, rng: np.random.Generator) -> Hidden:
        return rng.random(len(groups)) < probability

    return choose


def whole_word_mask(probability: float = 0.15) -> Strategy:
    """Hide each group with a probability, all of its units together."""
    _check(probability)

    def choose(groups: Groups, rng: np.random.Generator) -> Hidden:
        _, group = np.unique(groups, return_inverse=True)
        hidden: Hidden = (rng.random(group.max(initial=-1) + 1) < probability)[group]
        return hidden

    return choose


def span_mask(probability: float = 0.15, success: float = 0.2, longest: int = 10) -> Strategy:
    """Hide spans of groups until about a share of the units is hidden.

    Args:
        probability: The share.
        success: A span's length is geometric with this probability of ending at each group;
            0.2 gives 3.8 groups on average once cut at ten.
        longest: Groups of the longest span.
    """
    _check(probability)
    if not 0 < success <= 1 or longest < 1:
        raise ValueError(
            "span_mask expected 0 < success <= 1 and longest >= 1, got "
            f"success={success!r}, longest={longest!r}."
        )

    lengths = np.arange(1, longest + 1)
    chances = success * (1 - success) ** (lengths - 1)
    chances /= chances.sum()
    # Overlaps are allowed for: places stay open with (1 - start) to the power of the mean length.
    mean = float((lengths * chances).sum())
    start = 1 - (1 - probability) ** (1 / mean)

    def choose(groups: Groups, rng: np.random.Generator) -> Hidden:
        _, group = np.unique(groups, return_inverse=True)
        n = int(group.max(initial=-1)) + 1
        hidden = np.zeros(n + longest, dtype=bool)
        for first in np.flatnonzero(rng.random(n + longest - 1) < start) - longest + 1:
            # Spans that begin before the text make its first words as likely as all others.
            length = int(rng.choice(lengths, p=chances))
            hidden[max(first, 0) : max(first + length, 0)] = True
        return hidden[:n][group]

    return choose


def mixed_mask(strategies: Sequence[Strategy], weights: Sequence[float] | None = None) -> Strategy:
    """Follow one of several strategies for each text, chosen with these weights."""
    shares = np.ones(len(strategies)) if weights is None else np.asarray(weights, dtype=float)
    if not strategies or shares.shape != (len(strategies),) or (shares <= 0).any():
        raise ValueError(
            f"mixed_mask expected strategies and a positive weight for each, got "
            f"{len(strategies)} strategies and the weights {weights!r}."
        )
    shares = shares / shares.sum()

    def choose(groups: Groups, rng: np.random.Generator) -> Hidden:
        return strategies[int(rng.choice(len(strategies), p=shares))](groups, rng)

    return choose


def hide(strategy: Strategy, texts: Sequence[Groups], rng: np.random.Generator) -> Hidden:
    """Return what to hide of all units, one text after another; at least one where there is any."""
    parts = [strategy(groups, rng) for groups in texts]
    hidden: Hidden = np.concatenate(parts) if parts else np.zeros(0, dtype=bool)
    if len(hidden) and not hidden.any():
        hidden[int(rng.integers(len(hidden)))] = True
    return hidden


def _check(probability: float) -> None:
    if not 0 < probability < 1:
        raise ValueError(
            f"probability of a mask expected a number between 0 and 1, got {probability!r}; "
            "0.15 is usual."
        )
