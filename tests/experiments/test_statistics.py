import numpy as np
import pandas as pd
import pytest

from trfnb.statistics import (
    bootstrap,
    differences,
    intervals,
    prediction,
    spreads,
    summary,
    t_quantile,
    verdict,
    verdicts,
)

T = {2: 4.302653, 3: 3.182446}  # 95 %, by degrees of freedom, from printed tables


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 30])
def test_t_quantiles_are_scipys(level, freedom):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.t.ppf((1 + level) / 2, freedom)
    assert t_quantile(level, freedom) == pytest.approx(expected, rel=1e-3)


def test_intervals_by_hand():
    runs = pd.DataFrame(
        {
            "sharing": ["a", "a", "a", "b", "b"],
            "score": [1.0, 2.0, 3.0, 5.0, 7.0],
            "cost": [4, 4, 4, None, None],
        }
    )
    found = intervals(runs, "sharing", ["score", "cost"]).set_index(["sharing", "metric"])
    a, half = found.loc[("a", "score")], T[2] * 1 / 3**0.5
    assert a.tolist() == pytest.approx([2.0, 2 - half, 2 + half, 3], rel=1e-3)
    assert found.loc[("b", "score"), "mean"] == 6.0
    assert found.loc[("b", "score"), ["low", "high"]].isna().all(), "two runs tell no spread"
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
    assert found.loc["score", "high"] - 1.0 == pytest.approx(T[2] * 0.1 / 3**0.5, rel=1e-3)
    assert list(found["shows"]) == ["more", "open"]
    turned = differences(runs, "score", of="b", against="a")
    assert list(turned["shows"]) == ["less"]
    with pytest.raises(ValueError, match="cost"):
        differences(runs, "cost", of="a", against="b")


def test_a_margin_gives_each_difference_an_answer():
    gaps = {"up": (0.1, 0.11, 0.09), "down": (-0.1, -0.11, -0.09)}
    gaps |= {"small": (0.004, 0.005, 0.006), "wide": (-0.3, 0.4, 0.0)}
    rows = [{"sharing": "b", "seed": n} | dict.fromkeys(gaps, 0.5) for n in range(3)]
    rows += [
        {"sharing": "a", "seed": n} | {name: 0.5 + gap[n] for name, gap in gaps.items()}
        for n in range(3)
    ]
    found = differences(pd.DataFrame(rows), list(gaps), of="a", against="b", margin=0.01)
    assert list(found["answer"]) == ["better", "worse", "no difference", "cannot tell"]
    assert list(found["shows"]) == ["more", "less", "more", "open"], "small, but not 0"
    two = differences(pd.DataFrame(rows[1:]), ["up"], of="a", against="b", margin=0.01)
    assert list(two["answer"]) == ["cannot tell"], "two pairs have no interval"


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (["better", "better"], "**held** (2 of 2 comparisons as predicted, 0 open)"),
        (["better", "cannot tell"], "**cannot tell** (1 of 2 comparisons as predicted, 1 open)"),
        (["worse", "cannot tell"], "**did not hold** (0 of 2 comparisons as predicted, 1 open)"),
        (["no difference", "better"], "**did not hold** (1 of 2 comparisons as predicted, 0 open)"),
        ([], "not asked"),
    ],
)
def test_a_prediction_holds_fails_or_stays_open(answers, told):
    assert prediction("Vectors help", answers, "better") == f"Vectors help: {told}."
    with_numbers = prediction("Vectors help", answers, "better", says="By +0.1.")
    assert with_numbers == f"Vectors help: {told}. By +0.1."


def test_a_summary_is_read_by_metric_and_setting():
    runs = pd.DataFrame(
        {
            "sharing": ["b", "b", "b", "a"],
            "speed": [1000.0, 2000.0, 3000.0, 5000.0],
            "score": [0.5, 0.5, 0.5, 0.25],
        }
    )
    text = summary(intervals(runs, "sharing", ["speed", "score"]))
    assert list(text.columns) == ["b", "a"]
    assert text.loc["score"].tolist() == ["0.500 ± 0.000", "0.250"]
    assert text.loc["speed", "b"] == "2,000 ± 2,484"


@pytest.mark.parametrize(
    ("gaps", "answer"),
    [
        ([0.04, 0.05, 0.06], "keep apart"),
        ([-0.04, -0.05, -0.06], "share"),
        ([0.001, 0.000, -0.001], "no difference"),
        ([0.0031, 0.0030, 0.0029], "no difference"),  # leaves out 0, yet is too small to matter
        ([0.10, 0.00, 0.05], "cannot tell"),
    ],
)
def test_a_verdict_follows_from_the_interval_and_the_margin(gaps, answer):
    found = verdict(gaps, "tag_acc", margin=0.01)
    half = T[2] * np.std(gaps, ddof=1) / 3**0.5
    assert found["answer"] == answer
    assert [found["mean"], found["low"], found["high"]] == pytest.approx(
        [np.mean(gaps), np.mean(gaps) - half, np.mean(gaps) + half], rel=2e-3, abs=1e-6
    )
    assert answer in found["sentence"]
    assert found["sentence"].startswith("tag_acc: ")


