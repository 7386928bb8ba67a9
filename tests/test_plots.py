"""What the figures show, in the numbers that matplotlib draws."""

import numpy as np
import pandas as pd
import pytest
import spacy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from thinc.types import Ragged

from trfnb import plots
from trfnb.flow.gradients import GradientLog, gram
from trfnb.flow.wordpieces import Wordpieces
from trfnb.statistics import intervals

RUNS = pd.DataFrame(
    [
        {"sharing": s, "seed": n, "factor": f, "tag_acc": a + n / 100 + f / 20, "ents_f": a / 2,
         "disk_mb": d}
        for s, a, d in (("shared", 0.8, 90.0), ("independent", 0.82, 360.0))
        for n in (0, 1, 2)
        for f in (0.0, 0.5, 1.0)
    ]
)  # fmt: skip


def drawn(figure):
    FigureCanvasAgg(figure).draw()  # raises where labels or sizes cannot be laid out
    return figure


def texts(labels):
    return [label.get_text() for label in labels]


def test_scores_show_means_and_intervals_of_each_setting():
    table = intervals(RUNS, "sharing", ["tag_acc", "ents_f"])
    axes = drawn(plots.scores(table, labels={"ents_f": "entity $F"}, title="$1")).axes[0]
    assert texts(axes.get_xticklabels()) == ["tag_acc", r"entity \$F"]
    assert texts(axes.get_legend().get_texts()) == ["shared", "independent"]
    shared = table[table["sharing"] == "shared"]
    assert list(axes.containers[0].lines[0].get_ydata()) == pytest.approx(list(shared["mean"]))
    low, high = axes.containers[0].lines[1]
    assert low.get_ydata()[0] == pytest.approx(shared["low"].iloc[0])
    assert high.get_ydata()[0] == pytest.approx(shared["high"].iloc[0])


def test_each_score_against_each_cost_with_the_front():
    ways = {"a": (0.9, 100.0, 9.0), "b": (0.8, 300.0, 8.0), "c": (0.7, 50.0, 20.0)}
    table = pd.DataFrame(
        [
            {
                "sharing": way,
                "metric": metric,
                "mean": value,
                "low": value - 0.1,
                "high": value + 0.1,
            }
            for way, values in ways.items()
            for metric, value in zip(("f", "mb", "words_per_second"), values, strict=True)
        ]
    )
    costs = {"mb": "MB", "words_per_second": "words / s"}
    figure = drawn(plots.tradeoff(table, {"f": "entity $F"}, costs))
    size, speed = figure.axes
    assert size.get_title(loc="left") == r"entity \$F"
    assert (size.get_xlabel(), speed.get_xlabel()) == ("MB", "words / s")
    # b is worse than a and larger; the slowest, b, is no better than a either.
    assert size.lines[0].get_xydata().tolist() == [[50.0, 0.7], [100.0, 0.9]]
    assert speed.lines[0].get_xydata().tolist() == [[20.0, 0.7], [9.0, 0.9]]
    assert texts(speed.get_legend().get_texts() if speed.get_legend() else []) == []
    assert texts(size.get_legend().get_texts()) == ["Pareto front", "a", "b", "c"]
    shown = [tuple(box.lines[0].get_xydata()[0]) for box in size.containers]
    assert shown == [(100.0, 0.9), (300.0, 0.8), (50.0, 0.7)]


def test_learning_curves_count_words_up_to_each_evaluation():
    history = pd.DataFrame({"step": [1, 2, 3], "words": [5, 5, 6], "score": [None, 0.5, 0.6]})
    axes = drawn(plots.learning_curves({"shared": [history, history], "frozen": history})).axes[0]
    assert list(axes.lines[0].get_xdata()) == [10, 16]
    assert len(axes.lines) == 3
    assert len(axes.get_legend().get_texts()) == 2


