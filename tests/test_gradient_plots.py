import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from trfnb import gradient_plots
from trfnb.flow.gradient_log import GradientLog, gram


def drawn(figure):
    FigureCanvasAgg(figure).draw()  # raises where labels or sizes cannot be laid out
    return figure


@pytest.fixture(params=[1, 3, 90])
def log(request):
    made, noise = GradientLog(), np.random.default_rng(0)
    for step in range(request.param):
        pulls = [{0: noise.normal(size=(5, 4))} for _ in range(3)]
        factors = {"tagger": 1.0, "parser": 0.5, "ner": 0.0 if step < 2 else 1.0}
        came = [name for name, factor in factors.items() if factor]
        made.add(list(factors), factors, came, gram(pulls[: len(came)]))
        made.close()
    return made


def test_norms_and_factors(log):
    axes = drawn(gradient_plots.norms(log.table())).axes[0]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["tagger", "parser", "ner"]
    axes = drawn(gradient_plots.factors(log.table())).axes[0]
    assert axes.get_ylabel() == "effective factor"


def test_conflicts_are_white_where_not_known(log):
    axes = drawn(gradient_plots.conflicts(log.conflicts())).axes[0]
    values = axes.collections[0].get_array()
    assert values.shape[0] == 3
    assert np.ma.getmaskarray(values)[1:, 0].all(), "ner was at 0 in the first steps"
    assert not np.ma.getmaskarray(values)[0].any()


def test_overview(log):
    assert len(drawn(gradient_plots.overview(log)).axes) == 4  # and the colours' bar


def test_matrix_writes_means_and_intervals():
    table = pd.DataFrame(
        [
            {"replay": r, "factor": f, "metric": m, "mean": 0.5, "low": 0.4, "high": 0.6}
            for r in (0.0, 0.2) for f in (0.0, 1.0) for m in ("before", "after")
        ]
    )  # fmt: skip
    axes = drawn(gradient_plots.matrix(table.iloc[1:], title="forgotten")).axes[0]
    assert [t.get_text() for t in axes.texts] == ["0.500 ± 0.100"] * 7
    assert axes.get_yticklabels()[0].get_text() == "0.0, 0.0"
