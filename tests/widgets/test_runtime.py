"""What the widgets show, without a browser."""

import numpy as np
import pytest
import spacy
from small_pipelines import transformer_pipeline
from thinc.types import Ragged

from trfnb.drawings import readings
from trfnb.flow.spans import StridedSpans
from trfnb.flow.wordpieces import Wordpieces
from trfnb.widgets import AlignmentExplorer, SpanStepper


@pytest.fixture
def doc():
    return spacy.blank("en")("one <two> three four five six")


def marked(stepper):
    """Return each highlighted word's colour."""
    parts = stepper.text.value.split("<mark style='background:")[1:]
    return {p.split(">", 1)[1].split("</mark")[0].strip(): p[:7] for p in parts}


def test_the_slider_selects_a_span_and_highlights_it(doc):
    spans = [doc[0:4], doc[3:6], doc[6:8]]
    stepper = SpanStepper(doc, spans, context=1)
    assert stepper.span.text == "one <two>"
    assert "&lt;" in stepper.text.value
    assert stepper.text.value.endswith(" …</div>")
    stepper.slider.value = 1
    assert stepper.span.text == "> three four"
    assert stepper.title.value == "tokens 3 to 6 of 8"
    colours = marked(stepper)
    assert list(colours) == ["&gt;", "three", "four"]
    assert colours["&gt;"] != colours["three"] == colours["four"]
    assert stepper.text.value.count("<span") == 2  # one word of context on either side
    with pytest.raises(ValueError, match="at least one span"):
        SpanStepper(doc, [])


def test_the_stepper_shows_what_was_cut(doc):
    offsets = np.asarray([[0, 0], [0, 3], [4, 5], [0, 0]])
    pieces = Wordpieces(np.zeros(4, "int64"), offsets, np.asarray([4]), np.asarray([5]))
    stepper = SpanStepper(doc, [doc[:]], pieces)
    colours = marked(stepper)
    assert colours["one"] == colours["&lt;"] != colours["two"] == colours["six"]
    assert stepper.title.value.endswith("4 wordpieces read, 5 cut off")
    assert stepper.slider.disabled
    (axes,) = readings(doc, {"doc": ([doc[:]], pieces)}).axes
    assert "6 tokens not read" in axes.get_title(loc="left")


def test_the_explorer_draws_what_is_typed_and_survives_any_text(tiny):
    nlp = transformer_pipeline(tiny)

    def look(text):
        if text == "bad":
            raise ValueError("<no>")
        data = nlp(text)._.trf_data
        return nlp(text), data.wordpieces.strings[0], data.row_align

    explorer = AlignmentExplorer(look, "the river bank")
    first = bytes(explorer.image.value)
    assert first.startswith(b"\x89PNG")
    assert explorer.message.value.startswith("3 tokens, 5 wordpieces; 0 tokens without")
    hard = ["", " ", "  a\t\nb ", "日本 ש 😀 cafe\u0301 \u200b", "$x$ _^ \\", "a" * 45, "\x07 a"]
    for text in hard:
        explorer.box.value = text
        assert bytes(explorer.image.value[:4]) == b"\x89PNG", explorer.message.value
        assert explorer.image.value != first
    explorer.box.value = "bad"
    assert explorer.message.value == "ValueError: &lt;no&gt;"
    assert explorer.image.value == b""


def test_readings_of_several_getters_have_a_panel_each(doc):
    def of(spans):
        offsets = np.asarray([[t.idx - s.start_char, t.idx - s.start_char + len(t)]
                              for s in spans for t in s])  # fmt: skip
        lengths = np.asarray([len(s) for s in spans])
        return spans, Wordpieces(np.zeros(len(offsets), "int64"), offsets, lengths, lengths * 0)

    nothing = Wordpieces(*[np.zeros(0, "int64")] * 4)
    read = {"a": of([doc[:2]]), "b": of(StridedSpans(4, 2)([doc])[0]), "c": ([], nothing)}
    figure = readings(doc, read)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0].endswith("6 tokens not read")
    assert titles[1].startswith("b: 3 spans, 12 wordpieces\n0 tokens")
    assert titles[2].endswith("8 tokens not read")
    assert titles[3] == ""


def test_alignment_of_no_tokens_is_an_empty_picture():
    none = np.zeros(0, dtype="int32")
    empty = spacy.blank("en")("")
    assert AlignmentExplorer(lambda text: (empty, [], Ragged(none, none))).message.value[0] == "0"
