"""Where things run: what is asked for, what is there, and what a run's results say of it."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from thinc.api import get_current_ops

from trfnb import device, results, use_device
from trfnb.cli import main
from trfnb.runs.execute import processor

CELLS = [
    "from trfnb import use_device; use_device(); use_device()",
    "shell = get_ipython()\n"
    "held = [one for one in shell.events.callbacks['pre_run_cell'] if 'use_device' in "
    "one.__qualname__]\n"
    "assert len(held) == 1, held",
]


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "CPU", "cuda:one"])
def test_what_is_no_device_is_refused(asked):
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:1"):
        use_device(asked)


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch):
    monkeypatch.delenv("TRFNB_DEVICE", raising=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told():
    with pytest.raises(ValueError, match=r"'cuda': torch .* sees no CUDA device\. See"):
        use_device("cuda")
    assert use_device() == "cpu"
    assert get_current_ops().name == "numpy"


def test_a_gpu_that_torch_alone_sees_is_told_and_not_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(device, "has_cupy_gpu", False)
    with pytest.warns(UserWarning, match=r"On the CPU.*pip install 'trfnb\[gpu"):
        assert use_device() == "cpu"
    with pytest.raises(ValueError, match=r"cupy for CUDA \d+ is missing or does not work"):
        use_device("cuda")


def test_the_environment_decides_where_nothing_is_asked(monkeypatch):
    monkeypatch.setenv("TRFNB_DEVICE", "nonsense")
    with pytest.raises(ValueError, match="got 'nonsense'"):
        use_device()
    assert use_device("cpu") == "cpu"


def test_a_run_says_where_it_ran(tmp_path: Path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in CELLS])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    command = ["run", str(tmp_path / "a.ipynb"), "--out", str(tmp_path / "out")]
    assert main([*command, "--device", "cpu"]) == 0
    assert results(tmp_path / "out")["device"].iloc[0] == processor()


def test_a_devices_name_is_checked_before_anything_runs(tmp_path: Path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    command = [sys.executable, "-m", "trfnb", "run", str(tmp_path / "a.ipynb"), "--device", "tpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "`device`: expected auto, cpu, cuda or cuda:1 and so on, got 'tpu'." in done.stderr
    assert not (tmp_path / "papermill_runs").exists()


def test_a_pipelines_core_has_it():
    line = "import sys; sys.modules['psutil'] = None; import trfnb; print(trfnb.use_device('cpu'))"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "cpu"
