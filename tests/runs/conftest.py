"""Notebooks of a few lines, and sweeps of them in a folder of their own."""

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

MakeNotebook = Callable[..., Path]

TINY = """from typing import Literal

seed: int = 0  # of everything
rate: float = 0.1
mode: Literal["a", "b"] = "a"
corpus: str = "newsroom"
smoke: bool = False"""


def write_notebook(path: Path, parameters: str, *cells: str) -> Path:
    notebook = nbformat.v4.new_notebook(metadata={"language_info": {"name": "python"}})
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook.cells = [first, *(nbformat.v4.new_code_cell(source) for source in cells)]
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def make_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeNotebook:
    monkeypatch.chdir(tmp_path)

    def make(*cells: str, parameters: str = TINY, name: str = "tiny.ipynb") -> Path:
        return write_notebook(tmp_path / name, parameters, *cells)

    return make


@pytest.fixture
def tiny(make_notebook: MakeNotebook) -> Path:
    return make_notebook('import trfnb\ntrfnb.record("score", rate * (seed + 1))')
