"""Record the tuner of notebook 02 in a real browser, as ``docs/figures/tuner.gif``.

``python docs/record_tuner.py [FILE]`` opens the cells that make the tuner in JupyterLab, runs them,
presses Start, drags one dial, types a number into another, takes a preset, and makes an animated
picture of what was on the screen. It needs Chromium, and takes about two minutes.
"""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "02_grad_factor.ipynb"
TARGET = ROOT / "docs" / "figures" / "tuner.gif"
# A training that lasts longer than the recording.
PARAMETERS = {"updates": 320, "limit": 400, "dev_limit": 40, "encoder": "tok2vec"}
VIEW = ".trfnb-grad-factor"
WIDTH, COLOURS, PAUSE = 760, 96, 0.2
PATIENCE = 400  # seconds
LONGEST, LAST = 250, 2500  # milliseconds that a frame is shown: a time-lapse
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
LAB = ["--ip=127.0.0.1", "--IdentityProvider.token=", "--allow-root", "--no-browser",
       "--ServerApp.port_retries=0", "--LabApp.news_url=None",
       "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
# A screenshot has no mouse pointer: this one follows the real events.
POINTER = """
const dot = document.createElement('div');
dot.style.cssText = 'position:fixed;z-index:99999;width:18px;height:18px;margin:-9px 0 0 -9px;'
  + 'border-radius:50%;background:rgba(214,39,40,.55);border:2px solid #fff;pointer-events:none';
document.body.append(dot);
for (const kind of ['mousemove', 'mousedown', 'mouseup', 'pointermove']) {
  document.addEventListener(kind, e => {
    dot.style.left = e.clientX + 'px';
    dot.style.top = e.clientY + 'px';
    dot.style.transform = e.buttons ? 'scale(.7)' : '';
  }, true);
}
"""


class Recorder:
    """Takes frames of one part of a page, each with the time it was seen."""

    def __init__(self, page: Page, part: Locator) -> None:
        self.page, self.part = page, part
        self.frames: list[tuple[float, Image.Image]] = []

    def shoot(self) -> None:
        """Take a frame."""
        seen = self.part.screenshot(animations="allow")
        self.frames.append((time.monotonic(), Image.open(io.BytesIO(seen)).convert("RGB")))

    def watch(self, updates: int) -> None:
        """Take frames until the training has made some more updates."""
        until = self.made() + updates
        end = time.monotonic() + PATIENCE
        while self.made() < until and time.monotonic() < end:
            self.shoot()
            time.sleep(PAUSE)
        self.shoot()

    def made(self) -> int:
        """Return how many updates the view shows as made."""
        found = re.search(r"update (\d+)", self.part.inner_text())
        return int(found[1]) if found else 0

    def move(self, x: float, y: float, steps: int = 8) -> None:
        """Move the mouse in some steps, a frame each."""
        for _ in self._steps(x, y, steps):
            self.shoot()

    def _steps(self, x: float, y: float, steps: int) -> Iterator[None]:
        here = getattr(self, "_here", (x - 60, y + 60))
        for step in range(1, steps + 1):
            share = step / steps
            self._here = tuple(a + (b - a) * share for a, b in zip(here, (x, y), strict=True))
            self.page.mouse.move(*self._here)
            yield

    def click(self, target: Locator) -> None:
        """Move to an element and click it."""
        self.move(*_middle(target))
        self.page.mouse.down()
        self.shoot()
        self.page.mouse.up()

    def save(self, path: Path) -> None:
        """Write the frames as one animated picture, equal ones as one."""
        width, height = (
            max(sizes) for sizes in zip(*(f.size for _, f in self.frames), strict=True)
        )
        size = (WIDTH, round(height * WIDTH / width))
        pages, shown = [], []
        times = [at for at, _ in self.frames]
        for (at, frame), after in zip(self.frames, [*times[1:], times[-1]], strict=True):
            page = Image.new("RGB", (width, height), "white")
            page.paste(frame)
            page = page.resize(size, Image.Resampling.LANCZOS)
            if not pages or page.tobytes() != pages[-1].tobytes():
                pages.append(page)
                shown.append(min(int((after - at) * 1000), LONGEST))
        shown[-1] = LAST
        # One palette for all frames, so that what stays is stored once.
        some = pages[:: max(1, len(pages) // 6)]
        sheet = Image.new("RGB", (size[0], size[1] * len(some)))
        for place, page in enumerate(some):
            sheet.paste(page, (0, place * size[1]))
        palette = sheet.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)
        pages = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
        path.parent.mkdir(parents=True, exist_ok=True)
        pages[0].save(path, save_all=True, append_images=pages[1:], duration=shown, loop=0,
                      optimize=True)  # fmt: skip


def cells_of_the_tuner() -> nbformat.NotebookNode:
    """Return of notebook 02 what the tuner needs, with parameters for a recording.

    These are the code cells up to the one after the parameters (imports, corpus, options), and the
    one that makes the tuner.
    """
    notebook = parameterize_notebook(load_notebook_node(str(NOTEBOOK)), PARAMETERS)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (injected,) = [i for i, c in enumerate(code) if "injected-parameters" in c.metadata.tags]
    (tuner,) = [cell for cell in code if "GradFactorTuner(" in cell.source]
    notebook.cells = [*code[: injected + 2], tuner]
    return notebook


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """Serve a folder in JupyterLab; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = {name: str(folder / "home" / name) for name in
            ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_SETTINGS_DIR",
             "JUPYTERLAB_WORKSPACES_DIR")}  # fmt: skip
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "jupyter", "lab", f"--port={port}", *LAB]
    with (folder / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=os.environ | home | {"PYTHONPATH": path},
                                  stdout=log, stderr=subprocess.STDOUT)  # fmt: skip
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/status", server, folder / "lab.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def _wait_for(address: str, server: Any, log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    sys.exit(f"JupyterLab did not start. Its log ends with:\n{log.read_text()[-2000:]}")


def run_all(page: Page) -> None:
    """Run all cells; a command that comes before the kernel is ready is lost, and given again."""
    page.get_by_text("| Idle").wait_for()
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not prompts.filter(has_text=re.compile(r"\d")).count():
        if not prompts.filter(has_text="*").count():
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(2000)


def _middle(target: Locator) -> tuple[float, float]:
    box = target.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def act(page: Page, view: Locator) -> Recorder:
    """Do with the tuner what a person does, and record it."""
    film = Recorder(page, view)
    dials = view.locator(".widget-hbox").filter(has=page.locator(".widget-slider"))
    textcat, ner = (dials.filter(has_text=name).first for name in ("textcat", "ner"))
    film.shoot()
    film.click(view.get_by_role("button", name="Start"))
    view.locator("img").wait_for()
    film.watch(25)
    film.move(*_middle(textcat.locator(".noUi-handle")))
    track = textcat.locator(".noUi-base").bounding_box()
    page.mouse.down()
    film.move(track["x"] + track["width"] * 61 / 81, track["y"] + track["height"] / 2, steps=12)
    page.mouse.up()
    view.get_by_text("last: textcat → 10").wait_for()
    film.watch(25)
    box = ner.locator("input")
    film.click(box)
    box.select_text()
    for letter in "-0.5":
        page.keyboard.type(letter)
        film.shoot()
    page.keyboard.press("Enter")
    view.get_by_text("last: ner → -0.5").wait_for()
    film.watch(25)
    preset = view.get_by_label("Preset")
    film.move(*_middle(preset))
    preset.select_option("policy: equal_norms")
    view.get_by_text("set by equal_norms").first.wait_for()
    film.watch(35)
    return film


def main() -> None:
    """Make the recording."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    with tempfile.TemporaryDirectory() as name, jupyterlab(Path(name)) as address:
        nbformat.write(cells_of_the_tuner(), Path(name) / NOTEBOOK.name)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            page = browser.new_page(viewport={"width": 1000, "height": 1400})
            page.set_default_timeout(PATIENCE * 1000)
            page.goto(f"{address}/doc/tree/{NOTEBOOK.name}?reset")
            page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
            run_all(page)
            view = page.locator(VIEW)
            view.get_by_text("Press Start").wait_for()
            news = page.get_by_role("button", name="No", exact=True)
            if news.count():
                news.click()
            view.scroll_into_view_if_needed()
            page.evaluate(POINTER)
            act(page, view).save(target)
            browser.close()
    print(f"{target}: {target.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main()
