"""The tuner's view without a browser: what its buttons, dials and presets do to the tuner."""

import asyncio
import time
from types import SimpleNamespace

import pytest
import yaml
from thinc.api import Config

from trfnb import corpora
from trfnb.experiments.configs import build_config
from trfnb.experiments.training import train
from trfnb.experiments.tuner import Move, tuned_config
from trfnb.experiments.weights import fingerprint
from trfnb.widgets import GradFactorTuner, grad_factor
from trfnb.widgets.grad_factor import Dial

SMALL = {"width": 24, "depth": 1, "embed_rows": 100, "batch_words": 40, "eval_frequency": 5}


@pytest.fixture(scope="module")
def corpus():
    return corpora.load("newsroom", limit=40, dev_limit=10)


@pytest.fixture
def config():
    return build_config(("tagger", "ner"), max_steps=12, patience=0, **SMALL)


@pytest.fixture
def view(config, corpus, tmp_path):
    return GradFactorTuner(config, corpus, exports=tmp_path / "tuned")


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_a_dial_shows_any_factor_and_takes_it_for_no_move():
    moves = []
    dial = Dial("ner", lambda *move: moves.append(move))
    for factor, shown in [
        (-0.5, 0.0),
        (0.001, 0.01),
        (0.3, 0.316),
        (10.0, 10.0),
        (500.0, 100.0),
        (0.0, 0.0),
    ]:
        dial.show(factor)
        assert dial.slider.value == pytest.approx(shown, rel=0.07)
        assert float(dial.box.value) == factor
    dial.show(2.5, "a policy")
    assert (dial.box.value, dial.box.placeholder, dial.setter.value) == ("", "2.5", "a policy")
    assert moves == []
    dial.slider.value = 0.01
    dial.box.value = "auto"
    assert moves == [("ner", 0.01), ("ner", "auto")]


def test_a_slid_dial_moves_a_factor_at_the_next_update(view):
    view.dials["ner"].slider.value = 100.0
    assert view.dials["ner"].box.value == "100"
    view.tuner.run()
    assert view.tuner.moves == [Move(0, "ner", 100.0)]
    assert view.table().to_dict("list") == {"step": [0], "task": ["ner"], "value": [100.0]}


def test_a_typed_number_is_a_move_and_a_typed_word_is_told(view):
    dial = view.dials["tagger"]
    dial.box.value = "-0.5"
    assert (view.tuner.settings["tagger"], dial.slider.value) == (-0.5, 0.0)
    dial.box.value = "0,7"
    assert "Refused. TypeError: grad_factor expected a finite number" in view.status.value
    assert "got &#x27;0,7&#x27;" in view.status.value
    assert dial.box.value == "-0.5"
    dial.box.value = "inf"
    assert "finite" in view.status.value
    assert view.tuner.settings["tagger"] == -0.5


def test_a_policy_is_followed_and_what_it_shows_is_no_move(view):
    view.preset.value = "policy: equal_norms"
    assert view.preset.value == ""
    view.tuner.run()
    view.refresh()
    assert [move.task for move in view.tuner.moves] == ["balance", "tagger", "ner"]
    shown = view.tuner.log.steps[-1].factors
    for dial, factor in zip(view.dials.values(), shown, strict=True):
        assert dial.box.value == ""
        assert dial.box.placeholder == f"{factor:.3g}"
        assert dial.setter.value == "set by equal_norms"
    view.dials["ner"].box.value = "2"
    assert view.tuner.settings["ner"] == 2.0


def test_a_policy_that_lacks_its_library_is_told(view, monkeypatch):
    given, settings = view.tuner.set, dict(view.tuner.settings)

    def lacking(task, value):
        if task == "balance":
            raise ImportError("no torchjd")
        given(task, value)

    monkeypatch.setattr(view.tuner, "set", lacking)
    view.preset.value = "policy: upgrad"
    assert "Refused. ImportError: no torchjd" in view.status.value
    assert view.tuner.settings == settings, "no task waits for a policy that is not there"


