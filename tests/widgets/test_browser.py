"""Widgets in JupyterLab, in a real browser: sliders dragged, buttons pressed, texts typed."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "papermill_runs" / "browser"  # ignored by git, and not cleared by pytest
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

TUNER = """
from trfnb import corpora
from trfnb.experiments.configs import build_config
from trfnb.widgets import GradFactorTuner
data = corpora.load("newsroom", limit=100, dev_limit=20)
config = build_config(("tagger", "ner", "textcat"), width=24, depth=1, embed_rows=200,
                      batch_words=60, max_steps=0, max_epochs=100000, patience=0,
                      eval_frequency=20)
config["components"]["tagger"]["model"]["tok2vec"]["grad_factor"] = 10.0
view = GradFactorTuner(config, data)
views = [*globals().get("views", []), view]
view
"""
SECOND = "views.append(GradFactorTuner(config, data))\nviews[-1]"
WRITE = """
import json
from trfnb.experiments.training import train
from trfnb.experiments.weights import fingerprint
for one in views:
    one.tuner.join()
json.dump([{
    "state": one.tuner.state,
    "moves": [[m.step, m.task, m.value] for m in one.tuner.moves],
    "last": dict(zip(one.tuner.log.steps[-1].listeners, one.tuner.log.steps[-1].factors)),
    "tuned": fingerprint(one.tuner.trained.nlp),
    "again": fingerprint(train(one.tuner.export_config(), data, progress=False).nlp),
} for one in views], open("found.json", "w"))
print("all is written")
"""
RUNTIME = """
import spacy
from transformers import AutoTokenizer
from trfnb.flow.wordpieces import encode
from trfnb.widgets import AlignmentExplorer, SpanStepper
nlp = spacy.blank("en")
nlp.add_pipe("trfnb_transformer", config={"model": {"name": MODEL}})
nlp.initialize()
def look(text):
    doc = nlp(text)
    return doc, doc._.trf_data.wordpieces.strings[0], doc._.trf_data.row_align
doc = nlp("the bank of the river plans a bank in paris")
spans = [doc[0:4], doc[3:7], doc[6:10]]
pieces = encode(AutoTokenizer.from_pretrained(MODEL), [span.text for span in spans])
stepper = SpanStepper(doc, spans, pieces)
explorer = AlignmentExplorer(look, "the bank")
display(stepper, explorer)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def lab(folder):
    """Serve a folder of notebooks; return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = folder / "home"
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
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    with (folder / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for_server(address, server, folder / "lab.log")
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


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def open_notebook(lab, folder, browser, request):
    """Write a notebook, open it at 900 pixels' width and return its page."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    pages = []

    def opened(*cells):
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(notebook, folder / f"{request.node.name}.ipynb")
        page = browser.new_page(viewport={"width": 900, "height": 1000})
        page.set_default_timeout(90_000)
        page.goto(f"{lab}/doc/tree/{request.node.name}.ipynb?reset")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.screenshot(path=SHOTS / f"{request.node.name}.png")
        page.close()


def run_cell(page, number):
    """Run a cell; a key that comes before the page or its kernel is ready is pressed again."""
    from playwright.sync_api import TimeoutError as TooLate

    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(number)
    prompt = cell.locator(".jp-InputPrompt")
    before = prompt.inner_text()
    begun = re.compile(r"\[(\*|\d+)\]")
    for _ in range(30):
        try:
            cell.locator(".jp-InputArea-editor").click(timeout=5_000)
            page.keyboard.press("Escape")
            page.keyboard.press("Shift+Enter")
            cell.locator(".jp-InputPrompt").filter(has_text=begun).filter(
                has_not_text=before
            ).wait_for(timeout=5_000)
        except TooLate:
            # A busy JupyterLab may ask for a kernel before it knows the default: take its offer.
            for button in page.locator(".jp-Dialog .jp-mod-accept").all():
                button.click()
            continue
        return
    pytest.fail("the cell did not begin to run")


def drag(page, dial, share):
    """Drag a dial's slider to a share of its length, in several moves of the mouse."""
    handle = dial.locator(".noUi-handle")
    handle.scroll_into_view_if_needed()
    track, knob = dial.locator(".noUi-base").bounding_box(), handle.bounding_box()
    y = knob["y"] + knob["height"] / 2
    page.mouse.move(knob["x"] + knob["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"] * share / 2, y, steps=5)
    page.mouse.move(track["x"] + track["width"] * share, y, steps=5)
    page.mouse.up()


def updates(view):
    return int(re.search(r"update (\d+)", view.inner_text())[1])


