"""Entity spans from a label a token."""

import re
from collections.abc import Sequence

from trfnb.corpora.sentence import Span

LABEL = re.compile(r"O|[BIESLU]-\S+")


def spans_from_labels(labels: Sequence[str]) -> tuple[Span, ...]:
    """Return the entities that IOB1, IOB2, BIOES or BILUO labels spell out.

    An ``I-`` that follows no entity of its type begins one (IOB1 writes so). ``B-O``, which some
    annotation tools leave behind when an annotation was withdrawn, is outside.

    Raises:
        ValueError: a label is of none of these schemes; names the position, from 0.
    """
    spans: list[Span] = []
    start, open_type = 0, ""
    for i, label in enumerate(labels):
        if not LABEL.fullmatch(label):
            raise ValueError(f"token {i} is labelled {label!r}, not O, B-TYPE or I-TYPE")
        prefix, _, kind = label.partition("-")
        kind = "" if kind == "O" else kind
        if open_type and (prefix in "BSU" or kind != open_type):
            spans.append((start, i, open_type))
            open_type = ""
        if kind and not open_type:
            start, open_type = i, kind
        if open_type and prefix in "ESLU":
            spans.append((start, i + 1, open_type))
            open_type = ""
    if open_type:
        spans.append((start, len(labels), open_type))
    return tuple(spans)


def labels_from_spans(spans: Sequence[Span], length: int) -> list[str]:
    """Return IOB2 labels for non-overlapping spans over ``length`` tokens."""
    labels = ["O"] * length
    for start, end, kind in spans:
        labels[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return labels
