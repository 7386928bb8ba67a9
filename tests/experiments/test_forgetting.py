import pytest

from trfnb.experiments.forgetting import forgetting
from trfnb.experiments.configs import build_config

SMALL = {"width": 24, "depth": 2, "embed_rows": 100, "batch_words": 60}


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


def test_a_row_a_run(table):
    assert list(zip(table["factor"], table["replay"], strict=True)) == [
        (0.0, 0.0),
        (3.0, 0.0),
        (0.0, 0.5),
        (3.0, 0.5),
    ]
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
    with pytest.raises(ValueError, match=r"expected a config with \['parser'\]"):
        forgetting(build_config(["tagger"], **SMALL), corpus, first="tagger", second="parser")
