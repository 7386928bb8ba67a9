"""The masking strategies under the names that a config calls them by."""

from trfnb.pipe.registries import registry
from trfnb.pretraining.corruption import MASK, Replacement
from trfnb.pretraining.masking import Strategy, mixed_mask, random_mask, span_mask, whole_word_mask


@registry.misc("trfnb.RandomMask.v1")
def configure_random_mask(probability: float = 0.15) -> Strategy:
    """Hide each word or wordpiece with a probability."""
    return random_mask(probability)


@registry.misc("trfnb.WholeWordMask.v1")
def configure_whole_word_mask(probability: float = 0.15) -> Strategy:
    """Hide each word with a probability: all its wordpieces, or all tokens without a space."""
    return whole_word_mask(probability)


@registry.misc("trfnb.SpanMask.v1")
def configure_span_mask(
    probability: float = 0.15, success: float = 0.2, longest: int = 10
) -> Strategy:
    """Hide spans of words; see `span_mask`."""
    return span_mask(probability, success, longest)


@registry.misc("trfnb.MixedMask.v1")
def configure_mixed_mask(*strategies: Strategy, weights: list[float] | None = None) -> Strategy:
    """Follow one of several strategies for each text.

    Args:
        strategies: In a config, blocks below ``masking.*`` under any names.
        weights: How often to follow each, in their order; all alike by default.
    """
    return mixed_mask(strategies, weights)


@registry.misc("trfnb.Replacement.v1")
def configure_replacement(mask: float = 0.8, other: float = 0.1, word: str = MASK) -> Replacement:
    """Say what stands in hidden places; see `Replacement`."""
    return Replacement(mask, other, word)
