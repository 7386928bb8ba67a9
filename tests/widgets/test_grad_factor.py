"""The tuner's view without a browser: what its buttons, dials and presets do to the tuner."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import yaml
from thinc.api import Config

from trfnb import corpora
from trfnb.experiments.configs import build_config
from trfnb.experiments.training import train
from trfnb.experiments.tuner import Move
from trfnb.experiments.weights import fingerprint
from trfnb.widgets import GradFactorTuner, grad_factor
from trfnb.widgets.live import chart

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize(
    ("factor", "place"),
    [(-0.5, 0), (0.0, 0), (0.001, 1), (0.01, 1), (0.1, 21), (1.0, 41), (10.0, 61), (500.0, 81)],
)
def test_a_dial_shows_any_factor_and_takes_it_for_no_move(config, corpus, factor, place):
    config["components"]["ner"]["model"]["tok2vec"]["grad_factor"] = factor
    view = GradFactorTuner(config, corpus)
    assert view.dials["ner"].slider.value == place
    assert float(view.dials["ner"].box.value) == factor
    assert view.tuner.settings["ner"] == factor


@pytest.mark.parametrize(("place", "factor"), [(0, 0.0), (1, 0.01), (61, 10.0), (81, 100.0)])
def test_a_slid_dial_moves_a_factor_at_the_next_update(view, place, factor):
    view.dials["ner"].slider.value = place
    assert view.dials["ner"].box.value == f"{factor:g}"
    view.tuner.run()
    (move,) = view.tuner.moves
    assert (move.step, move.task, move.value) == (0, "ner", factor)
    assert view.table()["value"].tolist() == [factor]


def test_a_typed_number_is_a_move_and_a_typed_word_is_told(view):
    dial = view.dials["tagger"]
    dial.box.value = "-0.5"
    assert (view.tuner.settings["tagger"], dial.slider.value) == (-0.5, 0)
    dial.box.value = "0,7"
    assert "tagger: expected a number such as 0.5 or -1, got &#x27;0,7&#x27;" in view.status.value
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
    monkeypatch.setattr(view.tuner, "set", lambda *_: exec("raise ImportError('no torchjd')"))
    view.preset.value = "policy: upgrad"
    assert "Not set. ImportError: no torchjd" in view.status.value


def test_buttons_follow_the_state_and_the_training_can_be_started_again(view):
    buttons = [view.start_button, view.pause_button, view.stop_button, view.export_button]
    assert [b.disabled for b in buttons] == [False, True, True, True]
    view.start_button.click()
    view.pause_button.click()
    assert (view.tuner.state, view.start_button.description) == ("paused", "Resume")
    view.dials["ner"].box.value = "0.25"
    view.start_button.click()
    wait_for(lambda: view.tuner.history)
    view.stop_button.click()
    view.tuner.join(60)
    view.refresh()
    assert [b.disabled for b in buttons] == [False, True, True, False]
    assert view.start_button.description == "Restart"
    view.start_button.click()
    view.tuner.join(60)
    view.refresh()
    assert "<b>ended</b> · update 12 of 12" in view.status.value
    assert {step.factors[1] for step in view.tuner.log.steps} == {0.25}


def test_it_refreshes_on_the_kernels_loop_while_it_trains(view):
    async def session():
        view.start_button.click()
        while view.tuner.busy:
            await asyncio.sleep(0.02)  # the loop is free while training goes on
        await view._refreshing

    asyncio.run(session())
    assert view.progress.value == 12
    assert view.live.value.count("<circle") >= 9, "three tasks' scores at 5, 10 and 12"
    assert "<b>ended</b>" in view.status.value


def test_a_cell_that_waits_for_the_training_says_so(view, monkeypatch):
    said = []
    refresh = view.refresh
    monkeypatch.setattr(view, "refresh", lambda: (refresh(), said.append(view.status.value)))
    trained = view.finish([Move(4, "ner", 0.5)])
    assert "A cell waits for the end of this training" in said[0]
    assert "A cell waits" not in said[-1]
    assert trained is view.tuner.trained is view.finish()
    assert [move.step for move in view.tuner.moves] == [4]


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


def test_an_export_replays_to_equal_weights(view, corpus):
    view.dials["tagger"].box.value = "-0.25"
    view.tuner.run()
    view.refresh()
    view.export_button.click()
    assert "Exported." in view.status.value
    replayed = train(Config().from_disk(view.exports / "tuned.cfg"), corpus, progress=False)
    assert fingerprint(replayed.nlp) == fingerprint(view.tuner.trained.nlp)
    found = yaml.safe_load((view.exports / "tuned.yml").read_text())["tuned"]
    assert found["updates"] == 12
    assert found["factors"]["tagger"]["factors"] == [-0.25]


def test_an_exported_page_shows_the_figure(view):
    assert "not started" in view._repr_mimebundle_()["text/html"]
    view.tuner.run()
    bundle = view._repr_mimebundle_()
    assert bundle["image/png"].startswith("iVBORw0KGgo")
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "effective factor" in {axes.get_ylabel() for axes in view.figure().axes}


def test_charts_leave_out_what_is_not_known():
    svg = chart("cosine < 0", {"a·b": ([1, 2, 3], [float("nan"), 1.0, -1.0])}, 4)
    assert svg.count("<polyline") == 1
    assert "nan" not in svg
    assert "cosine &lt; 0" in svg
    assert "update 4" in svg


def test_charts_of_long_runs_stay_small():
    from trfnb.widgets.live import training_charts

    history = [{"step": n, "words": 9, "loss_ner": 1.0} for n in range(1, 10_001)]
    assert len(training_charts(history, [], ["ner"])) < 10_000


@pytest.mark.slow
def test_the_notebook_replays_an_export_to_equal_weights(tmp_path):
    # As the notebook builds it in a smoke run.
    data = corpora.load("newsroom", limit=60, dev_limit=20)
    config = build_config(
        ("tagger", "parser", "ner", "textcat"),
        max_steps=8,
        eval_frequency=8,
        patience=0,
        batch_words=200,
        lang=data.lang,
    )
    view = GradFactorTuner(config, data, exports=tmp_path)
    view.dials["parser"].box.value = "0.35"
    view.tuner.run()
    (tuned,) = view.tuner.export_parameters().values()
    notebook = nbformat.read(ROOT / "notebooks/02_grad_factor.ipynb", 4)
    (last,) = [n for n, cell in enumerate(notebook.cells) if "tuned_weights =" in cell.source]
    end = nbformat.v4.new_code_cell('record("tuned_weights", tuned_weights)')
    notebook.cells[last + 1 :] = [end]  # the sweep after it takes the most time
    nbformat.write(notebook, tmp_path / "tuned.ipynb")
    command = [
        sys.executable, "-m", "trfnb", "run", str(tmp_path / "tuned.ipynb"),
        "-p", "smoke", "true", "-p", "tuned", json.dumps(tuned),
        "--out", str(tmp_path / "out"), "--no-report", "--quiet",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert results["tuned_weights"].tolist() == [fingerprint(view.tuner.trained.nlp)]
