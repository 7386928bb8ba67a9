"""Each engine runs the same sweep; what it loses is run elsewhere."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from trfnb.runs.engines import cores, make_engine
from trfnb.runs.execute import marked
from trfnb.runs.ledger import Ledger, State
from trfnb.runs.specification import Sweep
from trfnb.runs.sweep import run_sweep

REPORTS = """import os, trfnb
trfnb.record("score", float(seed))
trfnb.record("OMP_NUM_THREADS", os.environ["OMP_NUM_THREADS"])"""
SLURM_HERE = {"name": "slurm", "cluster": "local"}


def test_an_engine_that_is_not_here_is_told(monkeypatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="expected `srun` on this machine, found none"):
        make_engine(Sweep("x.ipynb", engine="slurm"))
    assert make_engine(Sweep("x.ipynb", jobs=2)).threads == max(1, cores() // 2)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ImportError, match=r"run `pip install 'trfnb\[slurm\]'`"):
        make_engine(Sweep("x.ipynb", engine=SLURM_HERE))


def test_slurm_engine_on_local_processes(make_notebook) -> None:
    pytest.importorskip("submitit")
    die = "\nimport psutil\nfor p in psutil.Process().parents()[:2] * (seed == 1):\n    p.kill()"
    sweep = Sweep(make_notebook(REPORTS, die), seeds=2, jobs=2, threads=3, engine=SLURM_HERE)
    done, died = run_sweep(sweep).statuses
    assert (done.state, done.metrics["score"]) == (State.DONE, 0)
    assert (done.metrics["OMP_NUM_THREADS"], done.environment["threads"]) == ("3", 3)
    assert died.state is State.KILLED  # its executor and Slurm's task are gone
    assert "Slurm job" in died.cause


@pytest.fixture
def ray_cluster():
    """Two nodes of two CPUs on this machine; yields the cluster and its second node."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    second = cluster.add_node(num_cpus=2)
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    environment = {"env_vars": {"PYTHONPATH": path}}
    ray.init(address=cluster.address, log_to_driver=False, runtime_env=environment)
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


def once_running(folder: Path, count: int, act: Callable[[], object]) -> threading.Thread:
    """Start a thread that acts as soon as so many runs of a sweep are under way."""

    def watch() -> None:
        until = time.monotonic() + 200
        while sum(s.state is State.RUNNING for s in Ledger(folder).statuses()) < count:
            assert time.monotonic() < until, f"{count} runs were never under way at once"
            time.sleep(0.1)
        act()

    watcher = threading.Thread(target=watch)
    watcher.start()
    return watcher


@pytest.mark.slow
def test_ray_loses_a_node_and_is_cancelled(make_notebook, tmp_path: Path, ray_cluster) -> None:
    cluster, second = ray_cluster
    work = "import time, trfnb\ntime.sleep(5)\ntrfnb.record('score', float(seed))"
    sweep = Sweep(make_notebook(work), seeds=8, jobs=4, engine="ray")
    # A node has two CPUs: of three runs one at least is on the second.
    killer = once_running(
        tmp_path / "lost", 3, lambda: cluster.remove_node(second, allow_graceful=False)
    )
    outcome = run_sweep(sweep, out=tmp_path / "lost")
    killer.join()
    assert [s.state for s in outcome.statuses] == [State.DONE] * 8
    assert [s.metrics["score"] for s in outcome.statuses] == list(range(8))
    again = max(s.attempt for s in outcome.statuses)
    assert again == 2, "no run was under way on the node when it was killed"

    waits = "import os, pathlib, time\npathlib.Path('kernel').write_text(str(os.getpid()))\n"
    sweep = Sweep(make_notebook(waits + "time.sleep(600)"), jobs=1, engine="ray")

    def interrupt() -> None:
        while not Path("kernel").exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    killer = once_running(tmp_path / "cancelled", 1, interrupt)
    outcome = run_sweep(sweep, out=tmp_path / "cancelled")
    killer.join()
    assert outcome.interrupted
    assert [s.state for s in outcome.statuses] == [State.KILLED]
    assert not psutil.pid_exists(int(Path("kernel").read_text())), "the kernel outlived its sweep"


@pytest.mark.slow
def test_a_killed_ray_sweep_leaves_no_process(make_notebook, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    leaves = "import subprocess, time\nsubprocess.Popen(['setsid', 'sleep', '600'])\n"
    make_notebook(leaves + "open('begun', 'w').close()\ntime.sleep(600)")
    (tmp_path / "x.yml").write_text("notebook: tiny.ipynb\nengine: ray\njobs: 1\n")
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "trfnb", "sweep", "x.yml"]
    sweep = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path})
    until = time.monotonic() + 240
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.1)
    assert marked(tmp_path)
    sweep.kill()
    sweep.wait()
    while marked(tmp_path):
        assert time.monotonic() < until, "orphans"
        time.sleep(0.2)
