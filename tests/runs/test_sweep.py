"""A sweep whose parent is killed or interrupted, and called again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trfnb
from trfnb.runs.execute import marked

NOTEBOOK = """import time, trfnb
time.sleep(0.5)
trfnb.record("score", float(seed))"""


DEAF = """import time
while True:
    try:
        time.sleep(30)
    except BaseException:
        pass"""


def start(file: Path, *options: str) -> "subprocess.Popen[bytes]":
    source = str(Path(trfnb.__file__).parents[1])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "trfnb", "sweep", str(file), "--no-report", *options]
    return subprocess.Popen(
        command,
        cwd=file.parent,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def statuses(folder: Path) -> dict[str, dict[str, object]]:
    found = {}
    for path in folder.glob("runs/*/status.json"):
        found[path.parent.name] = json.loads(path.read_text())  # whole at every moment
    return found


def survive(make_notebook, home: Path, runs: int, kills: int, seed: int) -> None:
    make_notebook(NOTEBOOK)
    file = home / "night.yml"
    file.write_text(f"notebook: tiny.ipynb\nseeds: {runs}\njobs: 2\n")
    folder, source = home / "papermill_runs" / "night", random.Random(seed)
    for _ in range(kills):
        before = statuses(folder)
        sweep = start(file)
        time.sleep(source.uniform(0.3, 5.0))
        sweep.send_signal(signal.SIGKILL)
        sweep.wait()
        died = time.time()
        while marked(folder):
            assert time.time() - died < 60, "orphans"
            time.sleep(0.05)
        after = statuses(folder)
        for name, status in before.items():
            if status["state"] == "done":
                assert after[name] == status, "a run that was done was touched again"
    sweep = start(file)
    output = sweep.communicate()[0].decode()
    assert sweep.returncode == 0, output
    assert not marked(folder)
    final = statuses(folder)
    assert len(final) == runs
    assert {str(s["state"]) for s in final.values()} == {"done"}
    assert sorted(s["metrics"]["score"] for s in final.values()) == list(range(runs))
    rows = (folder / "results.csv").read_text().splitlines()
    assert len(rows) == runs + 1


@pytest.mark.slow
def test_three_killings_lose_and_double_nothing(make_notebook, tmp_path: Path) -> None:
    survive(make_notebook, tmp_path, runs=5, kills=3, seed=0)


def test_ctrl_c_stops_cleanly_and_a_lock_keeps_others_out(make_notebook, tmp_path) -> None:
    make_notebook("import time, trfnb\ntrfnb.record('begun', 1)", "time.sleep(600 * (seed == 1))")
    file = tmp_path / "night.yml"
    file.write_text("notebook: tiny.ipynb\nseeds: 2\njobs: 2\n")
    folder = tmp_path / "papermill_runs" / "night"
    sweep = start(file)
    wait_for(lambda: any(s["state"] == "done" for s in statuses(folder).values()))
    wait_for(lambda: any(s["cell"] == 4 and not s["ended"] for s in statuses(folder).values()))
    second = start(file)
    refused = second.communicate(timeout=240)[0].decode()
    assert second.returncode == 2
    assert f"process {sweep.pid}" in refused
    assert "--out" in refused
    sweep.send_signal(signal.SIGINT)
    output = sweep.communicate(timeout=240)[0].decode()
    assert sweep.returncode == 130, output
    assert "resumes what is missing" in output
    (stopped,) = [s for s in statuses(folder).values() if s["state"] != "done"]
    assert stopped["state"] == "killed"
    assert "interrupted" in str(stopped["cause"])
    assert stopped["metrics"] == {"begun": 1}
    assert (folder / "runs" / str(stopped["run"]) / "notebook.ipynb").exists()
    assert not marked(folder)


def test_a_second_ctrl_c_stops_at_once(make_notebook, tmp_path: Path) -> None:
    make_notebook(DEAF)
    file = tmp_path / "night.yml"
    file.write_text("notebook: tiny.ipynb\n")
    folder = tmp_path / "papermill_runs" / "night"
    sweep = start(file)
    wait_for(lambda: any(s["cell"] == 2 for s in statuses(folder).values()))
    sweep.send_signal(signal.SIGINT)
    time.sleep(0.5)
    sweep.send_signal(signal.SIGINT)
    wait_for(lambda: not marked(folder))
    sweep.communicate(timeout=240)
    assert {s["state"] for s in statuses(folder).values()} == {"killed"}


def wait_for(holds, seconds: float = 240.0) -> None:
    end = time.time() + seconds
    while not holds():
        assert time.time() < end, "waited too long"
        time.sleep(0.05)
