import numpy as np
import pandas as pd
import pytest
import spacy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from thinc.types import Ragged

from trfnb import drawings, plots
from trfnb.experiments.statistics import intervals
from trfnb.flow.measurement import GradientLog, gram
from trfnb.flow.spans import strided_spans
from trfnb.flow.wordpieces import Wordpieces

RUNS = pd.DataFrame(
    [
        {
            "sharing": s,
            "seed": n,
            "factor": f,
            "tag_acc": a + n / 100 + f / 20,
            "ents_f": a / 2,
            "disk_mb": d,
        }
        for s, a, d in (("shared", 0.8, 90.0), ("independent", 0.82, 360.0))
        for n in (0, 1, 2)
        for f in (0.0, 0.5, 1.0)
    ]
)


def drawn(figure):
    FigureCanvasAgg(figure).draw()  # raises where labels or sizes cannot be laid out
    return figure


def test_scores_show_means_and_intervals_of_each_setting():
    table = intervals(RUNS, "sharing", ["tag_acc", "ents_f"])
    axes = drawn(plots.scores(table, labels={"ents_f": "entity F"})).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["tag_acc", "entity F"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["shared", "independent"]
    shared = table[table["sharing"] == "shared"]
    heights = axes.containers[0].lines[0].get_ydata()
    assert list(heights) == pytest.approx(list(shared["mean"]))
    low, high = axes.containers[0].lines[1]
    assert low.get_ydata()[0] == pytest.approx(shared["low"].iloc[0])
    assert high.get_ydata()[0] == pytest.approx(shared["high"].iloc[0])


def test_costs_are_bars_from_zero_with_their_unit():
    table = intervals(RUNS, "sharing", ["disk_mb"])
    axes = drawn(plots.costs(table, labels={"disk_mb": "MB on disk"})).axes[0]
    assert axes.get_ylabel() == "MB on disk"
    assert axes.get_ylim()[0] == 0
    assert [bar.get_height() for bar in axes.patches] == [90.0, 360.0]


def test_learning_curves_count_words_up_to_each_evaluation():
    history = pd.DataFrame({"step": [1, 2, 3], "words": [5, 5, 6], "score": [None, 0.5, 0.6]})
    axes = drawn(plots.learning_curves({"shared": [history, history], "frozen": history})).axes[0]
    assert list(axes.lines[0].get_xdata()) == [10, 16]
    assert len(axes.lines) == 3
    assert len(axes.get_legend().get_texts()) == 2


def test_interval_lines_take_numbers_and_names():
    table = intervals(RUNS, ["sharing", "factor"], "tag_acc")
    axes = drawn(plots.interval_lines(table, "factor", hue="sharing", xlabel="grad_factor")).axes[0]
    assert axes.get_xlabel() == "grad_factor"
    assert list(axes.lines[0].get_xdata()) == pytest.approx([0.0, 0.5, 1.0], abs=0.01)
    named = drawn(plots.interval_lines(intervals(RUNS, "sharing", "tag_acc"), "sharing")).axes[0]
    assert [tick.get_text() for tick in named.get_xticklabels()] == ["shared", "independent"]
    with pytest.raises(ValueError, match="one metric"):
        plots.interval_lines(intervals(RUNS, "sharing", ["tag_acc", "ents_f"]), "sharing")


def test_intervals_of_scores_and_costs_end_at_zero():
    table = pd.DataFrame(
        {
            "sharing": ["shared"],
            "metric": ["m"],
            "mean": [500.0],
            "low": [-1000.0],
            "high": [2000.0],
        }
    )
    for figure in (plots.scores(table), plots.costs(table)):
        (line,) = drawn(figure).axes[0].collections
        ((_, low), (_, high)) = line.get_segments()[0]
        assert (low, high) == (0.0, 2000.0)
    (line,) = drawn(plots.interval_lines(table, "sharing")).axes[0].collections
    assert line.get_segments()[0][0][1] == -1000.0, "a difference may be negative"


def test_sizes_are_ticks_and_hues_stand_beside_each_other():
    table = pd.DataFrame(
        [
            {"size": n, "hue": h, "metric": "m", "mean": 0.5, "low": 0.4, "high": 0.6}
            for h in "ab" for n in (100, 400, 1600)
        ]
    )  # fmt: skip
    axes = drawn(plots.interval_lines(table, "size", hue="hue", logx=True)).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["100", "400", "1,600"]
    first, second = (set(line.get_xdata()) for line in axes.lines[::4])
    assert not first & second


def test_numbers_are_short():
    values = [2_774_304.0, 1600, 12.345, 0, 0.12345, -1500]
    assert [plots.number(v) for v in values] == ["2.77 M", "1.6 k", "12.3", "0", "0.123", "-1.5 k"]


def test_what_no_font_has_is_written_as_its_code_point():
    assert plots.legible("bank ⇒ 日 $x$") == r"bank ⇒ U+65E5 \$x\$"
    table = intervals(RUNS, "sharing", ["tag_acc"])
    drawn(plots.scores(table, title="日本 $x"))  # a warning is an error


def test_repetitions_are_dots_on_a_scale_of_their_own():
    axes = drawn(plots.draws(pd.DataFrame({"a": [0.8, 0.9], "b": [0.7, 0.8]}), ylabel="x")).axes[0]
    assert list(axes.lines[0].get_ydata()) == [0.8, 0.9]
    assert axes.lines[1].get_ydata()[0] == pytest.approx(0.85)
    assert axes.get_ylim()[0] > 0.6


def test_one_run_is_drawn_without_an_interval():
    table = intervals(RUNS[:1], "sharing", ["tag_acc", "disk_mb"])
    drawn(plots.scores(table))
    drawn(plots.costs(table))


@pytest.fixture(params=[1, 90])
def log(request):
    made, noise = GradientLog(), np.random.default_rng(0)
    for step in range(request.param):
        gradients = [{0: noise.normal(size=(50, 40))} for _ in range(3)]
        factors = {"tagger": 1.0, "parser": 0.5, "ner": 0.0 if step < 2 else 1.0}
        came = [name for name, factor in factors.items() if factor]
        made.add(list(factors), factors, came, gram(gradients[: len(came)]))
        made.close()
    return made


def test_norms_factors_and_conflicts(log):
    figures = [plots.norms(log.table()), plots.factors(log.table())]
    for axes in (drawn(figure).axes[0] for figure in figures):
        names = [text.get_text() for text in axes.get_legend().get_texts()]
        assert names == ["tagger", "parser", "ner"]
    assert len(drawn(plots.overview(log)).axes) == 4, "three panels and the colours' bar"
    mesh = drawn(plots.conflicts(log.conflicts())).axes[0].collections[0]
    values = mesh.get_array()
    assert np.ma.getmaskarray(values)[1:, 0].all(), "ner was at 0 in the first steps"
    assert mesh.norm.vmax == np.abs(values).max() < 0.5, "scaled to the data"


def test_matrix_writes_means_and_shades_within_a_column():
    table = pd.DataFrame(
        [
            {"replay": r, "factor": f, "metric": m, "mean": v + f, "low": v + f - 0.1,
             "high": v + f + 0.1}
            for r in (0.0, 0.2) for f in (0.0, 0.5) for m, v in (("before", 0.1), ("loss", 2e6))
        ]
    )  # fmt: skip
    axes = drawn(plots.matrix(table.iloc[1:], title="forgotten")).axes[0]
    assert [text.get_text() for text in axes.texts][-2:] == ["2 M ± 0.100", "0.600 ± 0.100"]
    assert axes.get_yticklabels()[0].get_text() == "replay 0, factor 0"
    assert axes.images[0].get_array().tolist()[-1] == [1.0, 1.0]


def test_a_long_alignment_is_cut_into_lines():
    doc = spacy.blank("en")("the central bank plans a meeting " * 6)
    pieces = ["[CLS]", *[token.text for token in doc], "[SEP]"]
    rows = np.arange(1, len(doc) + 1, dtype="int32")
    figure = drawn(drawings.alignment(doc, pieces, Ragged(rows, np.ones(len(doc), "int32"))))
    assert len(figure.axes) == 4
    assert figure.get_size_inches()[0] < 10
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert shown.count("central") == 12
    assert (shown.count("[CLS]"), shown.count("[SEP]")) == (1, 1)
    with pytest.raises(ValueError, match="rows of 5 wordpieces, got the row 36"):
        drawings.alignment(doc, pieces[:5], Ragged(rows, np.ones(len(doc), "int32")))
    none = np.zeros(0, dtype="int32")
    assert len(drawn(drawings.alignment(doc[:0].as_doc(), [], Ragged(none, none))).axes) == 1


def test_readings_of_several_getters_have_a_panel_each():
    doc = spacy.blank("en")("one <two> three four five six")

    def of(spans):
        offsets = np.asarray([[t.idx - s.start_char, t.idx - s.start_char + len(t)]
                              for s in spans for t in s])  # fmt: skip
        lengths = np.asarray([len(s) for s in spans])
        return spans, Wordpieces(np.zeros(len(offsets), "int64"), offsets, lengths, lengths * 0)

    nothing = Wordpieces(*[np.zeros(0, "int64")] * 4)
    read = {"a": of([doc[:2]]), "b": of(strided_spans(4, 2)([doc])[0]), "c": ([], nothing)}
    figure = drawn(drawings.readings(doc, read))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0].endswith("6 tokens not read")
    assert titles[1].startswith("b: 3 spans, 12 wordpieces\n0 tokens")
    assert titles[2].endswith("8 tokens not read")
    assert titles[3] == ""
    title = drawn(drawings.spans(doc, [doc[:2], doc[1:4]])).axes[0].get_title(loc="left")
    assert title == "2 spans; 1 tokens read more than once, 4 not at all"
