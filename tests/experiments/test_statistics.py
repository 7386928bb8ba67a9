import pandas as pd
import pytest

from trfnb.experiments.statistics import differences, intervals, summary, t_quantile


@pytest.mark.parametrize(
    ("level", "freedom", "expected"),  # from printed tables
    [(0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 9, 2.262), (0.99, 4, 4.604), (0.9, 30, 1.697)],
)
def test_t_quantiles_are_those_of_the_tables(level, freedom, expected):
    assert t_quantile(level, freedom) == pytest.approx(expected, rel=1e-3)


def test_intervals_by_hand():
    runs = pd.DataFrame(
        {"sharing": ["a", "a", "a", "b"], "score": [1.0, 2.0, 3.0, 5.0], "cost": [4, 4, 4, None]}
    )
    found = intervals(runs, "sharing", ["score", "cost"]).set_index(["sharing", "metric"])
    a = found.loc[("a", "score")]
    half = 4.303 / 3**0.5  # t with two degrees of freedom × deviation 1 / √3
    assert (a["mean"], a["n"]) == (2.0, 3)
    assert (a["low"], a["high"]) == (
        pytest.approx(2 - half, rel=1e-3),
        pytest.approx(2 + half, rel=1e-3),
    )
    assert found.loc[("b", "score"), "mean"] == 5.0
    assert found.loc[("b", "score"), ["low", "high"]].isna().all()
    assert ("b", "cost") not in found.index
    with pytest.raises(ValueError, match=r"\['speed'\]"):
        intervals(runs, "sharing", "speed")


def test_differences_are_paired_by_seed():
    # Seeds differ by far more than the settings do: only pairs show the difference.
    rows = [("a", seed, seed * 10 + step) for seed, step in ((0, 1.0), (1, 1.1), (2, 0.9))]
    rows += [("b", seed, seed * 10.0) for seed in (2, 1, 0)]
    runs = pd.DataFrame(rows, columns=["sharing", "seed", "score"]).assign(same=1.0)
    found = differences(runs, ["score", "same"], of="a", against="b").set_index("metric")
    assert found.loc["score", "mean"] == pytest.approx(1.0)
    assert found.loc["score", "high"] - 1.0 == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)
    assert list(found["shows"]) == ["more", "open"]
    turned = differences(runs, "score", of="b", against="a")
    assert list(turned["shows"]) == ["less"]
    with pytest.raises(ValueError, match="cost"):
        differences(runs, "cost", of="a", against="b")


def test_a_summary_is_read_by_metric_and_setting():
    runs = pd.DataFrame(
        {"sharing": ["b", "b", "a"], "speed": [1000.0, 3000.0, 5000.0], "score": [0.5, 0.5, 0.25]}
    )
    text = summary(intervals(runs, "sharing", ["speed", "score"]))
    assert list(text.columns) == ["b", "a"]
    assert text.loc["score"].tolist() == ["0.500 ± 0.000", "0.250"]
    assert text.loc["speed", "b"] == "2,000 ± 12,706"
