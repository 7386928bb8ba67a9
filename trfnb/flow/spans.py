"""Doc -> spans: which stretches of text the encoder reads.

A span getter takes a batch of docs and returns, for each doc, the spans to encode. Spans may
overlap and may leave parts of a doc out; a token that no span covers gets a zero vector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc, Span

from .wordpieces import encode

SpanGetter = Callable[[Sequence[Doc]], list[list[Span]]]

# What windows are filled to where neither they nor the model set a limit.
_DEFAULT_WINDOW = 512


def get_doc_spans(docs: Sequence[Doc]) -> list[list[Span]]:
    """Return each doc as one span."""
    return [[doc[:]] for doc in docs]


def get_sent_spans(docs: Sequence[Doc]) -> list[list[Span]]:
    """Return each doc's sentences.

    Raises:
        ValueError: a doc has no sentence boundaries.
    """
    for doc in docs:
        if len(doc) and not doc.has_annotation("SENT_START"):
            raise ValueError(
                f"The span getter 'sent_spans' expected sentence boundaries on every doc, but "
                f"{doc.text[:40]!r} has none. Put a 'sentencizer' or 'senter' before the "
                "transformer (and into [training.annotating_components]), or use 'doc_spans' or "
                "'strided_spans'."
            )
    return [list(doc.sents) for doc in docs]


@dataclass(frozen=True)
class StridedSpans:
    """A span getter of overlapping windows of tokens.

    Attributes:
        window: Tokens of a span.
        stride: Tokens from one span's start to the next; at most `window`.

    Raises:
        ValueError: a length is not positive, or the stride would leave tokens out.
    """

    window: int = 128
    stride: int = 96

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window:
            raise ValueError(
                f"strided_spans expected 1 <= stride <= window, got window={self.window}, "
                f"stride={self.stride}. A stride below the window makes spans overlap; a larger "
                "one would skip tokens."
            )

    def __call__(self, docs: Sequence[Doc]) -> list[list[Span]]:
        """Return each doc's windows."""
        return [
            [
                doc[start : start + self.window]
                for start in range(0, max(len(doc) - self.window, 0) + self.stride, self.stride)
            ]
            for doc in docs
        ]


@dataclass(frozen=True)
class WordpieceSpans:
    """A span getter of overlapping windows that are counted in wordpieces.

    Nothing is truncated but a token too long by itself. It needs the transformer's tokenizer,
    which the model lends it.

    Attributes:
        window: Wordpieces of a span, special tokens included; None for as many as the model reads.
        stride: Wordpieces from one span's start to the next; None for three quarters of a window.

    Raises:
        ValueError: a length is not positive, or the stride would leave text out.
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
        window = min((n for n in (self.window, limit) if n), default=_DEFAULT_WINDOW)
        room = window - tokenizer.num_special_tokens_to_add(pair=False)
        if room < 1:
            raise ValueError(
                f"wordpiece_spans expected a window with room beside the special tokens, got "
                f"{window} wordpieces."
            )
        stride = min(self.stride or room * 3 // 4 or 1, room)

        def get_wordpiece_spans(docs: Sequence[Doc]) -> list[list[Span]]:
            counts = _wordpieces_per_token(docs, tokenizer)
            spans = [
                [doc[start:end] for start, end in _windows(n, room, stride)]
                for doc, n in zip(docs, counts, strict=True)
            ]
            return _halved(spans, tokenizer, window)

        return get_wordpiece_spans

    def __call__(self, docs: Sequence[Doc]) -> list[list[Span]]:
        """Say that a tokenizer is needed."""
        raise ValueError(
            "wordpiece_spans expected to be called by a TransformerModel, which lends it the "
            "tokenizer. A custom model calls get_spans.by(tokenizer, limit)(docs)."
        )


def checked_spans(get_spans: SpanGetter, docs: Sequence[Doc]) -> list[list[Span]]:
    """Call a span getter and check that its answer fits the docs.

    Raises:
        TypeError: the answer is not a list of `Span`s for each doc.
        ValueError: there are more or fewer lists than docs, or a span of another doc.
    """
    name = f"Span getter {getattr(get_spans, '__name__', repr(get_spans))!r}"
    spans = get_spans(docs)
    if not isinstance(spans, Sequence) or not all(isinstance(s, Sequence) for s in spans):
        raise TypeError(
            f"{name}: expected a list of spans for each doc, got {type(spans).__name__}. Return "
            "[list_of_spans for doc in docs]."
        )
    if len(spans) != len(docs):
        raise ValueError(f"{name}: expected {len(docs)} lists, one per doc, got {len(spans)}.")
    for doc, doc_spans in zip(docs, spans, strict=True):
        for span in doc_spans:
            if not isinstance(span, Span):
                raise TypeError(
                    f"{name}: expected Span objects, got {type(span).__name__}. Slice the doc: "
                    "doc[start:end]."
                )
            if span.doc is not doc:
                raise ValueError(
                    f"{name}: got a span of another doc ({span.text[:40]!r}). The i-th list may "
                    "only hold spans of the i-th doc."
                )
    return spans


def _wordpieces_per_token(docs: Sequence[Doc], tokenizer: Any) -> list[NDArray[np.int64]]:
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


def _halved(spans: list[list[Span]], tokenizer: Any, window: int) -> list[list[Span]]:
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
    return _halved(fitting, tokenizer, window) if changed else fitting