def test_interval_lines_take_numbers_names_and_sizes():
    table = intervals(RUNS, ["sharing", "factor"], "tag_acc")
    axes = drawn(plots.interval_lines(table, "factor", hue="sharing", xlabel="grad_factor")).axes[0]
    assert axes.get_xlabel() == "grad_factor"
    lines = [container.lines[0] for container in axes.containers]
    assert list(lines[0].get_xdata()) == pytest.approx([0.0, 0.5, 1.0], abs=0.01)
    assert not set(lines[0].get_xdata()) & set(lines[1].get_xdata()), "beside each other"
    named = drawn(plots.interval_lines(intervals(RUNS, "sharing", "tag_acc"), "sharing")).axes[0]
    assert texts(named.get_xticklabels()) == ["shared", "independent"]
    sizes = table.assign(size=table["factor"].map({0.0: 100, 0.5: 400, 1.0: 1600}))
    sized = drawn(plots.interval_lines(sizes, "size", hue="sharing", logx=True)).axes[0]
    assert texts(sized.get_xticklabels()) == ["100", "400", "1,600"]
    with pytest.raises(ValueError, match="one metric"):
        plots.interval_lines(intervals(RUNS, "sharing", ["tag_acc", "ents_f"]), "sharing")


def test_intervals_of_scores_and_costs_end_at_zero():
    row = {"sharing": "shared", "metric": "m", "mean": 500.0, "low": -1000.0, "high": 2000.0}
    table = pd.DataFrame([row])
    (line,) = drawn(plots.scores(table)).axes[0].collections
    assert line.get_segments()[0].tolist() == [[0.0, 0.0], [0.0, 2000.0]]
    for line in drawn(plots.tradeoff(table, {"m": "m"}, {"m": "m"})).axes[0].collections:
        assert sorted(line.get_segments()[0].ravel())[0] == 0.0
    (line,) = drawn(plots.interval_lines(table, "sharing")).axes[0].collections
    assert line.get_segments()[0][0][1] == -1000.0, "a difference may be negative"


def test_one_run_is_drawn_without_an_interval():
    table = intervals(RUNS[:1], "sharing", ["tag_acc", "disk_mb"])
    drawn(plots.scores(table))
    drawn(plots.tradeoff(table, {"tag_acc": "tags"}, {"disk_mb": "MB"}))


def test_numbers_are_short():
    values = [2_774_304.0, 1600, 12.345, 0, 0.12345, -1500]
    assert [plots.number(v) for v in values] == ["2.77 M", "1.6 k", "12.3", "0", "0.123", "-1.5 k"]


def test_repetitions_are_dots_beside_their_mean_and_chance():
    table = pd.DataFrame({"a": [0.8, 0.9], "b": [0.7, 0.8]})
    axes = drawn(plots.draws(table, ylabel="x", chance=0.5)).axes[0]
    assert list(axes.lines[0].get_ydata()) == [0.8, 0.9]
    assert axes.lines[1].get_ydata()[0] == pytest.approx(0.85)
    assert axes.lines[-1].get_ydata()[0] == 0.5


