"""Widgets in JupyterLab, in a real browser: sliders moved, buttons pressed, a text typed."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(CHROMIUM).exists(), reason="needs Debian's chromium: apt-get install chromium"
    ),
]

CELLS = [
    """
from trfnb import corpora
from trfnb.experiments.pipelines import build_config
from trfnb.widgets import GradFactorTuner
data = corpora.load("newsroom", limit=100, dev_limit=20)
config = build_config(("tagger", "ner"), width=24, depth=1, embed_rows=200, batch_words=60,
                      max_steps=0, max_epochs=100000, patience=0, eval_frequency=20)
view = GradFactorTuner(config, data)
view
""",
    """
import json
from trfnb.experiments.training import train
from trfnb.experiments.weights import fingerprint
view.tuner.join()
again = train(view.tuner.export_config(), data, progress=False)
table = view.tuner.log.table()
json.dump({
    "state": view.tuner.state,
    "moves": [[m.step, m.task, m.value] for m in view.tuner.moves],
    "factors": {name: list(rows["factor"]) for name, rows in table.groupby("listener")},
    "tuned": fingerprint(view.tuner.trained.nlp), "again": fingerprint(again.nlp),
}, open("found.json", "w"))
print("all is written")
""",
]
RUNTIME = """
import spacy
from trfnb.flow.spans import StridedSpans
from trfnb.widgets import AlignmentExplorer, SpanStepper
nlp = spacy.blank("en")
nlp.add_pipe("trfnb_transformer", config={"model": {"name": MODEL}})
nlp.initialize()
def look(text):
    doc = nlp(text)
    return doc, doc._.trf_data.wordpieces.strings[0], doc._.trf_data.align
doc = nlp("the bank of the river plans a bank in paris")
stepper = SpanStepper(doc, StridedSpans(4, 3)([doc])[0])
explorer = AlignmentExplorer(look, "the bank")
display(stepper, explorer)
"""


def write(path, *cells):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, path)


@pytest.fixture
def lab(tmp_path):
    """Serve a folder of notebooks; return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path / "home"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }
    command = [
        sys.executable, "-m", "jupyter", "lab", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--allow-root", "--no-browser",
        "--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for_server(address, server, tmp_path / "lab.log")
            yield address
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(5)


def _wait_for_server(address, server, log):
    end = time.monotonic() + 90
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/api/status", timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def run_cell(page, number):
    """Run a cell; a key that comes before the page or its kernel is ready is pressed again."""
    from playwright.sync_api import TimeoutError as TooLate

    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(number)
    begun = cell.locator(".jp-InputPrompt").filter(has_text=re.compile(r"\[(\*|\d+)\]"))
    for _ in range(12):
        cell.click()
        page.keyboard.press("Escape")
        page.keyboard.press("Shift+Enter")
        try:
            begun.wait_for(timeout=5_000)
        except TooLate:
            continue
        return
    page.screenshot(path=ROOT / "papermill_runs" / "browser" / "not_begun.png")
    pytest.fail("the cell did not begin to run")


@contextmanager
def opened(address):
    """Open a notebook, run its first cell and yield the page."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.set_default_timeout(90_000)
        page.goto(address)
        run_cell(page, 0)
        yield page
        browser.close()


@pytest.fixture
def keep():
    """Return where screenshots stay: ignored by git, and not cleared by pytest."""
    folder = ROOT / "papermill_runs" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_spans_stepped_through_and_a_text_typed(lab, tmp_path, tiny, keep):
    write(tmp_path / "runtime.ipynb", RUNTIME.replace("MODEL", repr(tiny)))
    with opened(f"{lab}/lab/tree/runtime.ipynb?reset") as page:
        page.get_by_text("tokens 0 to 4 of 10").wait_for()
        page.locator(".widget-slider .noUi-handle").focus()
        page.keyboard.press("ArrowRight")
        page.get_by_text("tokens 3 to 7 of 10").wait_for()
        page.get_by_text("2 tokens, 4 wordpieces").wait_for()
        before = page.locator(".widget-image").get_attribute("src")
        box = page.get_by_label("text", exact=True)
        box.fill("unable paris meets")
        box.press("Enter")
        page.get_by_text("3 tokens, 6 wordpieces; 0 tokens without a wordpiece").wait_for()
        page.wait_for_function(
            "before => document.querySelector('.widget-image').src !== before", arg=before
        )
        page.screenshot(path=keep / "runtime.png")


def test_a_slider_moved_during_training(lab, tmp_path, keep):
    write(tmp_path / "tuner.ipynb", *CELLS)
    with opened(f"{lab}/lab/tree/tuner.ipynb?reset") as page:
        view = page.locator(".trfnb-grad-factor")
        view.get_by_role("button", name="Start").click()
        status = view.get_by_text("running")
        status.wait_for()
        # The charts come by themselves, while the training goes on.
        view.locator("svg polyline").first.wait_for()
        handle = view.locator(".widget-slider").nth(1).locator(".noUi-handle")
        handle.focus()
        for _ in range(6):
            page.keyboard.press("ArrowLeft")
        view.get_by_text("ner → 0.7 after").wait_for()
        made = int(re.search(r"update (\d+) ·", view.inner_text())[1])
        page.wait_for_function(
            "made => Number(document.querySelector('.trfnb-grad-factor').innerText"
            ".match(/· update (\\d+)/)[1]) > made + 5",
            arg=made,
        )
        page.screenshot(path=keep / "grad_factor_tuner.png")
        view.get_by_role("button", name="Stop").click()
        view.get_by_text("ended").wait_for()
        run_cell(page, 1)
        page.get_by_text("all is written", exact=True).wait_for()
        page.screenshot(path=keep / "grad_factor_tuner_ended.png")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["state"] == "ended"
    steps, tasks, values = zip(*found["moves"], strict=True)
    assert set(tasks) == {"ner"}
    # A browser may leave out values that it could not send before the next.
    assert values[-1] == 0.7
    assert list(values) == sorted(values, reverse=True)
    assert steps[0] > 0, "moved during the training, not before it"
    factors = found["factors"]["ner"]
    assert factors[: steps[0]] == [1.0] * steps[0]
    assert factors[steps[0]] < 1.0, "it acts at the next update"
    assert factors[steps[-1] :] == [values[-1]] * (len(factors) - steps[-1])
    assert len(factors) > steps[-1] + 5
    assert set(found["factors"]["tagger"]) == {1.0}
    assert found["again"] == found["tuned"], "the export trains to the same weights"
    assert (keep / "grad_factor_tuner.png").stat().st_size > 10_000
