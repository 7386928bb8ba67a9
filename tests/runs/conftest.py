"""Notebooks of a few lines, in a folder of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from runs.small_notebooks import TINY, write_notebook

MakeNotebook = Callable[..., Path]


@pytest.fixture
def make_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeNotebook:
    monkeypatch.chdir(tmp_path)

    def make(*cells: str, parameters: str = TINY, name: str = "tiny.ipynb") -> Path:
        return write_notebook(tmp_path / name, parameters, *cells)

    return make


@pytest.fixture
def tiny(make_notebook: MakeNotebook) -> Path:
    return make_notebook('import trfnb\ntrfnb.record("score", rate * (seed + 1))')
