"""Static figures of the way of the data: spans, alignment, micro-batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from spacy.tokens import Doc, Span
from thinc.types import Ragged

from .flow.batching import MicroBatch
from .plots import COLOURS


def alignment(doc: Doc, wordpieces: Sequence[str], rows: Ragged) -> Figure:
    """Draw which wordpieces each token is made of.

    Args:
        doc: A short doc; up to about 20 tokens stay readable.
        wordpieces: The doc's wordpieces as text.
        rows: For each token the numbers of its wordpieces, as in `TransformerData.row_align`.
    """
    tops = _centres([token.text if not token.is_space else "␣" for token in doc])
    bottoms = _centres(wordpieces)
    width = max(tops[-1][1], bottoms[-1][1]) if len(doc) and len(wordpieces) else 1.0
    figure = Figure(figsize=(min(max(width * 0.105, 4), 16), 2.2), layout="constrained")
    axes = figure.subplots()
    lengths: Any = rows.lengths
    ends = np.cumsum(lengths)
    indices: Any = rows.dataXd
    for token in range(len(doc)):
        end, length = int(ends[token]), int(rows.lengths[token])
        colour = COLOURS[token % 6] if length else "0.6"
        text = "␣" if doc[token].is_space else doc[token].text
        _word(axes, tops[token][0], 1.0, text, colour)
        for row in indices[end - length : end].ravel().tolist():
            axes.plot([tops[token][0], bottoms[row][0]], [0.9, 0.1], color=colour, lw=1.2)
    used = set(indices.ravel().tolist())
    for row, text in enumerate(wordpieces):
        _word(axes, bottoms[row][0], 0.0, text, "0.15" if row in used else "0.6")
    axes.text(-1, 1.0, "tokens", ha="right", va="center", color="0.4")
    axes.text(-1, 0.0, "wordpieces", ha="right", va="center", color="0.4")
    axes.set(xlim=(-12, width + 1), ylim=(-0.25, 1.25))
    axes.axis("off")
    return figure


def padding(in_order: Sequence[MicroBatch], by_length: Sequence[MicroBatch]) -> Figure:
    """Draw what the encoder computes of a batch: real wordpieces dark, padding light.

    Args:
        in_order: The batch cut up as the texts come.
        by_length: The same texts, sorted by length first.
    """
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = zip(figure.subplots(1, 2, sharey=True), (in_order, by_length), strict=True)
    for axes, batches in panels:
        longest = max(batch.mask.shape[1] for batch in batches)
        picture = np.full((sum(len(b.mask) for b in batches), longest), np.nan)
        start = 0
        for batch in batches:
            texts, columns = batch.mask.shape
            picture[start : start + texts, :columns] = np.where(batch.mask, 1.0, 0.25)
            start += texts
            axes.axhline(start - 0.5, color="0.4", lw=0.5)
        axes.imshow(picture, cmap="Blues", vmin=0, vmax=1.3, aspect="auto", interpolation="none")
        share = 1 - sum(len(b.rows) for b in batches) / sum(b.ids.size for b in batches)
        axes.set_xlabel("wordpieces of a text")
        name = "texts as they come" if batches is in_order else "sorted by length"
        axes.set_title(f"{name}: {share:.0%} padding", loc="left")
    figure.axes[0].set_ylabel("texts of a batch")
    return figure


def spans(doc: Doc, its_spans: Sequence[Span]) -> Figure:
    """Draw which tokens each span covers, a line a span.

    Args:
        doc: The doc, of any length.
        its_spans: What a span getter returned for it.
    """
    height = 1.0 + 0.22 * max(len(its_spans), 1)
    figure = Figure(figsize=(8, min(height, 6)), layout="constrained")
    axes = figure.subplots()
    covered = np.zeros(len(doc), dtype="int64")
    for i, span in enumerate(its_spans):
        axes.broken_barh([(span.start, len(span))], (i - 0.35, 0.7), color=COLOURS[i % 6])
        covered[span.start : span.end] += 1
    axes.set(xlim=(0, max(len(doc), 1)), ylim=(len(its_spans) - 0.5, -0.5), ylabel="span")
    axes.set_xlabel("token of the doc")
    missed, often = int((covered == 0).sum()), int((covered > 1).sum())
    axes.set_title(
        f"{len(its_spans)} spans; {often} tokens read more than once, {missed} not at all",
        loc="left",
    )
    return figure


def _centres(texts: Sequence[str]) -> list[tuple[float, float]]:
    """Lay words side by side; return each one's middle and end in characters."""
    places, start = [], 0.0
    for text in texts:
        width = len(text) + 2.2
        places.append((start + width / 2, start + width))
        start += width
    return places


def _word(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    axes.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        family="DejaVu Sans Mono",
        fontsize=9,
        color=colour,
        bbox={"boxstyle": "round,pad=0.25", "fc": "white", "ec": colour, "lw": 0.8},
    )