def wait_for_updates(page, index, number):
    page.wait_for_function(
        "([index, number]) => Number(document.querySelectorAll('.trfnb-grad-factor')[index]"
        ".innerText.match(/update (\\d+)/)[1]) >= number",
        arg=[index, number],
    )


def test_the_tuner_is_turned_restarted_and_doubled(open_notebook, folder):
    page = open_notebook(TUNER, SECOND, WRITE)
    run_cell(page, 0)
    view = page.locator(".trfnb-grad-factor").first
    dials = view.locator(".widget-hbox").filter(has=page.locator(".widget-slider"))
    tagger, ner, textcat = (dials.nth(i) for i in range(3))
    assert tagger.locator("input").input_value() == "10", "what the config starts with"
    view.get_by_role("button", name="Start").click()
    view.locator("img").wait_for()
    drag(page, textcat, 61 / 81)
    view.get_by_text("1 move(s), last: textcat → 10.0 after").wait_for()
    assert textcat.locator("input").input_value() == "10"
    ner.locator("input").fill("-0.5")
    ner.locator("input").press("Enter")
    view.get_by_text("2 move(s), last: ner → -0.5 after").wait_for()
    view.get_by_label("Preset").select_option("frozen for 50 updates, then up")
    view.get_by_text("5 move(s)").wait_for()
    wait_for_updates(page, 0, updates(view) + 110)
    view.get_by_label("Preset").select_option("policy: equal_norms")
    view.get_by_text("9 move(s)").wait_for()
    wait_for_updates(page, 0, updates(view) + 20)
    assert view.get_by_text("9 move(s)").count() == 1, "what the program shows is no move"
    view.screenshot(path=SHOTS / "tuner_running.png")
    overflow = "e => e.scrollWidth - e.clientWidth"
    assert view.evaluate(overflow) <= 0, "all is in sight at 900 pixels"
    view.get_by_role("button", name="Stop").click()
    view.get_by_role("button", name="Restart").click()
    view.get_by_text("4 move(s)").wait_for()
    wait_for_updates(page, 0, 3)

    run_cell(page, 0)  # ends the first view's training
    page.get_by_text("Press Start").wait_for()
    run_cell(page, 1)
    page.locator(".trfnb-grad-factor").nth(1).wait_for()
    both = [page.locator(".trfnb-grad-factor").nth(i) for i in range(2)]
    for one in both:
        one.get_by_role("button", name="Start").click()
    for i in (0, 1, 0):
        wait_for_updates(page, i, updates(both[i]) + 5)
    for one in both:
        one.get_by_role("button", name="Stop").click()
    run_cell(page, 2)
    page.get_by_text("all is written", exact=True).wait_for()
    first, second, third = json.loads((folder / "found.json").read_text())
    assert {one["state"] for one in (first, second, third)} == {"ended"}
    assert [task for _, task, _ in first["moves"]] == ["tagger", "ner", "textcat", "balance"]
    assert second["moves"] == third["moves"] == []
    assert second["last"] == {"tagger": 10.0, "ner": 1.0, "textcat": 1.0}
    for one in (first, second, third):
        assert one["again"] == one["tuned"], "the export trains to the same weights"

    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Restart Kernel…")).click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    both[0].get_by_text("The kernel of this view is gone").wait_for()


def test_spans_stepped_through_and_a_text_typed(open_notebook, tiny):
    page = open_notebook(RUNTIME.replace("MODEL", repr(tiny)))
    run_cell(page, 0)
    live = page.locator(".jupyter-widgets.widget-vbox")
    live.get_by_text("tokens 0 to 4 of 10").wait_for()
    page.locator(".widget-slider .noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    live.get_by_text("tokens 3 to 7 of 10").wait_for()
    live.get_by_text("2 tokens, 4 wordpieces").wait_for()
    tokens = live.locator("ruby")
    kept = page.get_by_text("tokens 3 to 7 of 10")
    assert [kept.nth(i).is_visible() for i in range(kept.count())].count(True) == 1
    assert tokens.count() == 2
    box = page.get_by_label("text", exact=True)
    box.fill("the bank of the river plans a bank in paris " * 3 + "and april meets")
    box.press("Enter")
    live.get_by_text("33 tokens, 37 wordpieces; 0 tokens without a wordpiece").wait_for()
    assert tokens.count() == 33
    boxes = [tokens.nth(i).bounding_box() for i in range(33)]
    assert max(box["x"] + box["width"] for box in boxes) < 900, "lines are broken"
    box.fill("")
    box.press("Enter")
    live.get_by_text("Type a text, then press Enter.").wait_for()
