"""Widgets for what the transformer reads: step through spans, align any text typed in."""

from collections.abc import Callable, Sequence
from html import escape
from io import BytesIO

import ipywidgets as widgets
from spacy.tokens import Doc, Span, Token
from thinc.types import Ragged

from ..drawings import alignment
from ..flow.wordpieces import Wordpieces

Look = Callable[[str], tuple[Doc, Sequence[str], Ragged]]

_STRONG, _LIGHT, _CUT = "#9ecae9", "#deebf7", "#f7c6b5"


class SpanStepper(widgets.VBox):
    """Step through the spans of a doc; the text around each is shown with it.

    Dark is read in this span alone, light in another as well, red was cut off.

    Args:
        doc: A doc of any length.
        its_spans: What a span getter returned for it; at least one.
        wordpieces: Their wordpieces, to show how many were read and which tokens cut.
        context: Tokens shown before and after a span.

    Raises:
        ValueError: there are no spans.
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
        self.slider = widgets.IntSlider(min=0, max=last, description="span", disabled=not last)
        self.title, self.text = widgets.HTML(), widgets.HTML()
        self.slider.observe(self._show, "value")
        self._show()
        super().__init__([self.slider, self.title, self.text])

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
        word = escape(token.text_with_ws)
        if not self.span.start <= token.i < self.span.end:
            return f"<span style='color:#888'>{word}</span>"
        readings = sum(span.start <= token.i < span.end for span in self._spans)
        colour = _CUT if token.idx >= read_until else _LIGHT if readings > 1 else _STRONG
        return f"<mark style='background:{colour};color:#111'>{word}</mark>"


class AlignmentExplorer(widgets.VBox):
    """Draw which wordpieces the tokens of a text are made of, for any text typed in.

    Args:
        look: Returns for a text its doc, its wordpieces as text and, for each token, the numbers
            of its wordpieces.
        text: The text to begin with.
    """

    def __init__(self, look: Look, text: str = "") -> None:
        self._look = look
        self.box = widgets.Text(
            text, description="text", continuous_update=False, layout={"width": "95%"}
        )
        self.message = widgets.HTML()
        self.image = widgets.Image(format="png", layout={"max_width": "none"})
        self.box.observe(self._show, "value")
        self._show()
        super().__init__([self.box, self.message, self.image], layout={"overflow": "auto"})

    def _show(self, change: object = None) -> None:
        try:
            doc, strings, rows = self._look(self.box.value)
        except Exception as error:  # a text box must not die of one text
            self.message.value = escape(f"{type(error).__name__}: {error}")
            self.image.value = b""
            return
        without = sum(int(length) == 0 for length in rows.lengths)
        self.message.value = (
            f"{len(doc)} tokens, {len(strings)} wordpieces; {without} tokens without a wordpiece"
        )
        picture = BytesIO()
        alignment(doc, strings, rows).savefig(picture, format="png")
        self.image.value = picture.getvalue()
