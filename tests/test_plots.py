import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from trfnb import plots
from trfnb.experiments.intervals import intervals

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
    assert list(axes.lines[0].get_xdata()) == [0.0, 0.5, 1.0]
    named = drawn(plots.interval_lines(intervals(RUNS, "sharing", "tag_acc"), "sharing")).axes[0]
    assert [tick.get_text() for tick in named.get_xticklabels()] == ["shared", "independent"]
    with pytest.raises(ValueError, match="one metric"):
        plots.interval_lines(intervals(RUNS, "sharing", ["tag_acc", "ents_f"]), "sharing")


def test_one_run_is_drawn_without_an_interval():
    table = intervals(RUNS[:1], "sharing", ["tag_acc", "disk_mb"])
    drawn(plots.scores(table))
    drawn(plots.costs(table))
