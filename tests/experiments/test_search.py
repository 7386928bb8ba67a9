"""Learn rates chosen on dev: who is tried, for how long, and what comes out."""

import pytest
from tiny_corpus import SMALL, TinyCorpus

from trfnb.experiments import compare, training
from trfnb.experiments.configs import build_config, with_sharing
from trfnb.experiments.search import rates_of, tune, with_rates

HELD_OUT = TinyCorpus(train=40, dev=10, test=10)


def test_the_better_half_goes_on_and_the_best_rate_wins():
    config = build_config(["tagger"], learn_rate=1e-4, **SMALL)
    tuned, table = tune(
        config, HELD_OUT, trials=4, budget="1200 words", spread=50.0, seed=1, progress=False
    )
    assert table["budget"].tolist() == ["600.0 words"] * 4 + ["1200.0 words"] * 2
    first = table[table["round"] == 1].set_index("trial")
    assert first["heads_rate"][0] == 1e-4, "the config's own rate is tried"
    assert first["heads_rate"].between(1e-4 / 50, 1e-4 * 50).all()
    last = table[table["round"] == 2]
    assert set(last["trial"]) == set(first["score"].nlargest(2).index)
    assert rates_of(tuned)["heads"] == last.loc[last["score"].idxmax(), "heads_rate"]
    assert rates_of(tuned)["heads"] > 1e-4, "a tenth of the usual rate learns too little here"
    assert config["training"]["optimizer"]["learn_rate"] == 1e-4
    again = tune(config, HELD_OUT, trials=4, budget="1200 words", spread=50.0, seed=1)
    assert again[1].equals(table)


def test_the_same_effort_for_each_way_and_no_look_at_the_test_split(tiny, monkeypatch):
    seen = []
    monkeypatch.setattr(
        HELD_OUT.__class__,
        "examples",
        lambda self, split, vocab, real=TinyCorpus.examples: (
            seen.append(split) or real(self, split, vocab)
        ),
    )
    config = build_config(["tagger", "ner"], tiny, batch_words=60)
    tables = {
        way: tune(with_sharing(config, way), HELD_OUT, trials=3, budget="120 words")[1]
        for way in ("shared", "independent", "frozen")
    }
    assert set(seen) == {"train", "dev"}
    efforts = {way: (len(t), t["words"].sum()) for way, t in tables.items()}
    assert len(set(efforts.values())) == 1
    for way in ("shared", "independent"):
        ratios = tables[way]["encoder_rate"] / tables[way]["heads_rate"]
        assert ratios.nunique() == 3, "two rates, each its own"
    ratios = tables["frozen"]["encoder_rate"] / tables["frozen"]["heads_rate"]
    assert ratios.nunique() == 1, "all trials go to the heads' rate"


def test_rates_are_multiplied_in_numbers_and_schedules(tiny):
    config = build_config(["tagger"], tiny, max_steps=100)
    faster = with_rates(config, heads=2.0, encoder=0.5)
    assert rates_of(faster) == pytest.approx({"heads": 0.004, "encoder": 5e-5})
    assert faster["training"]["optimizer"]["learn_rate"]["warmup_steps"] == 10
    assert rates_of(config) == pytest.approx({"heads": 0.002, "encoder": 1e-4})
    plain = build_config(["tagger"])
    assert with_rates(plain, heads=3.0, encoder=3.0)["training"]["optimizer"]["@optimizers"] == (
        "Adam.v1"
    )
    both = with_rates(plain, heads=2.0, encoder=1.0)["training"]["optimizer"]
    assert (both["@optimizers"], both["encoder_factor"]) == ("trfnb.Adam.v1", 0.5)
    plain["training"]["optimizer"]["@optimizers"] = "RAdam.v1"
    with pytest.raises(ValueError, match=r"expected Adam\.v1 or trfnb\.Adam\.v1"):
        with_rates(plain, heads=2.0)


def test_a_loss_of_nan_loses_and_other_errors_are_raised(monkeypatch):
    config = build_config(["tagger"], **SMALL)

    def fails(config, *_, **__):
        raise ValueError("[E910] Encountered NaN value")

    monkeypatch.setattr("trfnb.experiments.search.train", fails)
    assert (
        tune(config, HELD_OUT, trials=2, budget="60 words")[1]["score"].tolist()
        == [float("-inf")] * 2
    )
    monkeypatch.setattr("trfnb.experiments.search.train", training.train)
    with pytest.raises(ValueError, match="the dev split is empty"):
        tune(config, TinyCorpus(dev=0), trials=2, budget="60 words")
    with pytest.raises(ValueError, match="2 trials or more"):
        tune(config, HELD_OUT, trials=1, budget="60 words")
    with pytest.raises(ValueError, match="expected a number above 0 and a unit"):
        tune(config, HELD_OUT, budget="many")


def test_a_comparison_tunes_every_way_alike(monkeypatch):
    asked = []

    def tuned(config, corpus, **effort):
        asked.append(effort)
        return with_rates(config, heads=3.0, encoder=3.0), None

    monkeypatch.setattr("trfnb.experiments.search.tune", tuned)
    ways = ["shared", "tagger | ner", "frozen"]
    found = compare(
        HELD_OUT, tasks=["tagger", "ner"], sharings=ways, seeds=[5], budget="120 words", tune=4,
        options={**SMALL, "learn_rate": 0.002}, progress=False,
    )  # fmt: skip
    assert asked == [{"trials": 4, "budget": "120 words", "seed": 5, "progress": False}] * 3
    for way in ways:
        recipe = found.pipelines[way].config["training"]["optimizer"]["learn_rate"]
        assert recipe["initial_rate"] == pytest.approx(0.006), way
    assert found.pipelines["tagger | ner"].pipe_names == ["tok2vec", "tagger", "tok2vec_2", "ner"]