def test_a_verdict_that_cannot_tell_says_how_many_more_seeds():
    # Mean and deviation 0.05: t₀.₉₇₅ / √n is 1.59 for three seeds, 1.05 for six, 0.92 for seven.
    found = verdict([0.10, 0.00, 0.05], margin=0.001)
    assert found["more_seeds"] == 4
    assert "about 4 more seeds" in found["sentence"]
    few = verdict([0.10, float("nan"), 0.11])
    assert (few["answer"], few["n"], few["more_seeds"]) == ("cannot tell", 2, 1)
    assert np.isnan([few["low"], few["high"]]).all(), "no interval below three seeds"
    with pytest.raises(ValueError, match="margin 0 and 0 pairs"):
        verdict([], margin=0)


def test_at_a_margin_of_0_every_difference_matters():
    steady = [0.0010, 0.0011, 0.0012]
    assert verdict(steady)["answer"] == "no difference"
    assert verdict(steady, margin=0)["answer"] == "keep apart"
    assert verdict([0.0, 0.0, 0.0], margin=0)["answer"] == "no difference"
    for below in (-0.01, float("nan")):
        with pytest.raises(ValueError, match="expected a margin of 0 or more"):
            verdict(steady, margin=below)


def test_verdicts_are_of_all_scores_of_a_table():
    rows = [("shared", seed, 0.5 + seed / 10, 0.8, None) for seed in range(3)]
    rows += [("independent", seed, 0.5 + seed / 10, 0.9, None) for seed in range(3)]
    runs = pd.DataFrame(rows, columns=["sharing", "seed", "tag_acc", "ents_f", "dep_las"])
    found = verdicts(runs, ["tag_acc", "ents_f", "dep_las"])
    assert found[["metric", "answer"]].to_numpy().tolist() == [
        ["tag_acc", "no difference"],
        ["ents_f", "keep apart"],
    ]


def test_a_bootstrap_is_numpys_quantile_of_resampled_scores():
    values = np.arange(50.0)
    low, high = bootstrap(lambda drawn: values[drawn].mean(), 50, resamples=300, level=0.9, seed=1)
    rng = np.random.default_rng(1)
    means = [values[rng.integers(50, size=50)].mean() for _ in range(300)]
    assert (low, high) == tuple(np.quantile(means, [0.05, 0.95]))
    # The normal approximation: 24.5 ± 1.645 × 14.43 / √50.
    assert (low, high) == (pytest.approx(21.14, abs=0.6), pytest.approx(27.86, abs=0.6))


def test_verdicts_of_other_settings_name_them():
    runs = pd.DataFrame(
        {"setting": ["plain"] * 3 + ["turned"] * 3, "seed": [0, 1, 2] * 2,
         "up": [0.5, 0.6, 0.7, 0.6, 0.7, 0.8], "down": [0.5, 0.6, 0.7, 0.4, 0.5, 0.6]}
    )  # fmt: skip
    runs["down"] += [0, 0, 0, 0.001, 0, -0.001]
    found = verdicts(runs, ["up", "down"], of="turned", against="plain", by="setting")
    assert found["answer"].tolist() == ["turned is better", "plain is better"]
    assert found["sentence"][0].startswith("up: turned is better: turned − plain is +0.100 (")


def test_a_ratio_of_spreads_has_pitmans_interval():
    # At its ends the two settings, scaled to that ratio, are just told apart: their sum and their
    # difference correlate as strongly as Student's t allows by chance.
    rng = np.random.default_rng(3)
    both = rng.normal(size=(12, 2)) @ [[1.0, 0.5], [0.0, 2.0]]
    runs = pd.DataFrame(both, columns=["a", "b"]).rename_axis("seed").reset_index()
    runs = runs.melt("seed", var_name="sharing", value_name="score")
    found = spreads(runs, ["score"], of="a", against="b").iloc[0]
    a, b = both.T
    assert found["n"] == 12
    assert found["ratio"] == pytest.approx(a.std() / b.std())
    for end, sign in (("low", 1), ("high", -1)):
        r = np.corrcoef(a - found[end] * b, a + found[end] * b)[0, 1]
        assert r * (10 / (1 - r**2)) ** 0.5 == pytest.approx(sign * 2.228139, rel=1e-3)
    turned = spreads(runs, ["score"], of="b", against="a").iloc[0]
    assert turned["low"] == pytest.approx(1 / found["high"])
    few = spreads(runs[runs["seed"] < 2], ["score"], of="a", against="b").iloc[0]
    assert few[["low", "high"]].isna().all()
    with pytest.raises(ValueError, match="cost"):
        spreads(runs, ["cost"], of="a", against="b")


def test_a_pair_is_one_seed_whatever_else_varies():
    runs = pd.DataFrame(
        {"sharing": ["a", "a", "b", "b"] * 3, "seed": [0] * 4 + [1] * 4 + [2] * 4,
         "layer": [1, 2] * 6, "key": [3.0, 5.0, 1.0, 1.0, 4.0, 6.0, 1.0, 3.0, 4.0, 4.0, 2.0, 2.0]}
    )  # fmt: skip
    found = differences(runs, "key", of="a", against="b").iloc[0]
    assert (found["mean"], found["n"]) == (pytest.approx((3 + 3 + 2) / 3), 3)
    assert spreads(runs, ["key"], of="a", against="b")["n"].tolist() == [3]
    means = intervals(runs.rename(columns={"key": "value"}), "sharing", "value")
    assert means["mean"].tolist() == pytest.approx([26 / 6, 10 / 6])