def test_buttons_follow_the_state_and_the_training_can_be_started_again(view):
    buttons = view.buttons.values()
    assert [b.disabled for b in buttons] == [False, True, True, True]
    view.buttons["Start"].click()
    view.buttons["Pause"].click()
    assert (view.tuner.state, view.buttons["Start"].description) == ("paused", "Resume")
    view.dials["ner"].box.value = "0.25"
    view.buttons["Start"].click()
    wait_for(lambda: view.tuner.history)
    view.buttons["Stop"].click()
    view.tuner.join(60)
    view.refresh()
    assert [b.disabled for b in buttons] == [False, True, True, False]
    assert view.buttons["Start"].description == "Restart"
    view.buttons["Start"].click()
    view.tuner.join(60)
    view.refresh()
    assert "<b>ended</b> · update 12 of 12" in view.status.value
    assert {step.factors[1] for step in view.tuner.log.steps} == {0.25}


def test_it_refreshes_on_the_kernels_loop_while_it_trains(view):
    async def session():
        view.buttons["Start"].click()
        while view.tuner.busy:
            await asyncio.sleep(0.02)  # the loop is free while training goes on
        await view._refreshing

    asyncio.run(session())
    assert "<b>ended</b> · update 12 of 12" in view.status.value
    assert "data:image/png" in view.shown.value


def test_a_cell_that_waits_for_the_training_shows_it(view, monkeypatch):
    said = []
    refresh = view.refresh
    monkeypatch.setattr(view, "refresh", lambda: (refresh(), said.append(view.status.value)))
    trained = view.finish([Move(4, "ner", 0.5)])
    assert "interrupt the kernel" in said[0]
    assert "<b>ended</b>" in said[-1]
    assert trained is view.tuner.trained is view.finish()
    assert [move.step for move in view.tuner.moves] == [4]
    assert view.shown.value.startswith("<img")
    assert view.shown.value in view.static()["text/html"]
    labels = {axes.get_ylabel() for axes in view.figure().axes}
    assert {"dev score", "loss per word", "effective factor\n(log scale)"} <= labels


def test_an_error_is_shown_with_its_class_and_traceback(view):
    view.tuner.set("ner", "auto")  # and no policy
    with pytest.raises(ValueError, match="expected a policy"):
        view.finish()
    assert "<b>failed</b>" in view.status.value
    assert "ValueError: " in view.status.value
    assert "Traceback (most recent call last)" in view.status.value


def test_running_its_cell_again_ends_the_earlier_training(config, corpus, monkeypatch):
    request = {"header": {"msg_id": "1"}, "metadata": {"cellId": "a"}}
    shell = SimpleNamespace(get_parent=lambda: request)
    monkeypatch.setattr(grad_factor, "get_ipython", lambda: shell)
    config["training"]["max_steps"] = 0
    first, beside = (GradFactorTuner(config, corpus) for _ in range(2))
    first.tuner.start()
    beside.tuner.start()
    request = {"header": {"msg_id": "2"}, "metadata": {"cellId": "b"}}
    GradFactorTuner(config, corpus)
    assert first.tuner.busy
    assert beside.tuner.busy
    request = {"header": {"msg_id": "3"}, "metadata": {"cellId": "a"}}
    GradFactorTuner(config, corpus)
    for view in (first, beside):
        view.tuner.join(60)
        assert view.tuner.state == "ended"


def test_an_export_replays_to_equal_weights(view, config, corpus):
    view.buttons["Export"].click()
    assert "Refused. ValueError: No factors to export" in view.status.value
    view.dials["tagger"].box.value = "-0.25"
    view.tuner.run()
    view.refresh()
    view.buttons["Export"].click()
    assert "Exported." in view.status.value
    exported = Config().from_disk(view.exports / "tuned.cfg")
    replayed = train(exported, corpus, progress=False)
    assert fingerprint(replayed.nlp) == fingerprint(view.tuner.trained.nlp)
    found = yaml.safe_load((view.exports / "tuned.yml").read_text())["tuned"]
    assert found["updates"] == 12
    assert found["factors"]["tagger"]["factors"] == [-0.25]
    assert tuned_config(config, **found).interpolate() == exported, "as notebook 02 does it"
