"""Look around: the spans of a doc, the wordpieces of a text, the neighbours of a word."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from IPython.display import display, update_display
from ipywidgets import HTML, DOMWidget, IntSlider, Text, VBox
from spacy.tokens import Doc, Span
from thinc.types import Ragged

from trfnb import plots
from trfnb.flow.wordpieces import Wordpieces
from trfnb.vectors.store import most_similar

Look = Callable[[str], tuple[Doc, Sequence[str], Ragged]]

ALONE, AGAIN, CUT = "#9ecae9", "#deebf7", "#f7c6b5"
MEANINGS = {
    ALONE: "read in this span alone",
    AGAIN: "read in another span as well",
    CUT: "cut off: too long for the encoder",
}
CONTEXT = 25  # tokens shown before and after a span


class View(VBox):
    """Controls above what they show.

    An exported page has no kernel, and shows a widget's output as a blank. So what is shown is an
    output of its own as well, kept up to date; where the widget is drawn, its style hides that.

    Attributes:
        shown: The HTML below the controls.
    """

    def __init__(self, *controls: DOMWidget) -> None:
        self.shown, style, self._is_displayed = HTML(), HTML(), False
        super().__init__([*controls, self.shown, style])
        style.value = f"<style>.trfnb-{self.model_id} {{display: none}}</style>"
        self.shown.observe(self._publish, "value")

    def static(self) -> dict[str, str]:
        """Return what exported pages and saved notebooks show in the place of the widget."""
        page = f"<div class='trfnb-{self.model_id}'>{self.shown.value}</div>"
        return {"text/html": page, "text/plain": type(self).__name__}

    def _publish(self, change: object = None) -> None:
        if self._is_displayed:
            update_display(self.static(), raw=True, display_id=self.model_id)

    def _ipython_display_(self) -> None:
        display(self._repr_mimebundle_(), raw=True)
        display(self.static(), raw=True, display_id=self.model_id)
        self._is_displayed = True


class SpanStepper(View):
    """Step through the spans of a doc; the text around each is shown with it.

    Args:
        doc: A doc of any length.
        its_spans: What a span getter returned for it; at least one.
        wordpieces: Their wordpieces: how many were read, and which tokens were cut off.

    Raises:
        ValueError: There are no spans.
    """

    def __init__(self, doc: Doc, its_spans: Sequence[Span], wordpieces: Wordpieces) -> None:
        if not its_spans:
            raise ValueError(
                f"SpanStepper expected at least one span of {doc.text[:40]!r}, got none. Pass what "
                "the span getter returned for this doc: get_spans([doc])[0]."
            )
        self._doc, self._spans, self._wordpieces = doc, its_spans, wordpieces
        self.slider = IntSlider(
            max=len(its_spans) - 1, description="span", disabled=len(its_spans) == 1
        )
        self.slider.observe(self._show, "value")
        super().__init__(self.slider)
        self._show()

    def _show(self, change: object = None) -> None:
        place, doc = self.slider.value, self._doc
        span, pieces = self._spans[place], self._wordpieces.part(place, place + 1)
        read_until = span.start_char + self._wordpieces.read_until(place)
        words = []
        for token in doc[max(span.start - CONTEXT, 0) : span.end + CONTEXT]:
            readings = sum(other.start <= token.i < other.end for other in self._spans)
            colour = CUT if token.idx >= read_until else AGAIN if readings > 1 else ALONE
            words.append(
                _mark(token.text_with_ws, colour)
                if span.start <= token.i < span.end
                else f"<span style='color:#888'>{escape(token.text_with_ws)}</span>"
            )
        legend = " &nbsp; ".join(_mark(meaning, colour) for colour, meaning in MEANINGS.items())
        self.shown.value = (
            f"tokens {span.start} to {span.end} of {len(doc)} · {len(pieces.ids)} wordpieces "
            f"read, {int(pieces.truncated.sum())} cut off"
            f"<div style='line-height:1.5'>{''.join(words)}</div>{legend}"
        )


class AlignmentExplorer(View):
    """Show which wordpieces the tokens of a text are made of, for any text typed in.

    Args:
        look: Returns for a text its doc, its wordpieces as text and, for each token, the numbers
            of its wordpieces.
        text: The text to begin with.
    """

    def __init__(self, look: Look, text: str = "") -> None:
        self._look = look
        self.box = Text(text, description="text", continuous_update=False, layout={"width": "95%"})
        self.box.observe(self._show, "value")
        super().__init__(self.box)
        self._show()

    def _show(self, change: object = None) -> None:
        if not self.box.value.strip():
            self.shown.value = "Type a text, then press Enter."
            return
        try:
            doc, strings, rows = self._look(self.box.value)
            drawn = plots.alignment(doc, strings, rows).data
        except Exception as error:  # a text box must not die of one text
            self.shown.value = escape(f"{type(error).__name__}: {error}")
            return
        self.shown.value = (
            f"{len(doc)} tokens, {len(strings)} wordpieces; "
            f"{sum(int(n) == 0 for n in rows.lengths)} tokens without a wordpiece{drawn}"
        )


class Neighbours(View):
    """A word's nearest neighbours in several vector tables, side by side.

    The word itself is not among them, in whatever case it is written.

    Args:
        tables: By name, spaCy `Vectors`.
        word: The word to begin with.
        n: How many neighbours to show.
        among: Candidates of floret tables, which know no words of their own.

    Attributes:
        found: By table, the ``(word, cosine)`` pairs that are shown.
    """

    def __init__(
        self,
        tables: Mapping[str, Any],
        word: str = "bank",
        *,
        n: int = 8,
        among: Iterable[str] = (),
    ) -> None:
        self._tables, self._n, self._among = dict(tables), n, list(among)
        self.found: dict[str, list[tuple[str, float]]] = {}
        self.word = Text(word, description="word", continuous_update=False)
        self.word.observe(self._show, "value")
        super().__init__(self.word)
        self._show()

    def _show(self, change: object = None) -> None:
        word, columns = self.word.value.strip(), ""
        for name, vectors in self._tables.items():
            among = self._among if vectors.mode == "floret" else None
            # A few more than asked for, since "Bank" and "BANK" are left out for "bank".
            near = most_similar(vectors, [word], n=self._n + 8, among=among)[0] if word else []
            others = [pair for pair in near if pair[0].casefold() != word.casefold()]
            self.found[name] = others[: self._n]
            rows = [f"{escape(other)}<td>{cosine:.2f}" for other, cosine in self.found[name]]
            listed = "<tr><td>".join(rows or [f"no vector for {escape(word)}"])
            columns += f"<table><caption>{escape(name)}</caption><tr><td>{listed}</table>"
        self.shown.value = f"<div style='display:flex;flex-wrap:wrap;gap:2em'>{columns}</div>"


def _mark(text: str, colour: str) -> str:
    return f"<mark style='background:{colour};color:#111'>{escape(text)}</mark>"
