import pytest
from tiny_corpus import SMALL

from trfnb.experiments.configs import build_config
from trfnb.experiments.forgetting import compare_factors, factor_settings, forgetting


@pytest.fixture(scope="module")
def table(corpus):
    return forgetting(
        build_config(("tagger", "ner"), **SMALL),
        corpus,
        first="tagger",
        second="ner",
        factors=(0.0, 3.0),
        replays=(0.0, 0.5),
        steps=25,
        progress=False,
    )


def test_one_row_per_run(table):
    settings = list(zip(table["factor"], table["replay"], strict=True))
    assert settings == [(0.0, 0.0), (3.0, 0.0), (0.0, 0.5), (3.0, 0.5)]
    assert table["before"].nunique() == 1
    assert (table["forgotten"] == table["before"] - table["after"]).all()


def test_an_encoder_that_does_not_move_forgets_nothing(table):
    still = table[(table["factor"] == 0) & (table["replay"] == 0)].iloc[0]
    assert still["before"] > 0.5, "there is something to forget"
    assert still["after"] == still["before"]


def test_one_that_moves_forgets_and_a_replay_keeps(table):
    plain, replayed = table[table["factor"] == 3.0]["forgotten"]
    assert plain > 0
    assert replayed < plain


def test_an_unknown_task(corpus):
    with pytest.raises(KeyError, match="parser"):
        forgetting(build_config(["tagger"], **SMALL), corpus, first="tagger", second="parser")


def test_every_setting_of_the_factors_is_trained_and_logged(corpus):
    settings = factor_settings("ner", [0.5, 1.0], steps=3, policies=["equal_norms"])
    assert list(settings) == [
        "all × 1",
        "all × 0",
        "ner × 0.5",
        "frozen, then up",
        "down to 0",
        "equal_norms",
    ]
    settings["apart"] = {"sharing": [["tagger"], ["ner"]]}
    options = {**SMALL, "max_steps": 3, "eval_frequency": 3}
    for row, log in compare_factors(
        corpus, settings, tasks=("tagger", "ner"), seeds=[0], options=options
    ):
        name, last = row["setting"], log.steps[-1]
        factors = dict(zip(last.listeners, last.factors, strict=True))
        assert 0 <= row["tag_acc"] <= 1
        assert isinstance(row["starved"], list)
        if name == "apart":
            assert factors == {"tagger": 1.0}, "the first group's"
        elif name == "ner × 0.5":
            assert factors == {"tagger": 1.0, "ner": 0.5}
        elif name == "down to 0":
            assert factors["tagger"] == factors["ner"] == pytest.approx(1 / 3)
        elif name in ("all × 1", "all × 0"):
            assert set(factors.values()) == {float(name[-1])}
