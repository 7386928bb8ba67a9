"""Every sweep of the project fits its notebook, and its smoke parameters run."""

from pathlib import Path

import pytest

from trfnb.cli import main
from trfnb.runs.specification import Sweep, expand, load_sweep
from trfnb.runs.sweep import run_sweep

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "notebooks" / "sweeps").glob("*.yml"))
# Two sweeps of one notebook have the same smoke run.
SMOKE = {load_sweep(path).notebook.resolve(): path for path in reversed(SWEEPS)}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_its_parameters_are_the_notebooks(path: Path) -> None:
    assert expand(load_sweep(path))
    assert expand(load_sweep(path), smoke=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in NOTEBOOKS if path not in SMOKE], ids=lambda p: p.stem
)
def test_a_notebook_without_a_sweep_runs(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    sweep = Sweep(path, runs=[{"smoke": True}], threads=1)
    assert run_sweep(sweep, out=tmp_path / "run").complete


@pytest.mark.slow
@pytest.mark.parametrize("path", SMOKE.values(), ids=lambda path: path.stem)
def test_its_smoke_run_ends_well(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    out = tmp_path / path.stem
    assert main(["sweep", str(path), "--smoke", "--check", "--jobs", "2", "--out", str(out)]) == 0
    assert (out / "report.html").exists()
    # A sweep that asks a question keeps the pipeline that won.
    assert (out / "winner" / "config.cfg").exists() == (load_sweep(path).answer is not None)
