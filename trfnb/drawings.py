"""Static figures of the way of the data: spans, padding, readings, alignment."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from spacy.tokens import Doc, Span
from thinc.types import Ragged

from trfnb.flow.batching import MicroBatch
from trfnb.flow.wordpieces import Wordpieces
from trfnb.plots import COLOURS, FONTS, blank, legible

LONGEST_WORD = 24
LONGEST_LINE = 80
_INCHES_PER_CHARACTER = 0.105


def alignment(doc: Doc, wordpieces: Sequence[str], rows: Ragged) -> Figure:
    """Draw which wordpieces each token is made of, in lines of about 80 characters.

    Args:
        doc: A short doc; up to about 100 tokens stay readable.
        wordpieces: The doc's wordpieces as text.
        rows: For each token the numbers of its wordpieces, as in `TransformerData.row_align`.

    Raises:
        ValueError: A row is not the number of a wordpiece.
    """
    lengths: Any = rows.lengths
    numbers: Any = rows.dataXd
    if len(numbers) and int(numbers.max()) >= len(wordpieces):
        raise ValueError(
            f"alignment expected rows of {len(wordpieces)} wordpieces, got the row "
            f"{int(numbers.max())}. Pass the wordpieces of all spans of the doc."
        )
    parts = np.split(numbers.ravel(), np.cumsum(lengths)[:-1]) if len(doc) else []
    links = [part.tolist() for part in parts]
    words, pieces = [_word(token.text) for token in doc], [_word(w) for w in wordpieces]
    lines = _lines(words, pieces, links)
    width = max(max(_width(words[a:b]), _width(pieces[c:d])) for a, b, c, d in lines) or 1.0
    inches = max((width + 13) * _INCHES_PER_CHARACTER, 4)
    figure, panels = blank(inches, 1.1 * len(lines) + 0.6, len(lines))
    used = {row for link in links for row in link}
    for axes, (first, end, low, high) in zip(panels[:, 0], lines, strict=True):
        tops, bottoms = _centres(words[first:end]), _centres(pieces[low:high])
        for token in range(first, end):
            x, colour = tops[token - first], COLOURS[token % 6] if links[token] else "0.6"
            _box(axes, x, 1.0, words[token], colour)
            for row in links[token]:
                axes.plot([x, bottoms[row - low]], [0.9, 0.1], color=colour, lw=1.2)
        for row in range(low, high):
            _box(axes, bottoms[row - low], 0.0, pieces[row], "0.15" if row in used else "0.6")
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
    figure, panels = blank(8, 3.4, 1, 2, sharey=True)
    for axes, batches in zip(panels[0], (in_order, by_length), strict=True):
        longest = max(batch.mask.shape[1] for batch in batches)
        picture = np.full((sum(len(b.mask) for b in batches), longest), np.nan)
        start = 0
        for batch in batches:
            texts, columns = batch.mask.shape
            picture[start : start + texts, :columns] = np.where(batch.mask, 1.0, 0.25)
            start += texts
            axes.axhline(start - 0.5, color="0.4", lw=0.5)
        axes.imshow(picture, cmap="Blues", vmin=0, vmax=1.3, aspect="auto", interpolation="none")
        axes.grid(visible=False)
        share = 1 - sum(len(b.rows) for b in batches) / sum(b.ids.size for b in batches)
        axes.set_xlabel("wordpieces of a text")
        name = "texts as they come" if batches is in_order else "sorted by length"
        axes.set_title(f"{name}: {share:.0%} padding", loc="left", fontsize=10)
    panels[0, 0].set_ylabel("texts of a batch")
    return figure


def spans(doc: Doc, its_spans: Sequence[Span]) -> Figure:
    """Draw which tokens each span covers, one line per span.

    Args:
        doc: The doc, of any length.
        its_spans: What a span getter returned for it.
    """
    figure, ((axes,),) = blank(8, min(1.0 + 0.22 * max(len(its_spans), 1), 6))
    covered = np.zeros(len(doc), dtype="int64")
    for i, span in enumerate(its_spans):
        axes.broken_barh([(span.start, len(span))], (i - 0.35, 0.7), color=COLOURS[i % 6])
        covered[span.start : span.end] += 1
    _over_tokens(axes, len(doc), len(its_spans))
    missed, often = int((covered == 0).sum()), int((covered > 1).sum())
    axes.set_title(
        f"{len(its_spans)} spans; {often} tokens read more than once, {missed} not at all",
        loc="left",
        fontsize=10,
    )
    return figure


def readings(doc: Doc, read: Mapping[str, tuple[Sequence[Span], Wordpieces]]) -> Figure:
    """Draw what span getters read of one doc and what they truncate, one panel per getter.

    Args:
        doc: The doc, of any length.
        read: For each getter's name the doc's spans and their wordpieces.
    """
    columns = 2 if len(read) > 1 else 1
    lines = -(-len(read) // columns)
    figure, grid = blank(4.6 * columns, 2.1 * lines + 0.3, lines, columns, sharex=True)
    panels = grid.ravel()
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
        title = f"{legible(name)}: {len(its_spans)} span{plural}, {len(pieces.ids)} wordpieces"
        axes.set_title(f"{title}\n{int(without.sum())} tokens not read", loc="left", fontsize=9)
        _over_tokens(axes, len(doc), len(its_spans))
    for axes in panels[len(read) :]:
        axes.axis("off")
    for axes in panels[:-columns]:
        axes.set_xlabel("")
    keys = [Patch(color=COLOURS[0], label="read"), Patch(color=COLOURS[1], label="truncated")]
    figure.legend(handles=keys, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _over_tokens(axes: Axes, tokens: int, its_spans: int) -> None:
    axes.set(xlim=(0, max(tokens, 1)), ylim=(its_spans - 0.4, -0.6), ylabel="span")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.set_xlabel("token of the doc")


def _lines(
    words: Sequence[str], pieces: Sequence[str], links: Sequence[Sequence[int]]
) -> list[tuple[int, int, int, int]]:
    """Cut tokens and wordpieces into lines: each one's first and last token, and wordpiece.

    A wordpiece that two lines' tokens share is in both.
    """
    following = [len(pieces)] * (len(words) + 1)  # the first wordpiece from a token on
    for token in reversed(range(len(words))):
        following[token] = min([*links[token], following[token + 1]])
    lines, first, low = [], 0, 0
    for token in range(1, len(words) + 1):
        longer = token < len(words) and max(
            _width(words[first : token + 1]), _width(pieces[low : following[token + 1]])
        )
        if token == len(words) or longer > LONGEST_LINE:
            own = [row for link in links[first:token] for row in link]
            lines.append((first, token, min([low, *own]), max([following[token] - 1, *own]) + 1))
            first, low = token, following[token]
    return lines or [(0, 0, 0, len(pieces))]


def _word(text: str) -> str:
    """Write spaces, long words and characters that no font has so that they can be drawn."""
    if text.isspace():
        return "␣"
    if len(text) > LONGEST_WORD:
        text = f"{text[: LONGEST_WORD - 5]}…({len(text)})"
    return legible(text)


def _width(texts: Sequence[str]) -> float:
    return sum(len(text) + 2.2 for text in texts)


def _centres(texts: Sequence[str]) -> list[float]:
    """Lay words side by side; return each one's middle in characters."""
    return [_width(texts[:i]) + (len(text) + 2.2) / 2 for i, text in enumerate(texts)]


def _box(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    axes.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        family=list(FONTS),
        fontsize=9,
        color=colour,
        bbox={"boxstyle": "round,pad=0.25", "fc": "white", "ec": colour, "lw": 0.8},
    )
