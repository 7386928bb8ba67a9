"""Every sweep of the project fits its notebook, and its smoke parameters run."""

from pathlib import Path

import pytest

from trfnb.cli import main
from trfnb.runs.specification import expand, load_sweep

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "notebooks" / "sweeps").glob("*.yml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_its_parameters_are_the_notebooks(path: Path) -> None:
    assert expand(load_sweep(path))
    assert expand(load_sweep(path), smoke=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_its_smoke_run_ends_well(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    out = tmp_path / path.stem
    assert main(["sweep", str(path), "--smoke", "--check", "--jobs", "2", "--out", str(out)]) == 0
    assert (out / "report.html").exists()
