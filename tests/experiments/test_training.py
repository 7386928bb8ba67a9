import subprocess
import sys

import numpy
import pytest
import spacy
from spacys_loop import after_spacys_loop, weights_of

from trfnb.experiments.configs import SHARINGS, build_config
from trfnb.experiments.training import initialize, train

SMALL = {"width": 24, "depth": 2, "embed_rows": 100, "batch_words": 60, "eval_frequency": 4}


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_updates_are_those_of_spacy_train(corpus, sharing, accumulate):
    # 60 sentences of 6 words by 60 words: 6 batches an epoch, so 8 updates shuffle twice.
    config = build_config(
        sharing=sharing,
        accumulate_gradient=accumulate,
        max_steps=8,
        **SMALL | {"eval_frequency": 8},
    )
    expected = after_spacys_loop(config, corpus, updates=8)
    trained = train(config, corpus, progress=False)
    got = weights_of(trained.nlp)
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        numpy.testing.assert_allclose(got[key], value, atol=1e-6, err_msg=str(key))
    assert len(trained.history) == 8


def test_a_frozen_body_stays_and_a_shared_one_moves(corpus):
    moved = {}
    for sharing in ("shared", "frozen"):
        config = build_config(["tagger"], sharing=sharing, max_steps=4, **SMALL)
        start = weights_of(initialize(config, lambda vocab: corpus.examples("train", vocab)))
        end = weights_of(train(config, corpus, progress=False).nlp)
        moved[sharing] = {
            component: any(
                not numpy.array_equal(start[key], end[key]) for key in start if key[0] == component
            )
            for component in ("tok2vec", "tagger")
        }
    assert moved["shared"] == {"tok2vec": True, "tagger": True}
    assert moved["frozen"] == {"tok2vec": False, "tagger": True}


def test_the_best_evaluation_is_kept_and_patience_ends_the_training(corpus):
    # A rate this high destroys what was learnt: the score falls after some evaluation.
    schedule = {"@schedules": "constant_then.v1", "rate": 0.01, "steps": 12}
    schedule["schedule"] = {"@schedules": "constant.v1", "rate": 50.0}
    config = build_config(
        ["tagger"], learn_rate=schedule, max_steps=200, patience=12, dropout=0.0, **SMALL
    )
    trained = train(config, corpus, progress=False)
    evaluated = trained.history.dropna(subset=["score"])
    assert len(trained.history) == trained.best_step + 12
    assert trained.score == evaluated["score"].max() > evaluated["score"].iloc[-1]
    again = trained.nlp.evaluate(corpus.examples("dev", trained.nlp.vocab))
    assert again["tag_acc"] == trained.scores["tag_acc"]


def test_history_has_a_row_an_update_and_scores_at_evaluations(corpus):
    seen = []
    config = build_config(["tagger", "ner"], max_epochs=2, max_steps=0, **SMALL)
    trained = train(config, corpus, progress=False, on_step=seen.append)
    history = trained.history
    assert list(history["step"]) == list(range(1, 13))
    assert list(history["epoch"].unique()) == [0, 1]
    assert history["words"].sum() == 2 * 60 * 6
    assert list(history["step"][history["score"].notna()]) == [4, 8, 12]
    assert {"loss_tok2vec", "loss_tagger", "loss_ner", "tag_acc", "ents_f"} <= set(history)
    assert seen[3]["score"] == history["score"][3]


def test_a_seed_decides_the_weights(corpus):
    config = build_config(["tagger"], max_steps=2, **SMALL)
    runs = [weights_of(train(config, corpus, seed=s, progress=False).nlp) for s in (1, 1, 2)]
    same = [all(numpy.array_equal(runs[0][k], run[k]) for k in run) for run in runs]
    assert same == [True, True, False]


def test_nothing_to_end_the_training_or_to_score_is_an_error(corpus):
    config = build_config(["tagger"], max_steps=0, patience=0, **SMALL)
    empty = type(corpus)({"train": 10, "dev": 0})
    with pytest.raises(ValueError, match="dev split is empty") as caught:
        train(config, empty, progress=False)
    assert "nothing ends the training" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("sharing", ["shared", "frozen"])
def test_the_spacy_train_command_gives_the_same_scores(corpus, tmp_path, sharing):
    config = build_config(sharing=sharing, max_epochs=6, max_steps=0, patience=0, **SMALL)
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
