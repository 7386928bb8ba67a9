"""Spans counted in wordpieces, so that nothing is truncated but a token too long by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc, Span

from .spans import SpanGetter
from .wordpieces import encode


@dataclass(frozen=True)
class WordpieceSpans:
    """A span getter that needs the transformer's tokenizer, which the model lends it.

    Attributes:
        window: Wordpieces a span, special tokens included; None for as many as the model reads.
        stride: Wordpieces from one span's start to the next; None for three quarters of a window.
    """

    window: int | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("window", self.window), ("stride", self.stride)):
            if value is not None and value < 1:
                raise ValueError(f"wordpiece_spans expected a positive {name}, got {value}.")
        if self.window and self.stride and self.stride > self.window:
            raise ValueError(
                "wordpiece_spans expected stride <= window, got "
                f"window={self.window}, stride={self.stride}: a larger stride would skip text."
            )

    def by(self, tokenizer: Any, limit: int | None) -> SpanGetter:
        """Return the span getter for a tokenizer and the most wordpieces that its model reads."""
        window = min((n for n in (self.window, limit) if n), default=512)
        room = window - tokenizer.num_special_tokens_to_add(pair=False)
        if room < 1:
            raise ValueError(
                f"wordpiece_spans expected a window with room beside the special tokens, got "
                f"{window} wordpieces."
            )
        stride = min(self.stride or room * 3 // 4 or 1, room)

        def get_wordpiece_spans(docs: Sequence[Doc]) -> list[list[Span]]:
            counts = _wordpieces_a_token(docs, tokenizer)
            spans = [
                [doc[start:end] for start, end in _windows(n, room, stride)]
                for doc, n in zip(docs, counts, strict=True)
            ]
            return _fitting(spans, tokenizer, window)

        return get_wordpiece_spans

    def __call__(self, docs: Sequence[Doc]) -> list[list[Span]]:
        """Say that a tokenizer is needed."""
        raise ValueError(
            "wordpiece_spans expected to be called by a TransformerModel, which lends it the "
            "tokenizer. A custom model calls get_spans.by(tokenizer, limit)(docs)."
        )


def _wordpieces_a_token(docs: Sequence[Doc], tokenizer: Any) -> list[NDArray[np.int64]]:
    """Count each token's wordpieces; those of the space before it count for it too."""
    pieces = encode(tokenizer, [doc.text for doc in docs])
    counts = []
    for i, doc in enumerate(docs):
        offsets = pieces.part(i, i + 1).offsets
        ends = np.asarray([token.idx + len(token) for token in doc], dtype="int64")
        starts = offsets[offsets[:, 1] > offsets[:, 0], 0]
        owners = np.minimum(np.searchsorted(ends, starts, side="right"), len(doc) - 1)
        counts.append(np.bincount(owners, minlength=len(doc)))
    return counts


def _fitting(spans: list[list[Span]], tokenizer: Any, window: int) -> list[list[Span]]:
    """Halve spans that by themselves have more wordpieces than within their doc."""
    lengths = iter(encode(tokenizer, [span.text for one in spans for span in one]).lengths)
    fitting, changed = [], False
    for one in spans:
        kept: list[Span] = []
        for span in one:
            if next(lengths) > window and len(span) > 1:
                half = len(span) // 2
                kept += [span[:half], span[half:]]
                changed = True
            else:
                kept.append(span)
        fitting.append(kept)
    return _fitting(fitting, tokenizer, window) if changed else fitting


def _windows(counts: NDArray[np.int64], room: int, stride: int) -> list[tuple[int, int]]:
    """Return first and last token of each window; a token longer than a window stands alone."""
    ends = np.cumsum(counts)
    windows, start = [], 0
    while start < len(counts):
        before = int(ends[start] - counts[start])
        end = max(int(np.searchsorted(ends, before + room, side="right")), start + 1)
        windows.append((start, end))
        if end >= len(counts):
            break
        following = int(np.searchsorted(ends, before + stride, side="left")) + 1
        start = min(max(following, start + 1), end)
    return windows
