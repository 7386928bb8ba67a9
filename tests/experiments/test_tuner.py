"""The tuner without any widget: moves act at the next update, are logged, and can be replayed."""

import threading
import time

import numpy as np
import pytest
from thinc.api import Config, use_ops
from thinc.backends import get_current_ops

from trfnb.experiments.configs import build_config
from trfnb.experiments.training import train
from trfnb.experiments.tuner import (
    Move,
    Tuner,
    Turns,
    schedules_of,
    tuned_config,
)
from trfnb.experiments.weights import fingerprint
from trfnb.flow.gradients import GradientLog

SMALL = {"width": 24, "depth": 2, "embed_rows": 100, "batch_words": 60, "eval_frequency": 5}
TASKS = ("tagger", "ner")


def config(**settings):
    return build_config(TASKS, **{"max_steps": 12, **SMALL, **settings})


def factors(tuner, task):
    table = tuner.log.table()
    return list(table["factor"][table["listener"] == task])


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_a_scripted_run_moves_at_its_steps(corpus):
    tuner = Tuner(config(), corpus)
    script = [Move(3, "ner", 0.25), Move(6, "ner", 0.0), Move(6, "tagger", -0.5)]
    tuner.run(script)
    assert factors(tuner, "ner") == [1.0] * 3 + [0.25] * 3 + [0.0] * 6
    assert factors(tuner, "tagger") == [1.0] * 6 + [-0.5] * 6
    assert tuner.moves == script
    with pytest.raises(ValueError, match="finite"):
        tuner.set("ner", float("inf"))
    with pytest.raises(TypeError, match="grad_factor expected"):
        tuner.set("ner", "high")
    with pytest.raises(ValueError, match=r"expected a task of \['tagger', 'ner', 'balance'\]"):
        tuner.set("parser", 1.0)
    assert tuner.settings == {"tagger": -0.5, "ner": 0.0}, "a wrong move is not made"


@pytest.mark.parametrize("settings", [{}, {"balance": "equal_norms"}])
def test_a_replay_gives_the_same_weights(corpus, tmp_path, settings):
    tuner = Tuner(config(max_steps=8, **settings), corpus)
    ramp = {"@schedules": "trfnb.frozen_then_warmup.v1", "frozen": 1, "warmup": 3}
    tuned = tuner.run([Move(2, "tagger", ramp), Move(5, "ner", 0.3)])
    tuner.export_config().to_disk(tmp_path / "tuned.cfg")
    replayed = train(Config().from_disk(tmp_path / "tuned.cfg"), corpus, progress=False)
    assert fingerprint(replayed.nlp) == fingerprint(tuned.nlp)
    plain = train(config(max_steps=8), corpus, progress=False)
    assert fingerprint(plain.nlp) != fingerprint(tuned.nlp)


def test_live_in_a_thread_with_pause_and_stop(corpus):
    tuner = Tuner(config(max_steps=0, patience=0, max_epochs=10_000), corpus)
    tuner.start()
    wait_for(lambda: len(tuner.history) >= 2)
    tuner.pause()
    assert tuner.state == "paused"
    time.sleep(0.3)
    made = len(tuner.history)
    tuner.set("ner", 0.05)
    time.sleep(0.2)
    assert len(tuner.history) == made, "a paused training makes no update"
    assert not tuner.moves
    tuner.start()
    wait_for(lambda: len(tuner.history) >= made + 3)
    tuner.stop()
    tuner.join(20)
    assert tuner.state == "ended"
    (move,) = tuner.moves
    found = factors(tuner, "ner")
    assert found == [1.0] * move.step + [0.05] * (len(found) - move.step)
    assert len(found) > move.step
    assert "score" in tuner.history[-1], "what was reached is evaluated"
    replayed = train(tuner.export_config(), corpus, progress=False)
    assert fingerprint(replayed.nlp) == fingerprint(tuner.trained.nlp)


def test_two_side_by_side_replay_to_the_same_weights(corpus):
    tuners = [Tuner(config(max_steps=6), corpus), Tuner(config(max_steps=4), corpus)]
    for tuner in tuners:
        tuner.start()
    for tuner in tuners:
        tuner.join(60)
        assert tuner.eta == 0.0
        replayed = train(tuner.export_config(), corpus, progress=False)
        assert fingerprint(replayed.nlp) == fingerprint(tuner.trained.nlp)


def test_started_again_it_trains_with_the_factors_as_they_stand(corpus):
    tuner = Tuner(config(max_steps=4), corpus)
    tuner.run([Move(2, "ner", 0.25)])
    tuner.start()
    tuner.join(60)
    assert factors(tuner, "ner") == [0.25] * 4
    assert factors(tuner, "tagger") == [1.0] * 4
    assert tuner.moves == [Move(0, "tagger", 1.0), Move(0, "ner", 0.25)]
    tuner.start()
    tuner.stop()
    with pytest.raises(RuntimeError, match="at least one update"):
        tuner.run()
    assert tuner.state == "ended"
    assert tuner.trained is None


def test_the_thread_has_the_context_that_the_tuner_was_made_in(corpus):
    seen = []
    with use_ops("numpy", use_blis=False):
        here = get_current_ops()
        tuner = Tuner(config(max_steps=1), corpus)
    tuner.history = type("Rows", (list,), {"append": lambda s, r: seen.append(get_current_ops())})()
    tuner.start()  # as from a widget's callback, which has another context
    tuner.join(20)
    assert seen == [here]


def test_a_policy_can_be_chosen_while_it_trains(corpus):
    tuner = Tuner(config(), corpus)
    equal = {"@balancers": "trfnb.equal_norms.v1", "smoothing": 0.0}
    script = [Move(4, "balance", equal), Move(4, "tagger", "auto"), Move(4, "ner", "auto")]
    tuner.run(script)
    table = tuner.log.table()
    late = table[table["step"] > 4].pivot(index="step", columns="listener", values="norm")
    np.testing.assert_allclose(late["ner"], late["tagger"], rtol=1e-5)


def test_a_failed_training_says_why(corpus):
    tuner = Tuner(config(), corpus)
    tuner.set("ner", "auto")  # and no policy
    tuner.start()
    with pytest.raises(ValueError, match="policy"):
        tuner.join(20)
    assert tuner.state == "failed"


def test_turns_are_had_in_the_order_they_are_asked_for():
    turns, had = Turns(), []

    def take(name):
        with turns:
            had.append(name)

    threads = [threading.Thread(target=take, args=(name,)) for name in "ab"]
    with turns:
        for asked, thread in enumerate(threads, start=2):
            thread.start()
            while turns._asked < asked:
                time.sleep(0.001)
    take("the one that gave it up")
    for thread in threads:
        thread.join()
    assert had == ["a", "b", "the one that gave it up"]


def test_nothing_to_tune_or_to_export():
    for encoder in ({}, {"encoder": "minilm", "batch_words": 60}):
        alone = build_config(TASKS, sharing="independent", **SMALL | encoder)
        with pytest.raises(ValueError, match="Expected a config with listeners"):
            Tuner(alone, None)
    with pytest.raises(ValueError, match="at least one training step"):
        schedules_of(GradientLog())
    with pytest.raises(ValueError, match=r"unknown \['parser'\]"):
        tuned_config(config(), {"parser": {}})


def test_factors_within_one_step_are_no_schedule(corpus):
    halves = config(balance="equal_norms")
    halves["training"]["accumulate_gradient"] = 2
    tuner = Tuner(halves, corpus)
    tuner.run()
    with pytest.raises(ValueError, match="accumulate_gradient = 1"):
        tuner.export_parameters()
