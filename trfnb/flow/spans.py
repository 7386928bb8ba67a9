"""Doc -> spans: which stretches of text the encoder reads.

A span getter takes a batch of docs and returns, for each doc, the spans to encode. Spans may
overlap and may leave parts of a doc out; a token that no span covers gets a zero vector.
"""

from collections.abc import Callable, Sequence

from spacy.tokens import Doc, Span

SpanGetter = Callable[[Sequence[Doc]], list[list[Span]]]


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


def strided_spans(window: int, stride: int) -> SpanGetter:
    """Make a span getter of overlapping windows.

    Args:
        window: Tokens a span.
        stride: Tokens from one span's start to the next; at most `window`.

    Raises:
        ValueError: a length is not positive, or the stride would leave tokens out.
    """
    if window < 1 or stride < 1 or stride > window:
        raise ValueError(
            f"strided_spans expected 1 <= stride <= window, got window={window}, stride={stride}. "
            "A stride below the window makes spans overlap; a larger one would skip tokens."
        )

    def get_strided_spans(docs: Sequence[Doc]) -> list[list[Span]]:
        return [
            [doc[i : i + window] for i in range(0, max(len(doc) - window, 0) + stride, stride)]
            for doc in docs
        ]

    return get_strided_spans


def checked_spans(get_spans: SpanGetter, docs: Sequence[Doc]) -> list[list[Span]]:
    """Call a span getter and check that its answer fits the docs.

    Raises:
        TypeError: the answer is not a list of `Span`s for each doc.
        ValueError: there are more or fewer lists than docs, or a span of another doc.
    """
    name = getattr(get_spans, "__name__", repr(get_spans))
    spans = get_spans(docs)
    if not isinstance(spans, Sequence) or not all(isinstance(s, Sequence) for s in spans):
        raise TypeError(
            f"Span getter {name!r}: expected a list of spans for each doc, got "
            f"{type(spans).__name__}. Return [list_of_spans for doc in docs]."
        )
    if len(spans) != len(docs):
        raise ValueError(
            f"Span getter {name!r}: expected {len(docs)} lists, one a doc, got {len(spans)}."
        )
    for doc, doc_spans in zip(docs, spans, strict=True):
        for span in doc_spans:
            if not isinstance(span, Span):
                raise TypeError(
                    f"Span getter {name!r}: expected Span objects, got {type(span).__name__}. "
                    "Slice the doc: doc[start:end]."
                )
            if span.doc is not doc:
                raise ValueError(
                    f"Span getter {name!r}: got a span of another doc ({span.text[:40]!r}). "
                    "The i-th list may only hold spans of the i-th doc."
                )
    return spans
