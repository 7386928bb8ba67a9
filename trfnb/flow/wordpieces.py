"""Spans -> wordpiece ids and their character offsets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# transformers marks "no limit" by a very large model_max_length.
_NO_LIMIT = 1_000_000


@dataclass(frozen=True, eq=False)
class Wordpieces:
    """The wordpieces of a batch of texts, one after another, without padding.

    Attributes:
        ids: (n,) int64, ids in the tokenizer's vocabulary, special tokens included.
        offsets: (n, 2) int64, each wordpiece's start and end character in its text; equal where
            a wordpiece stands for no character.
        lengths: (texts,) int64, wordpieces kept of each text.
        truncated: (texts,) int64, wordpieces cut off each text because the model reads no more.
    """

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    truncated: NDArray[np.int64]


def encode(tokenizer: Any, texts: Sequence[str], max_length: int | None = None) -> Wordpieces:
    """Tokenise texts in one call.

    Args:
        tokenizer: A HuggingFace tokenizer that reports character offsets.
        texts: Texts of any length; an empty one gets no wordpieces at all.
        max_length: The most wordpieces of a text to keep, special tokens included.
    """
    full = [i for i, text in enumerate(texts) if text]
    ids: list[list[int]] = [[] for _ in texts]
    offsets: list[list[tuple[int, int]]] = [[] for _ in texts]
    truncated = np.zeros(len(texts), dtype="int64")

    def read(which: list[int], **options: Any) -> None:
        if not which:
            return
        encoded = tokenizer(
            [texts[i] for i in which],
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            padding=False,
            verbose=False,
            **options,
        )
        for i, its_ids, its_offsets in zip(
            which, encoded["input_ids"], encoded["offset_mapping"], strict=True
        ):
            ids[i], offsets[i] = its_ids, its_offsets

    read(full, truncation=False)
    if max_length is not None:
        too_long = [i for i in full if len(ids[i]) > max_length]
        for i in too_long:
            truncated[i] = len(ids[i]) - max_length
        # The tokenizer itself knows which special tokens must stay at the end.
        read(too_long, truncation=True, max_length=max_length)
    return Wordpieces(
        ids=np.fromiter((j for one in ids for j in one), dtype="int64"),
        offsets=np.asarray([o for one in offsets for o in one], dtype="int64").reshape(-1, 2),
        lengths=np.asarray([len(one) for one in ids], dtype="int64"),
        truncated=truncated,
    )


def strings(tokenizer: Any, wordpieces: Wordpieces) -> list[str]:
    """Return the wordpieces as the tokenizer writes them."""
    return list(tokenizer.convert_ids_to_tokens(wordpieces.ids.tolist()))


def max_wordpieces(tokenizer: Any, config: Any) -> int | None:
    """Return how many wordpieces a model reads at once, or None where it sets no limit."""
    limits = []
    if getattr(tokenizer, "model_max_length", None) and tokenizer.model_max_length < _NO_LIMIT:
        limits.append(int(tokenizer.model_max_length))
    positions = getattr(config, "max_position_embeddings", None) or 0
    if positions > 0:
        # RoBERTa's family counts positions from the padding id on.
        first = (config.pad_token_id or 0) + 1 if _counts_from_padding(config) else 0
        limits.append(positions - first)
    return min(limits, default=None)


def _counts_from_padding(config: Any) -> bool:
    kind = str(getattr(config, "model_type", ""))
    return "roberta" in kind or kind in {"camembert", "longformer", "mpnet", "data2vec-text"}
