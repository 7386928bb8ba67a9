"""Static figures of the way of the data: spans, alignment, micro-batches."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from spacy.tokens import Doc, Span
from thinc.types import Ragged

from .flow.batching import MicroBatch
from .flow.wordpieces import Wordpieces
from .plots import COLOURS

# Both come with matplotlib; the second has letters and signs that the first lacks.
_FONTS = ("DejaVu Sans Mono", "DejaVu Sans")
_LONGEST = 24


def alignment(doc: Doc, wordpieces: Sequence[str], rows: Ragged) -> Figure:
    """Draw which wordpieces each token is made of.

    Args:
        doc: A short doc; up to about 20 tokens stay readable.
        wordpieces: The doc's wordpieces as text.
        rows: For each token the numbers of its wordpieces, as in `TransformerData.row_align`.
    """
    words, pieces = [_legible(token.text) for token in doc], [_legible(w) for w in wordpieces]
    tops, bottoms = _centres(words), _centres(pieces)
    width = max(tops[-1][1], bottoms[-1][1]) if len(doc) and len(wordpieces) else 1.0
    figure = Figure(figsize=(min(max(width * 0.105, 4), 60), 2.2), layout="constrained")
    axes = figure.subplots()
    lengths: Any = rows.lengths
    ends = np.cumsum(lengths)
    indices: Any = rows.dataXd
    for token in range(len(doc)):
        end, length = int(ends[token]), int(rows.lengths[token])
        colour = COLOURS[token % 6] if length else "0.6"
        _word(axes, tops[token][0], 1.0, words[token], colour)
        for row in indices[end - length : end].ravel().tolist():
            axes.plot([tops[token][0], bottoms[row][0]], [0.9, 0.1], color=colour, lw=1.2)
    used = set(indices.ravel().tolist())
    for row, text in enumerate(pieces):
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


def readings(doc: Doc, read: Mapping[str, tuple[Sequence[Span], Wordpieces]]) -> Figure:
    """Draw what span getters read of one doc and what they truncate, a panel a getter.

    Args:
        doc: The doc, of any length.
        read: For each getter's name the doc's spans and their wordpieces.
    """
    columns = 2 if len(read) > 1 else 1
    lines = -(-len(read) // columns)
    figure = Figure(figsize=(4.6 * columns, 2.1 * lines + 0.3), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, squeeze=False).ravel()
    for axes, (name, (its_spans, pieces)) in zip(panels, read.items(), strict=False):
        without = np.ones(len(doc), dtype=bool)
        for i, span in enumerate(its_spans):
            stop = span.start_char + int(pieces.part(i, i + 1).offsets.max(initial=0))
            end = next((t.i for t in span if t.idx >= stop), span.end)
            axes.broken_barh([(span.start, end - span.start)], (i - 0.4, 0.8), color=COLOURS[0])
            if end < span.end:  # a bar of no length would still have an edge
                axes.broken_barh([(end, span.end - end)], (i - 0.4, 0.8), color=COLOURS[1])
            without[span.start : end] = False
        plural = "" if len(its_spans) == 1 else "s"
        title = f"{name}: {len(its_spans)} span{plural}, {len(pieces.ids)} wordpieces"
        axes.set_title(f"{title}\n{int(without.sum())} tokens not read", loc="left", fontsize=9)
        axes.set(xlim=(0, max(len(doc), 1)), ylim=(len(its_spans) - 0.4, -0.6), ylabel="span")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.set_xlabel("token of the doc")
    for axes in panels[len(read) :]:
        axes.axis("off")
    for axes in panels[:-columns]:
        axes.set_xlabel("")
    keys = [Patch(color=COLOURS[0], label="read"), Patch(color=COLOURS[1], label="truncated")]
    figure.legend(handles=keys, loc="outside lower center", ncols=2, frameon=False)
    return figure


@cache
def _glyphs() -> tuple[FT2Font, ...]:
    return tuple(FT2Font(font_manager.findfont(name)) for name in _FONTS)


def _legible(text: str) -> str:
    """Write spaces, long words and characters that no font has so that they can be drawn."""
    if text.isspace():
        return "␣"
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 5]}…({len(text)})"
    return "".join(
        c
        if c.isprintable() and any(font.get_char_index(ord(c)) for font in _glyphs())
        else f"U+{ord(c):04X}"
        for c in text
    ).replace("$", r"\$")  # a dollar sign would begin a formula


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
        family=list(_FONTS),
        fontsize=9,
        color=colour,
        bbox={"boxstyle": "round,pad=0.25", "fc": "white", "ec": colour, "lw": 0.8},
    )
