"""The view without a browser: what its buttons and sliders do to the tuner."""

import asyncio
import time

import pytest
import yaml
from thinc.api import Config

from trfnb import corpora
from trfnb.experiments.pipelines import build_config
from trfnb.experiments.training import train
from trfnb.experiments.weights import fingerprint
from trfnb.widgets import GradFactorTuner
from trfnb.widgets.lines import lines
from trfnb.widgets.presets import PRESETS

SMALL = {"width": 24, "depth": 1, "embed_rows": 100, "batch_words": 40, "eval_frequency": 5}


@pytest.fixture(scope="module")
def corpus():
    return corpora.load("newsroom", limit=40, dev_limit=10)


@pytest.fixture
def view(corpus, tmp_path):
    config = build_config(("tagger", "ner"), max_steps=12, patience=0, **SMALL)
    return GradFactorTuner(config, corpus, exports=tmp_path / "tuned")


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_a_slider_moves_a_factor_at_the_next_update(view):
    view.sliders["ner"].value = 0.3
    view.tuner.run()
    (move,) = view.tuner.moves
    assert (move.step, move.task, move.value) == (0, "ner", 0.3)
    assert view.table()["value"].tolist() == [0.3]


def test_buttons_follow_the_state(view):
    assert [b.disabled for b in (view.start_button, view.pause_button, view.stop_button)] == [
        False, True, True,
    ]  # fmt: skip
    view.start_button.click()
    view.pause_button.click()
    wait_for(lambda: view.tuner.state == "paused")
    view.refresh()
    assert not view.start_button.disabled
    view.start_button.click()
    wait_for(lambda: view.tuner.history)
    view.stop_button.click()
    view.tuner.join(20)
    view.refresh()
    assert view.stop_button.disabled
    assert not view.export_button.disabled
    assert "ended" in view.status.value


def test_stopped_before_the_first_update(view):
    view.tuner.pause()
    view.tuner.stop()
    assert view.tuner.join() is None
    view.start_button.click()
    view.tuner.join(20)
    view.refresh()
    assert view.tuner.state == "ended"
    assert view.tuner.trained is None
    assert view.export_button.disabled


def test_it_refreshes_on_the_kernels_loop_while_it_trains(view):
    async def session():
        view.start_button.click()
        seen = set()
        while view.tuner.state == "running":
            seen.add(view.progress.value)
            await asyncio.sleep(0.02)  # the loop is free while training goes on
        await asyncio.sleep(0.5)
        return seen

    asyncio.run(session())
    assert view.progress.value == 12
    assert "<polyline" in view.live.value
    assert "ended · update 12" in view.status.value


def test_an_export_replays_to_equal_weights(view, corpus):
    view.sliders["tagger"].value = -0.25
    view.tuner.run()
    view.export_button.click()
    config, parameters = view.exports / "tuned.cfg", view.exports / "tuned.yml"
    replayed = train(Config().from_disk(config), corpus, progress=False)
    assert fingerprint(replayed.nlp) == fingerprint(view.tuner.trained.nlp)
    found = yaml.safe_load(parameters.read_text())["tuned"]
    assert found["updates"] == 12
    assert found["factors"]["tagger"]["factors"] == [-0.25]


@pytest.mark.parametrize("name", PRESETS)
def test_presets(view, name):
    if "torchjd" in name:
        pytest.importorskip("torchjd")
    view.preset.value = name
    view.tuner.run()
    view.refresh()
    assert {move.step for move in view.tuner.moves} == {0}
    assert {move.task for move in view.tuner.moves} >= {"tagger", "ner"}
    last = view.tuner.log.table().groupby("listener")["factor"].last()
    for task, slider in view.sliders.items():
        assert slider.value == pytest.approx(min(max(last[task], -1), 2), abs=1e-6)
    assert len(view.tuner.moves) <= 3, "showing a factor is no move"


def test_a_slide_ends_a_schedule(view):
    view.preset.value = "frozen for 50 updates, then up"
    view.sliders["ner"].value = 0.5
    view.tuner.run()
    assert view.tuner.log.steps[-1].factors == (0.0, 0.5)


def test_a_static_figure(view):
    view.tuner.run()
    axes = view.figure().axes
    assert {"effective factor"} <= {a.get_ylabel() for a in axes}


def test_charts_leave_out_what_is_not_known():
    chart = lines("cosine < 0", {"a·b": ([1, 2, 3], [float("nan"), 1.0, -1.0])})
    assert chart.count("<polyline") == 1
    assert "nan" not in chart
    assert "cosine &lt; 0" in chart
    assert "<polyline" not in lines("none yet", {"a": ([], [])})


def test_charts_of_long_runs_stay_small():
    chart = lines("long", {"a": (list(range(10_000)), [0.5] * 10_000)})
    assert len(chart) < 5_000
