import subprocess
import sys

import numpy
import pytest
import spacy
from spacy.training.loop import (
    create_evaluation_callback,
    create_train_batches,
    train_while_improving,
)
from thinc.api import fix_random_seed
from tiny_corpus import SMALL, TinyCorpus, weights_of

from trfnb.experiments.configs import build_config
from trfnb.experiments.training import initialize, read_budget, settings_of, train
from trfnb.experiments.weights import fingerprint

OFTEN = {**SMALL, "eval_frequency": 4}


def after_spacys_loop(config, corpus, updates):
    """Return the weights that `spacy train`'s loop reaches from a config."""
    nlp = initialize(config, lambda vocab: corpus.examples("train", vocab))
    T = settings_of(nlp)
    fix_random_seed(T["seed"])
    loop = train_while_improving(
        nlp,
        T["optimizer"],
        create_train_batches(
            nlp, lambda nlp: corpus.examples("train", nlp.vocab), T["batcher"], T["max_epochs"]
        ),
        create_evaluation_callback(
            nlp, lambda nlp: corpus.examples("dev", nlp.vocab), T["score_weights"]
        ),
        dropout=T["dropout"],
        accumulate_gradient=T["accumulate_gradient"],
        patience=T["patience"],
        max_steps=T["max_steps"],
        eval_frequency=T["eval_frequency"],
        exclude=T["frozen_components"],
        annotating_components=T["annotating_components"],
        before_update=T["before_update"],
    )
    for _ in range(updates):
        next(loop)
    return weights_of(nlp)


@pytest.mark.parametrize(
    ("encoder", "sharing", "accumulate"),
    [
        ("tok2vec", "shared", 1),
        ("tok2vec", "independent", 2),
        ("tok2vec", "frozen", 1),
        ("tiny", "shared", 2),
        ("tiny", "independent", 1),
        ("tiny", "frozen", 1),
    ],
)
def test_updates_are_those_of_spacy_train(corpus, tiny, encoder, sharing, accumulate):
    # 60 sentences of 6 words by 60 words: 6 batches an epoch, so 8 updates shuffle twice.
    config = build_config(
        encoder=tiny if encoder == "tiny" else encoder,
        sharing=sharing,
        max_steps=8,
        eval_frequency=8,
        **SMALL,
    )
    config["training"]["accumulate_gradient"] = accumulate
    expected = after_spacys_loop(config, corpus, updates=8)
    trained = train(config, corpus, progress=False)
    got = weights_of(trained.nlp)
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        numpy.testing.assert_allclose(got[key], value, atol=1e-6, err_msg=str(key))
    assert len(trained.history) == 8


def test_the_best_evaluation_is_kept_and_patience_ends_the_training(corpus):
    # A rate this high destroys what was learnt: the score falls after some evaluation.
    schedule = {"@schedules": "constant_then.v1", "rate": 0.01, "steps": 12}
    schedule["schedule"] = {"@schedules": "constant.v1", "rate": 50.0}
    config = build_config(
        ["tagger"], learn_rate=schedule, max_steps=200, patience=12, dropout=0.0, **OFTEN
    )
    trained = train(config, corpus, progress=False)
    evaluated = trained.history.dropna(subset=["score"])
    assert len(trained.history) == trained.best_step + 12
    assert trained.score == evaluated["score"].max() > evaluated["score"].iloc[-1]
    again = trained.nlp.evaluate(corpus.examples("dev", trained.nlp.vocab))
    assert again["tag_acc"] == trained.scores["tag_acc"]


def test_history_has_one_row_per_update_and_scores_at_evaluations(corpus):
    seen = []
    config = build_config(["tagger", "ner"], max_epochs=2, max_steps=0, **OFTEN)
    history = train(config, corpus, progress=False, on_step=seen.append).history
    assert list(history["step"]) == list(range(1, 13))
    assert list(history["epoch"].unique()) == [0, 1]
    assert history["words"].sum() == 2 * 60 * 6
    assert list(history["step"][history["score"].notna()]) == [4, 8, 12]
    assert {"loss_tok2vec", "loss_tagger", "loss_ner", "tag_acc", "ents_f"} <= set(history)
    assert (history["loss_tagger"] > 0).all(), "of each update, not summed"
    assert history["loss_tagger"].iloc[-1] < history["loss_tagger"].iloc[0]
    assert seen[3]["score"] == history["score"][3]


def test_dev_chooses_and_test_is_scored_at_the_end():
    corpus = TinyCorpus(dev=1, test=30)
    trained = train(build_config(["tagger"], max_steps=4, **SMALL), corpus, progress=False)
    on_test = trained.nlp.evaluate(corpus.examples("test", trained.nlp.vocab))
    assert trained.scores["tag_acc"] == on_test["tag_acc"]
    on_dev = trained.nlp.evaluate(corpus.examples("dev", trained.nlp.vocab))
    assert trained.dev_scores["tag_acc"] == on_dev["tag_acc"] == trained.score
    config = build_config(["tagger"], max_steps=4, **SMALL)
    untouched = train(config, corpus, test=False, progress=False)
    assert untouched.scores == untouched.dev_scores


