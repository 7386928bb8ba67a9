"""Execute the notebooks at full parameters and keep the copies that the site and GitHub show.

``python docs/execute.py [NAME …]`` runs the named notebooks, or those whose copy is stale.
Each copy is stamped with a hash of its source, the versions and the time it took.
"""

import hashlib
import io
import os
import platform
import sys
import tempfile
from base64 import b64decode, b64encode
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import nbformat
import papermill
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("*.ipynb"))
COPIES = ROOT / "docs" / "notebooks"
VERSIONS = ("trfnb", "spacy", "thinc", "torch", "transformers")
WIDGET = "application/vnd.jupyter.widget-view+json"
COLOURS = 128


def source_hash(path: Path) -> str:
    """Return a SHA-256 of what a notebook says: its cells and their tags."""
    notebook = nbformat.read(path, as_version=4)
    content = [
        [cell.cell_type, cell.source, cell.metadata.get("tags", [])] for cell in notebook.cells
    ]
    return hashlib.sha256(repr(content).encode("utf8")).hexdigest()


def stale() -> list[Path]:
    """Return the notebooks whose executed copy is missing or was made from another source."""
    return [path for path in SOURCES if _stamp(COPIES / path.name) != source_hash(path)]


def _stamp(copy: Path) -> str | None:
    if not copy.exists():
        return None
    return nbformat.read(copy, as_version=4).metadata.get("trfnb", {}).get("source")


def execute(path: Path) -> Path:
    """Run a notebook at its own parameters and write its copy.

    Raises:
        papermill.PapermillExecutionError: a cell failed; no copy is written.
    """
    begun = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        notebook = papermill.execute_notebook(
            str(path), str(Path(folder) / path.name), cwd=str(path.parent), progress_bar=False
        )
    copy = nbformat.v4.new_notebook(cells=[_readable(cell) for cell in notebook.cells])
    copy.metadata = NotebookNode(
        kernelspec=notebook.metadata.kernelspec,
        language_info={"name": "python"},
        trfnb={
            "source": source_hash(path),
            "seconds": round(perf_counter() - begun),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: version(name) for name in VERSIONS},
        },
    )
    COPIES.mkdir(exist_ok=True)
    nbformat.write(copy, COPIES / path.name)
    return COPIES / path.name


def _readable(cell: NotebookNode) -> NotebookNode:
    """Drop what only a live notebook can show, and make pictures small."""
    cell.metadata = NotebookNode(tags=cell.metadata.get("tags", []))
    if cell.cell_type == "code":
        cell.outputs = [_small(one) for one in cell.outputs if _shown(one)]
    return cell


def _shown(output: NotebookNode) -> bool:
    """Keep what a reader sees; progress bars are written to the error stream."""
    if output.output_type == "stream":
        return bool(output.name == "stdout")
    data = output.get("data", {})
    return (bool(data) and set(data) - {WIDGET, "text/plain"} != set()) or WIDGET not in data


def _small(output: NotebookNode) -> NotebookNode:
    data = output.get("data", {})
    data.pop(WIDGET, None)
    if "image/png" in data:
        picture = Image.open(io.BytesIO(b64decode(data["image/png"]))).convert("RGB")
        smaller = io.BytesIO()
        picture.quantize(COLOURS).save(smaller, "PNG", optimize=True)
        data["image/png"] = b64encode(smaller.getvalue()).decode("ascii")
    return output


def main() -> None:
    """Execute the notebooks asked for, or those that are stale."""
    named = {name.removesuffix(".ipynb") for name in sys.argv[1:]}
    if unknown := named - {path.stem for path in SOURCES}:
        sys.exit(f"No notebook named {', '.join(sorted(unknown))} in {SOURCES[0].parent.name}/.")
    chosen = [path for path in SOURCES if path.stem in named] if named else stale()
    for path in chosen:
        print(f"{path.stem} …", flush=True)
        copy = execute(path)
        print(f"{copy.relative_to(ROOT)}: {copy.stat().st_size / 1024:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