def test_gradients_over_the_steps():
    log, noise = GradientLog(), np.random.default_rng(0)
    for step in range(30):
        gradients = [{0: noise.normal(size=(5, 4))} for _ in range(3)]
        factors = {"tagger": 1.0, "parser": 0.5, "ner": 0.0 if step < 2 else 1.0}
        sent = zip(gradients, factors.values(), strict=True)
        log.add(factors, gram([gradient if factor else {} for gradient, factor in sent]))
        log.close()
    for figure in (plots.norms(log.table(), column="raw_norm"), plots.factors(log.table())):
        assert texts(drawn(figure).axes[0].get_legend().get_texts()) == ["tagger", "parser", "ner"]
    assert list(plots.factors(log.table()).axes[0].lines[2].get_ydata())[:3] == [0.0, 0.0, 1.0]
    axes = drawn(plots.conflicts(log.conflicts())).axes[0]
    names = ["tagger – parser", "tagger – ner", "parser – ner"]
    assert texts(axes.get_legend().get_texts()) == names
    raw = log.conflicts().query("first == 'tagger' and second == 'ner'")["cosine"].to_numpy()
    mean, pale = (np.asarray(line.get_ydata()) for line in axes.lines[2:4])
    np.testing.assert_array_equal(pale, raw)
    assert np.isnan(mean[:2]).all(), "ner was at 0 in the first steps"
    assert mean[-1] == pytest.approx(raw[-10:].mean())

    assert len(drawn(plots.overview(log)).axes) == 3
    losses = {"loss_tagger": 6.0, "loss_parser": 3.0, "loss_ner": 1.5}
    history = [{"step": n, "words": 3, **losses} for n in range(1, 31)]
    drawn(plots.overview(log, history))  # before the first evaluation
    history[9] |= {"score": 0.5, "tag_acc": 0.75}
    panels = {
        axes.get_ylabel(): axes for axes in drawn(plots.overview(log, history, ["tag_acc"])).axes
    }
    assert list(panels["dev score"].lines[0].get_xydata()[0]) == [10, 0.75]
    assert [line.get_ydata()[0] for line in panels["loss per word"].lines[:3]] == [2.0, 1.0, 0.5]


def test_an_alignment_shows_every_wordpiece_once():
    doc = spacy.blank("en")("the <bank>  ")
    rows = Ragged(
        np.array([1, 2, 3, 4, 5], dtype="int32"), np.array([1, 2, 1, 1, 0], dtype="int32")
    )
    pieces = ["[CLS]", "the", "<", "ba", "##nk", ">", "[SEP]"]
    doc = spacy.tokens.Doc(
        doc.vocab, words=["the", "<ba", "nk", ">", " "], spaces=[True] + [False] * 4
    )
    html = plots.alignment(doc, pieces, rows).data
    found = html.replace("<rt style='font-size:0.8em'>", "|").split("</rt>")[:5]
    shown = [part.rsplit("'>", 1)[1] for part in found]
    assert shown == ["the|the", "&lt;ba|&lt; ba", "nk|##nk", "&gt;|&gt;", "␣|–"]
    assert "wordpieces of no token: [CLS] [SEP]" in html
    with pytest.raises(ValueError, match="rows of 5 wordpieces, got the row 5"):
        plots.alignment(doc, pieces[:5], rows)
    none = np.zeros(0, dtype="int32")
    assert "no token: none" in plots.alignment(doc[:0].as_doc(), [], Ragged(none, none)).data


def test_spans_and_readings_count_tokens():
    doc = spacy.blank("en")("one <two> three four five six")

    def of(spans):
        offsets = np.asarray([[t.idx - s.start_char, t.idx - s.start_char + len(t)]
                              for s in spans for t in s])  # fmt: skip
        lengths = np.asarray([len(s) for s in spans])
        return spans, Wordpieces(np.zeros(len(offsets), "int64"), offsets, lengths, lengths * 0)

    cut = Wordpieces(np.zeros(2, "int64"), np.asarray([[0, 3], [4, 5]]), np.asarray([2]), [6])
    nothing = Wordpieces(*[np.zeros(0, "int64")] * 4)
    strided = of([doc[0:4], doc[2:6], doc[4:8]])
    read = {"a": of([doc[:2]]), "b": strided, "c": ([], nothing), "d": ([doc[:]], cut)}
    titles = [axes.get_title(loc="left") for axes in drawn(plots.readings(doc, read)).axes]
    assert titles == [
        "a: 1 spans, 2 wordpieces; 0 tokens read more than once, 6 not read",
        "b: 3 spans, 12 wordpieces; 4 tokens read more than once, 0 not read",
        "c: 0 spans, 0 wordpieces; 0 tokens read more than once, 8 not read",
        "d: 1 spans, 2 wordpieces; 0 tokens read more than once, 6 not read",
    ]
    title = drawn(plots.spans(doc, [doc[:2], doc[1:4]])).axes[0].get_title(loc="left")
    assert title == "2 spans; 1 tokens read more than once, 4 not read"