def test_a_budget_of_words_sets_rate_evaluations_and_end(corpus):
    # A budget goes to its end, though the score does not rise any more after 12 updates.
    config = build_config(["tagger"], learn_rate=0.01, patience=1, **SMALL)
    trained = train(config, corpus, budget="1200 words", progress=False)
    # 20 updates of 60 words, and five evaluations of 120 words: six would read over half of that.
    assert len(trained.history) == 20
    assert list(trained.history["step"][trained.history["score"].notna()]) == [4, 8, 12, 16, 20]
    recipe = trained.nlp.config["training"]
    assert recipe["optimizer"]["learn_rate"] == {
        "@schedules": "warmup_linear.v1",
        "warmup_steps": 2,
        "total_steps": 20,
        "initial_rate": 0.01,
    }
    # The recipe that the config now holds trains the very same weights.
    again = train(trained.nlp.config, corpus, progress=False)
    for key, value in weights_of(trained.nlp).items():
        numpy.testing.assert_allclose(weights_of(again.nlp)[key], value, atol=1e-6)


@pytest.mark.parametrize(("dev", "evaluations"), [(5, 10), (11, 9), (200, 4)])
def test_evaluations_read_no_more_than_half_of_the_words(dev, evaluations):
    config = build_config(["tagger"], learn_rate=0.01, **SMALL)
    trained = train(config, TinyCorpus(dev=dev), budget="1200 words", progress=False)
    assert trained.history["score"].notna().sum() == evaluations
    assert trained.history["score"].notna().iloc[-1]


def test_a_budget_of_time_ends_the_training(corpus, monkeypatch):
    from trfnb.experiments import training

    now = iter(range(10**6))
    monkeypatch.setattr(training, "perf_counter", lambda: next(now) / 10)
    config = build_config(["tagger"], max_steps=0, max_epochs=0, **SMALL)
    trained = train(config, corpus, budget="5 s", progress=False)
    assert 5 < len(trained.history) < 50
    assert trained.history["score"].notna().sum() >= 5
    assert trained.history["score"].notna().iloc[-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 min", (120.0, "seconds")),
        ("1.5h", (5400.0, "seconds")),
        ("90 s", (90.0, "seconds")),
        ("60,000 words", (60_000.0, "words")),
    ],
)
def test_budgets_are_read(text, expected):
    assert read_budget(text) == expected


@pytest.mark.parametrize("text", ["5", "0 min", "five min", "-1 s", "3 epochs", "1.2.3 s"])
def test_other_budgets_are_refused(text):
    with pytest.raises(ValueError, match="a number above 0 and a unit"):
        read_budget(text)


def test_a_seed_decides_the_weights(corpus):
    config = build_config(["tagger"], max_steps=2, **SMALL)
    runs = [weights_of(train(config, corpus, seed=s, progress=False).nlp) for s in (1, 1, 2)]
    same = [all(numpy.array_equal(runs[0][k], run[k]) for k in run) for run in runs]
    assert same == [True, True, False]


def test_nothing_to_end_the_training_or_to_score_is_an_error():
    config = build_config(["tagger"], max_steps=0, patience=0, **SMALL)
    with pytest.raises(ValueError, match="dev split is empty") as caught:
        train(config, TinyCorpus(dev=0), progress=False)
    assert "nothing ends the training" in str(caught.value)


@pytest.mark.slow
def test_the_spacy_train_command_gives_the_same_scores(corpus, tmp_path):
    config = build_config(sharing="frozen", max_epochs=6, max_steps=0, patience=0, **OFTEN)
    config.to_disk(tmp_path / "config.cfg")
    train_path, dev_path = corpus.save(tmp_path)
    paths = ["--paths.train", str(train_path), "--paths.dev", str(dev_path)]
    command = [sys.executable, "-m", "spacy", "train", str(tmp_path / "config.cfg"), *paths]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = spacy.load(tmp_path / "out" / "model-last")
    ours = train(config, corpus, progress=False)
    dev = corpus.examples("dev", theirs.vocab)
    for name in ("tag_acc", "dep_las", "ents_f", "cats_macro_f"):
        assert theirs.evaluate(dev)[name] == pytest.approx(ours.history[name].iloc[-1], abs=1e-6)


def test_components_from_another_pipeline_keep_their_weights(corpus, tmp_path):
    source = initialize(build_config(["tagger"], **SMALL), lambda v: corpus.examples("train", v))
    source.get_pipe("tagger").model.get_ref("softmax").get_param("W")[:] = 0.5
    source.to_disk(tmp_path)
    config = source.config.copy()
    for name in ("tok2vec", "tagger"):
        config["components"][name] = {"source": str(tmp_path)}
    nlp = initialize(config, lambda vocab: corpus.examples("train", vocab))
    assert fingerprint(nlp) == fingerprint(source)


@pytest.mark.parametrize("weights", [{"spans_sc_f": 1.0}, {"tag_acc": None}])
def test_weights_are_kept_by_scores_that_are_there(corpus, weights):
    config = build_config(["tagger"], **{**SMALL, "max_steps": 1})
    config["training"]["score_weights"] = weights
    with pytest.raises(ValueError, match="expected weights above 0 of scores on dev") as error:
        train(config, corpus, progress=False)
    assert "'tag_acc'" in str(error.value)
