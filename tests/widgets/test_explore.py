"""What the exploring widgets show, without a browser."""

import re

import nbformat
import numpy as np
import pytest
import spacy
from nbconvert import HTMLExporter
from small_pipelines import transformer_pipeline
from spacy.strings import StringStore
from spacy.vectors import Vectors

from trfnb import plots
from trfnb.flow.wordpieces import Wordpieces
from trfnb.widgets import AlignmentExplorer, Neighbours, SpanStepper, explore
from trfnb.widgets.explore import AGAIN, ALONE, CUT


@pytest.fixture
def doc():
    return spacy.blank("en")("one <two> three four five six")


def whole(spans):
    """Return the wordpieces of spans of which nothing was cut off: one for each token."""
    offsets = [
        (t.idx - span.start_char, t.idx - span.start_char + len(t)) for span in spans for t in span
    ]
    lengths = np.asarray([len(span) for span in spans])
    return Wordpieces(np.zeros(len(offsets), "int64"), np.asarray(offsets), lengths, lengths * 0)


def marked(stepper):
    """Return each highlighted word's colour, the legend left out."""
    parts = stepper.shown.value.split("</div>")[0].split("<mark style='background:")[1:]
    return {p.split(">", 1)[1].split("</mark")[0].strip(): p[:7] for p in parts}


def test_the_slider_selects_a_span_and_highlights_it(doc):
    spans = [doc[0:4], doc[3:6], doc[6:8]]
    stepper = SpanStepper(doc, spans, whole(spans))
    assert list(marked(stepper)) == ["one", "&lt;", "two", "&gt;"]
    stepper.slider.value = 1
    assert stepper.shown.value.startswith("tokens 3 to 6 of 8 · 3 wordpieces read, 0 cut off")
    assert marked(stepper) == {"&gt;": AGAIN, "three": ALONE, "four": ALONE}
    assert stepper.shown.value.count("<span") == 5, "the text around it"
    for meaning in ("in this span alone", "in another span as well", "cut off"):
        assert meaning in stepper.shown.value
    assert stepper.shown.value in stepper.static()["text/html"]
    with pytest.raises(ValueError, match="at least one span"):
        SpanStepper(doc, [], whole([]))


def test_the_stepper_shows_what_was_cut(doc):
    offsets = np.asarray([[0, 0], [0, 3], [4, 5], [0, 0]])
    pieces = Wordpieces(np.zeros(4, "int64"), offsets, np.asarray([4]), np.asarray([5]))
    stepper = SpanStepper(doc, [doc[:]], pieces)
    colours = marked(stepper)
    assert colours["one"] == colours["&lt;"] == ALONE
    assert colours["two"] == colours["six"] == CUT
    assert "4 wordpieces read, 5 cut off" in stepper.shown.value
    assert stepper.slider.disabled


def test_space_after_the_last_wordpiece_is_not_cut():
    doc = spacy.blank("en")("one two \n\n")
    pieces = Wordpieces(np.zeros(2, "int64"), np.asarray([[0, 3], [4, 7]]), *np.asarray([[2], [0]]))
    stepper = SpanStepper(doc, [doc[:]], pieces)
    assert set(marked(stepper).values()) == {ALONE}
    assert "2 wordpieces read, 0 cut off" in stepper.shown.value
    (axes,) = plots.readings(doc, {"a": ([doc[:]], pieces)}).axes
    assert axes.get_title(loc="left").endswith("0 not read")


def test_the_explorer_draws_what_is_typed_and_survives_any_text(tiny):
    nlp = transformer_pipeline(tiny)

    def look(text):
        if text == "bad":
            raise ValueError("<no>")
        data = nlp(text)._.trf_data
        return nlp(text), data.wordpieces.strings[0], data.row_align

    explorer = AlignmentExplorer(look, "the river bank")
    assert explorer.shown.value.startswith("3 tokens, 5 wordpieces; 0 tokens without")
    assert explorer.shown.value in explorer.static()["text/html"]
    for text in ["  a\t\nb ", "日本 ש 😀 cafe\u0301 \u200b", "$x$ _^ \\", "a" * 45, "\x07 a"]:
        explorer.box.value = text
        assert "<ruby" in explorer.shown.value
    explorer.box.value = "bad"
    assert explorer.shown.value == "ValueError: &lt;no&gt;"
    for text in ("", " \n"):
        explorer.box.value = text
        assert explorer.shown.value == "Type a text, then press Enter."


def test_neighbours_leave_the_word_itself_out_in_any_case():
    words = ["bank", "Bank", "BANK", "<river>", "money"]
    data = np.array([[1, 0], [1, 0.01], [1, 0.02], [0.5, 1], [1, 0.2]], "f4")
    vectors = Vectors(strings=StringStore(words), data=data, keys=words)
    floret = Vectors(
        data=np.random.default_rng(0).normal(size=(50, 4)).astype("f4"),
        mode="floret",
        minn=2,
        maxn=3,
    )
    view = Neighbours({"a<": vectors, "floret": floret}, "bank", n=2, among=["banks", "money"])
    assert [word for word, _ in view.found["a<"]] == ["money", "<river>"]
    assert view.found["floret"][0][0] == "banks"
    assert "&lt;river&gt;" in view.shown.value
    assert view.shown.value in view.static()["text/html"]
    view.word.value = "unknown"
    assert view.found["a<"] == []
    assert "no vector for unknown" in view.shown.value


def test_an_output_of_its_own_keeps_what_is_shown_for_exported_pages(doc, monkeypatch):
    said = []
    for name in ("display", "update_display"):
        monkeypatch.setattr(explore, name, lambda data, **about: said.append((data, about)))
    stepper = SpanStepper(doc, [doc[0:4], doc[3:6]], whole([doc[0:4], doc[3:6]]))
    assert said == [], "nothing before it is displayed"
    stepper._ipython_display_()
    (live, _), (static, about) = said
    assert "application/vnd.jupyter.widget-view+json" in live
    assert "text/html" not in live, "a frontend shows one of them"
    stepper.slider.value = 1
    updated, place = said[-1]
    assert place["display_id"] == about["display_id"]
    assert "tokens 3 to 6" in updated["text/html"]
    assert "tokens 0 to 4" in static["text/html"]
    hidden = re.search(r"class='([^']+)'", updated["text/html"])[1]
    assert f".{hidden} {{display: none}}" in stepper.children[-1].value

    # What a notebook keeps of these two: the last of each display. A page has no kernel.
    kept = [nbformat.v4.new_output("display_data", data) for data in (live, updated)]
    cell = nbformat.v4.new_code_cell("stepper", outputs=kept)
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    shown = re.split(r"<script type=.application/vnd.jupyter.widget-state", page)[0]
    assert "tokens 3 to 6" in shown
