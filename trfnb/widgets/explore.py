"""Look around: the spans of a doc, the wordpieces of a text, the neighbours of a word."""

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

from ipywidgets import HTML, HBox, Image, IntSlider, Layout, Text, VBox
from spacy.tokens import Doc, Span, Token
from thinc.types import Ragged

from trfnb import drawings
from trfnb.flow.wordpieces import Wordpieces
from trfnb.vectors.similar import most_similar

Look = Callable[[str], tuple[Doc, Sequence[str], Ragged]]
Neighbour = tuple[str, float]

_COLOURS = {
    "read in this span alone": "#9ecae9",
    "read in another span as well": "#deebf7",
    "cut off: too long for the encoder": "#f7c6b5",
}
_ALONE, _AGAIN, _CUT = _COLOURS.values()


class SpanStepper(VBox):
    """Step through the spans of a doc; the text around each is shown with it.

    Args:
        doc: A doc of any length.
        its_spans: What a span getter returned for it; at least one.
        wordpieces: Their wordpieces, to show how many were read and which tokens were cut off.
        context: Tokens shown before and after a span.

    Raises:
        ValueError: There are no spans.
    """

    def __init__(
        self,
        doc: Doc,
        its_spans: Sequence[Span],
        wordpieces: Wordpieces | None = None,
        context: int = 25,
    ) -> None:
        if not its_spans:
            raise ValueError(
                f"SpanStepper expected at least one span of {doc.text[:40]!r}, got none. Pass what "
                "the span getter returned for this doc: get_spans([doc])[0]."
            )
        self._doc, self._spans, self._wordpieces = doc, its_spans, wordpieces
        self._context = context
        last = len(its_spans) - 1
        self.slider = IntSlider(min=0, max=last, description="span", disabled=not last)
        self.title, self.text = HTML(), HTML()
        self.legend = HTML(
            " ".join(f"{_mark(name, colour)} &nbsp;" for name, colour in _COLOURS.items())
        )
        self.slider.observe(self._show, "value")
        self._show()
        super().__init__([self.slider, self.title, self.text, self.legend])

    @property
    def span(self) -> Span:
        """The span that is selected."""
        return self._spans[self.slider.value]

    def _show(self, change: object = None) -> None:
        span, doc = self.span, self._doc
        title = f"tokens {span.start} to {span.end} of {len(doc)}"
        read_until = span.end_char
        if self._wordpieces is not None:
            one = self._wordpieces.part(self.slider.value, self.slider.value + 1)
            read_until = span.start_char + int(one.offsets.max(initial=0))
            title += f" · {len(one.ids)} wordpieces read, {int(one.truncated.sum())} cut off"
        self.title.value = title
        start, end = max(span.start - self._context, 0), min(span.end + self._context, len(doc))
        words = "".join(self._word(token, read_until) for token in doc[start:end])
        before, after = "… " if start else "", " …" if end < len(doc) else ""
        self.text.value = f"<div style='line-height:1.5'>{before}{words}{after}</div>"

    def _word(self, token: Token, read_until: int) -> str:
        if not self.span.start <= token.i < self.span.end:
            return f"<span style='color:#888'>{escape(token.text_with_ws)}</span>"
        if token.idx >= read_until:
            return _mark(token.text_with_ws, _CUT)
        readings = sum(span.start <= token.i < span.end for span in self._spans)
        return _mark(token.text_with_ws, _AGAIN if readings > 1 else _ALONE)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        still = f"<p>{self.title.value}</p>{self.text.value}<p>{self.legend.value}</p>"
        return super()._repr_mimebundle_(**options) | {"text/html": still}


class AlignmentExplorer(VBox):
    """Draw which wordpieces the tokens of a text are made of, for any text typed in.

    Args:
        look: Returns for a text its doc, its wordpieces as text and, for each token, the numbers
            of its wordpieces.
        text: The text to begin with.
    """

    def __init__(self, look: Look, text: str = "") -> None:
        self._look = look
        self.box = Text(text, description="text", continuous_update=False, layout={"width": "95%"})
        self.message = HTML()
        self.image = Image(format="png", layout=Layout(max_width="100%"))
        self.box.observe(self._show, "value")
        self._show()
        super().__init__([self.box, self.message, self.image])

    def _show(self, change: object = None) -> None:
        self.message.value, self.image.value = self._drawn(self.box.value)
        self.image.layout.display = None if self.image.value else "none"

    def _drawn(self, text: str) -> tuple[str, bytes]:
        if not text.strip():
            return "Type a text, then press Enter.", b""
        try:
            doc, strings, rows = self._look(text)
            figure = drawings.alignment(doc, strings, rows)
        except Exception as error:  # a text box must not die of one text
            return escape(f"{type(error).__name__}: {error}"), b""
        picture = BytesIO()
        figure.savefig(picture, format="png")
        without = sum(int(length) == 0 for length in rows.lengths)
        said = f"{len(doc)} tokens, {len(strings)} wordpieces; {without} tokens without a wordpiece"
        return said, picture.getvalue()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        if not self.image.value:
            return bundle | {"text/html": f"<p>{self.message.value}</p>"}
        return bundle | {"image/png": b64encode(self.image.value).decode("ascii")}


class Neighbours(VBox):
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
        among: Iterable[str] | None = None,
    ) -> None:
        self._tables = dict(tables)
        self._among = None if among is None else list(among)
        self.found: dict[str, list[Neighbour]] = {}
        self.word = Text(word, description="word", continuous_update=False)
        self.n = IntSlider(n, 1, 30, description="neighbours", continuous_update=False)
        self.columns = HTML()
        self.word.observe(self._show, "value")
        self.n.observe(self._show, "value")
        super().__init__([HBox([self.word, self.n]), self.columns])
        self._show()

    def _show(self, change: object = None) -> None:
        word = self.word.value.strip()
        self.found = {name: self._near(vectors, word) for name, vectors in self._tables.items()}
        columns = "".join(_column(name, word, near) for name, near in self.found.items())
        self.columns.value = f"<div style='display:flex;flex-wrap:wrap;gap:2em'>{columns}</div>"

    def _near(self, vectors: Any, word: str) -> list[Neighbour]:
        floret = vectors.mode == "floret"
        if not word:
            return []
        # A few more than asked for, since "Bank" and "BANK" are left out for "bank".
        wanted = self.n.value + 8
        near = most_similar(vectors, [word], n=wanted, among=self._among if floret else None)[0]
        others = [(name, c) for name, c in near if name.casefold() != word.casefold()]
        return others[: self.n.value]

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return super()._repr_mimebundle_(**options) | {"text/html": self.columns.value}


def _mark(text: str, colour: str) -> str:
    return f"<mark style='background:{colour};color:#111'>{escape(text)}</mark>"


def _column(name: str, word: str, near: Sequence[Neighbour]) -> str:
    rows = "".join(
        f"<tr><td>{escape(other)}</td><td style='text-align:right'>{cosine:.2f}</td></tr>"
        for other, cosine in near
    )
    if not near:
        rows = f"<tr><td>no vector for {escape(word)!s}</td></tr>"
    return f"<table><caption>{escape(name)}</caption>{rows}</table>"
