"""Execute the notebooks at full parameters and keep the copies that the site and GitHub show.

``python docs/execute.py`` brings the stale copies up to date: it runs their notebooks, or, where
prose alone has changed, renews the prose and keeps the outputs. ``python docs/execute.py NAME …``
runs the named notebooks whatever their copies are. At the end the findings that the copies
recorded are written into the README.
"""

import hashlib
import io
import os
import platform
import re
import sys
import tempfile
from base64 import b64decode, b64encode
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from PIL import Image

from trfnb.runs.results import MIME, recorded

ROOT = Path(__file__).parents[1]
COPIES = ROOT / "docs" / "notebooks"
README = ROOT / "README.md"
COMMAND = "make notebooks"
VERSIONS = ("trfnb", "spacy", "thinc", "torch", "transformers")
WIDGET = "application/vnd.jupyter.widget-view+json"
BEGIN, END = "<!-- notebooks -->", "<!-- /notebooks -->"
COLOURS, WIDTH = 64, 1200  # of a picture; more is not seen
SHORT = 12  # digits of a hash that a reader is shown


@dataclass(frozen=True)
class Entry:
    """A notebook as lists show it.

    Attributes:
        name: its file's stem.
        title: its first heading.
        question: its title, or the question it says on top, without a number.
        finding: the first sentence it recorded as its finding, and whether others warn of
            runs that were too short; empty without a copy.
        executed: whether there is a copy.
    """

    name: str
    title: str
    question: str
    finding: str
    executed: bool


def sources() -> list[Path]:
    """Return the notebooks in their order."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def source_hash(path: Path, *, code_only: bool = False) -> str:
    """Return a SHA-256 of what a notebook says: its cells and their tags.

    Args:
        path: the notebook.
        code_only: leave out prose, which changes no output.
    """
    content = [
        [cell.cell_type, cell.source, cell.metadata.get("tags", [])]
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code" or not code_only
    ]
    return hashlib.sha256(repr(content).encode("utf8")).hexdigest()


def stamp(path: Path) -> dict[str, Any]:
    """Return what the copy of a notebook says of itself: empty without a copy.

    The keys are ``source`` and ``code`` (hashes), ``seconds``, ``machine``, ``versions`` and
    ``recorded`` (the values that the notebook recorded, without its figures).
    """
    copy = COPIES / path.name
    return nbformat.read(copy, as_version=4).metadata.get("trfnb", {}) if copy.exists() else {}


def stale() -> list[Path]:
    """Return the notebooks whose executed copy is missing or was made from another source."""
    return [path for path in sources() if stamp(path).get("source") != source_hash(path)]


def update(path: Path) -> str:
    """Bring the copy of a notebook up to date; return what was done."""
    if stamp(path).get("code") == source_hash(path, code_only=True):
        old = nbformat.read(COPIES / path.name, as_version=4)
        ran = iter([cell for cell in old.cells if cell.cell_type == "code"])
        cells = nbformat.read(path, as_version=4).cells
        cells = [next(ran) if cell.cell_type == "code" else cell for cell in cells]
        _write(path, cells, old.metadata.trfnb | {"source": source_hash(path)})
        return "prose renewed"
    return execute(path)


def execute(path: Path) -> str:
    """Run a notebook at its own parameters and write its copy; return what was done.

    Raises:
        CellExecutionError: a cell failed; no copy is written.
        DeadKernelError: the kernel died; no copy is written.
    """
    begun = perf_counter()
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as scratch:
        client = NotebookClient(
            notebook,
            timeout=None,
            kernel_name="python3",
            resources={"metadata": {"path": str(path.parent)}},
            store_widget_state=False,
        )
        client.execute(env={**os.environ, "TMPDIR": scratch})
    seconds = round(perf_counter() - begun)
    neutral = partial(_neutral, scratch=scratch)
    values = recorded(notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_small(one, neutral) for one in cell.outputs if _shown(one)]
    about = {
        "source": source_hash(path),
        "code": source_hash(path, code_only=True),
        "seconds": seconds,
        "machine": f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in VERSIONS},
        "recorded": _each_text(values, neutral),
    }
    _write(path, notebook.cells, about)
    return "executed"


def _write(path: Path, cells: list[NotebookNode], about: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    note = nbformat.v4.new_markdown_cell(
        f"*An executed copy of `notebooks/{path.name}` (source {about['source'][:SHORT]}): "
        f"{about['seconds']:,} seconds on {about['machine']}; {versions}. "
        "`make lab` opens the notebook itself.*",
        id="executed-copy",
    )
    cells = [*cells[:1], note, *(cell for cell in cells[1:])]
    for cell in cells:
        cell.metadata = NotebookNode(tags=cell.metadata.get("tags", []))
    copy = nbformat.v4.new_notebook(cells=cells)
    copy.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
        trfnb=about,
    )
    COPIES.mkdir(exist_ok=True)
    nbformat.write(copy, COPIES / path.name)


def _shown(output: NotebookNode) -> bool:
    """Keep what a reader sees, once.

    Progress bars and warnings go to the error stream, a live widget needs a kernel, and recorded
    values are for programs. A recorded figure is shown where it is recorded.
    """
    if output.output_type == "stream":
        return bool(output.name == "stdout")
    data = output.get("data", {})
    if MIME in data:
        return False
    return WIDGET not in data or bool(set(data) - {WIDGET, "text/plain"})


def _small(output: NotebookNode, neutral: Any) -> NotebookNode:
    """Make an output's pictures small and its text the same on every machine."""
    if output.output_type == "stream":
        output.text = neutral(output.text)
    data = output.get("data", {})
    data.pop(WIDGET, None)
    for kind, value in data.items():
        if kind == "image/png":
            data[kind] = _quantised(value)
        elif kind == "text/html":
            pictures = r"(?<=data:image/png;base64,)[A-Za-z0-9+/=\s]+"
            parts = re.split(f"({pictures})", value)
            parts[1::2] = [_quantised(picture) for picture in parts[1::2]]
            parts[::2] = [neutral(text) for text in parts[::2]]
            data[kind] = "".join(parts)
        else:
            data[kind] = _each_text(value, neutral)
    return output


