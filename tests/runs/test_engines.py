"""Each engine runs the same sweep; what it loses is run elsewhere."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from trfnb.runs.engines import make_engine
from trfnb.runs.engines.local import LocalEngine
from trfnb.runs.environment import cores
from trfnb.runs.ledger import Ledger
from trfnb.runs.specification import Sweep
from trfnb.runs.status import State
from trfnb.runs.sweep import run_sweep

REPORTS = """import os, trfnb
trfnb.record("score", float(seed))
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
    trfnb.record(name, os.environ.get(name))"""


def test_local_shares_out_cores(make_notebook) -> None:
    sweep = Sweep(make_notebook(REPORTS), seeds=2, jobs=2)
    outcome = run_sweep(sweep, quiet=True)
    threads = {s.metrics["OMP_NUM_THREADS"] for s in outcome.statuses}
    assert threads == {str(max(1, cores() // 2))}
    assert {s.environment["threads"] for s in outcome.statuses} == {max(1, cores() // 2)}


def test_local_gives_each_run_a_gpu_of_its_own(make_notebook, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    engine = LocalEngine(jobs=4)
    assert engine.slots == 2  # one run a GPU
    sweep = Sweep(make_notebook(REPORTS), seeds=2)
    outcome = run_sweep(sweep, quiet=True)
    devices = sorted(s.metrics["CUDA_VISIBLE_DEVICES"] for s in outcome.statuses)
    assert set(devices) <= {"3", "5"}
    assert LocalEngine(gpus=0).slots == 1


def test_unknown_engines_and_options_are_refused() -> None:
    common = {"jobs": None, "threads": None, "gpus": None}
    with pytest.raises(ValueError, match="Did you mean 'local'"):
        make_engine("locl", **common)
    with pytest.raises(ValueError, match="adress"):
        make_engine({"name": "local", "adress": "x"}, **common)


def test_slurm_engine_on_local_processes(make_notebook) -> None:
    pytest.importorskip("submitit")
    sweep = Sweep(make_notebook(REPORTS), seeds=3, jobs=2)
    sweep.engine = {"name": "slurm", "cluster": "local"}
    outcome = run_sweep(sweep, quiet=True)
    assert [s.state for s in outcome.statuses] == [State.DONE] * 3
    assert [s.metrics["score"] for s in outcome.statuses] == [0, 1, 2]


def test_slurm_engine_names_a_job_that_died(make_notebook, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    die = "import os, signal, psutil\n"
    die += "for p in psutil.Process().parents()[:2]:\n    p.kill()"  # executor and Slurm's task
    sweep = Sweep(make_notebook(die))
    sweep.engine = {"name": "slurm", "cluster": "local"}
    (status,) = run_sweep(sweep, quiet=True).statuses
    assert status.state is State.KILLED
    assert "Slurm job" in status.cause


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
    sweep = Sweep(make_notebook(work), seeds=12, jobs=4, engine="ray")
    # A node has two CPUs: of three runs one at least is on the second.
    killer = once_running(
        tmp_path / "lost", 3, lambda: cluster.remove_node(second, allow_graceful=False)
    )
    outcome = run_sweep(sweep, out=tmp_path / "lost", quiet=True)
    killer.join()
    assert [s.state for s in outcome.statuses] == [State.DONE] * 12
    assert [s.metrics["score"] for s in outcome.statuses] == list(range(12))
    again = max(s.attempt for s in outcome.statuses)
    assert again == 2, "no run was under way on the node when it was killed"

    waits = "import os, pathlib, time\npathlib.Path('kernel').write_text(str(os.getpid()))\n"
    sweep = Sweep(make_notebook(waits + "time.sleep(600)"), jobs=1, engine="ray")

    def interrupt() -> None:
        while not Path("kernel").exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    killer = once_running(tmp_path / "cancelled", 1, interrupt)
    outcome = run_sweep(sweep, out=tmp_path / "cancelled", quiet=True)
    killer.join()
    assert outcome.interrupted
    assert [s.state for s in outcome.statuses] == [State.KILLED]
    assert not psutil.pid_exists(int(Path("kernel").read_text())), "the kernel outlived its sweep"
