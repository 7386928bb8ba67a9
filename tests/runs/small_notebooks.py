"""Notebooks of a few lines."""

from pathlib import Path

import nbformat

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