def _quantised(picture: str) -> str:
    image = Image.open(io.BytesIO(b64decode(picture))).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image.thumbnail((WIDTH, image.height))
    smaller = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(smaller, "PNG", optimize=True)
    return b64encode(smaller.getvalue()).decode("ascii")


def _each_text(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _each_text(one, change) for key, one in value.items()}
    return [_each_text(one, change) for one in value] if isinstance(value, list) else value


def _neutral(text: str, scratch: str) -> str:
    """Take this machine's folders, name and addresses in memory out of a text."""
    text = re.sub(re.escape(scratch) + r"(/tmp\w+)?", "scratch", text)
    for folder, name in ((sys.prefix, ".venv"), (str(ROOT), "."), (str(Path.home()), "~")):
        text = text.replace(f"{folder}/", f"{name}/").replace(folder, name)
    text = re.sub(rf"\b{re.escape(platform.node())}\b", "localhost", text)
    return re.sub(r"\b0x[0-9a-f]{6,}\b", "0x…", text)


def entry(path: Path) -> Entry:
    """Return a notebook's line in a list."""
    top = nbformat.read(path, as_version=4).cells[0].source
    title = re.search(r"^# (.+)$", top, re.M)[1].strip()
    asked = re.search(r"\*\*Question\.\*\* (.+?\?)", top, re.S)
    question = " ".join((asked[1] if asked else title).split())
    about = stamp(path)
    found = about.get("recorded", {}).get("finding", [])
    found = [found] if isinstance(found, str) else found
    told = [one for one in found if not re.match(r"\W*starved", one, re.I)]
    finding = told[0] if told else ""
    if finding and len(told) < len(found):
        finding += " (Some runs were starved.)"
    return Entry(path.stem, title, re.sub(r"^\d+ · ", "", question), finding, bool(about))


def with_findings(text: str) -> str:
    """Return the README's text with its list of notebooks renewed.

    Raises:
        ValueError: the text lacks the marks that the list stands between.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md: expected {BEGIN} and {END}, once each. Put them back.")
    rows = ["| notebook | finding |", "| --- | --- |"]
    for one in map(entry, sources()):
        folder = "docs/notebooks" if one.executed else "notebooks"
        said = (one.finding or f"*{one.question}*").replace("|", "\\|")
        rows.append(f"| [{one.name}]({folder}/{one.name}.ipynb) | {said} |")
    head, rest = text.split(BEGIN)
    return "\n".join([f"{head}{BEGIN}", *rows, f"{END}{rest.split(END)[1]}"])


def main() -> None:
    """Bring the copies asked for, or those that are stale, and the README up to date."""
    named = {name.removesuffix(".ipynb") for name in sys.argv[1:]}
    if unknown := named - {path.stem for path in sources()}:
        sys.exit(f"No notebook named {', '.join(sorted(unknown))} in notebooks/.")
    failed = []
    for path in [path for path in sources() if path.stem in named] if named else stale():
        print(f"{path.stem} …", flush=True)
        try:
            done = execute(path) if named else update(path)
        except (CellExecutionError, DeadKernelError) as error:
            failed.append(path.stem)
            print(error, file=sys.stderr, flush=True)
            continue
        size = (COPIES / path.name).stat().st_size / 1024
        print(f"  {done}, {stamp(path)['seconds']} s, {size:.0f} kB", flush=True)
    README.write_text(with_findings(README.read_text(encoding="utf8")), encoding="utf8")
    if failed:
        sys.exit(f"Failed, and their copies are as before: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
