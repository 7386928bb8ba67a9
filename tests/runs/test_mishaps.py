"""Kernels that raise, hang, eat memory, die, or fill the disk: told apart, and contained."""

import json
import os
import time
from pathlib import Path

import psutil

from trfnb.runs.ledger import Ledger
from trfnb.runs.processes import marked
from trfnb.runs.specification import Sweep
from trfnb.runs.status import State
from trfnb.runs.sweep import run_sweep

PARAMETERS = "case: str = 'good'\nseed: int = 0"
BEGIN = "import trfnb, os, signal, subprocess, time\ntrfnb.record('begun', True)"
MISHAP = """if case == "raise":
    raise KeyError("no such thing")
if case == "hang":
    import re
    re.match(r"(a+)+$", "a" * 64 + "b")  # in C, deaf to signals for a lifetime
if case == "sleep":
    time.sleep(600)
if case == "memory":
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1) * 20_000_000))
        time.sleep(0.01)
if case == "killed":
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    os.kill(os.getpid(), signal.SIGKILL)
if case == "disk":
    with open("/dev/full", "w") as full:
        full.write("x" * 100_000)
if case == "segfault":
    import ctypes
    ctypes.string_at(0)
if case == "exit":
    os._exit(3)"""
END = "trfnb.record('score', float(seed))"
BAD = ["raise", "hang", "memory", "killed"]


def test_four_mishaps_among_twelve_leave_eight_good_rows(make_notebook, tmp_path: Path) -> None:
    notebook = make_notebook(BEGIN, MISHAP, END, parameters=PARAMETERS)
    runs = [{"case": "good", "seed": seed} for seed in range(8)]
    for place, case in enumerate(BAD):
        runs.insert(2 * place + 1, {"case": case})
    sweep = Sweep(notebook, runs=runs, timeout=12, memory=600, jobs=2)
    outcome = run_sweep(sweep, quiet=True)
    states = {s.parameters["case"]: s for s in outcome.statuses if s.parameters["case"] in BAD}
    assert {case: status.state for case, status in states.items()} == {
        "raise": State.FAILED,
        "hang": State.TIMED_OUT,
        "memory": State.OUT_OF_MEMORY,
        "killed": State.KILLED,
    }
    good = [s for s in outcome.statuses if s.parameters["case"] == "good"]
    assert [s.metrics["score"] for s in good if s.state is State.DONE] == list(range(8))
    assert states["raise"].error["name"] == "KeyError"
    assert "SIGKILL" in states["killed"].cause
    assert not marked(outcome.folder)
    for status in states.values():
        assert status.metrics == {"begun": True}  # what it had handed back before
        cells = json.loads((notebook_of(outcome.folder, status.run)).read_text())["cells"]
        states_of_cells = [
            c["metadata"]["papermill"]["status"] for c in cells if c["cell_type"] == "code"
        ]
        assert states_of_cells[-2:] == ["failed", "pending"]


def notebook_of(folder: Path, run: str) -> Path:
    return folder / "runs" / run / "notebook.ipynb"


def test_crash_exit_and_full_disk_are_failures_with_their_cause(make_notebook) -> None:
    notebook = make_notebook(BEGIN, MISHAP, END, parameters=PARAMETERS)
    cases = ["segfault", "exit", "disk"]
    sweep = Sweep(notebook, grid={"case": cases}, jobs=2)
    outcome = run_sweep(sweep, quiet=True)
    causes = [(s.state, s.cause) for s in outcome.statuses]
    assert causes == [
        (State.FAILED, "the kernel crashed (SIGSEGV)"),
        (State.FAILED, "the kernel exited by itself (code 3)"),
        (State.FAILED, "disk full (OSError)"),
    ]


def test_cell_timeout_interrupts_and_keeps_the_traceback(make_notebook) -> None:
    notebook = make_notebook(BEGIN, MISHAP, END, parameters=PARAMETERS)
    sweep = Sweep(notebook, fixed={"case": "sleep"}, cell_timeout=1)
    started = time.time()
    (status,) = run_sweep(sweep, quiet=True).statuses
    assert time.time() - started < 15
    assert status.state is State.TIMED_OUT
    assert "cell 4" in status.cause  # the injected parameters are cell 2
    assert "time.sleep(600)" in status.error["traceback"]


def test_retry_runs_again_for_its_cause_only(make_notebook, tmp_path: Path) -> None:
    flaky = f"""import os, pathlib, signal
path = pathlib.Path({str(tmp_path)!r}) / f"tries-{{case}}"
path.open("a").write("x")
if len(path.read_text()) < 3:
    if case == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("not yet")"""
    notebook = make_notebook(flaky, parameters=PARAMETERS)
    sweep = Sweep(notebook, grid={"case": ["killed", "raise"]}, retry={"killed": 2}, jobs=2)
    outcome = run_sweep(sweep, quiet=True)
    assert [s.state for s in outcome.statuses] == [State.DONE, State.FAILED]
    assert [s.attempt for s in outcome.statuses] == [3, 1]
    again = run_sweep(sweep, quiet=True)  # the second call: what failed, and nothing else
    assert [s.attempt for s in again.statuses] == [3, 2]


def test_a_status_of_a_dead_machine_is_seen_as_such(tiny: Path) -> None:
    sweep = Sweep(tiny)
    outcome = run_sweep(sweep, quiet=True)
    ledger = Ledger(outcome.folder.absolute())
    (status,) = ledger.statuses()
    status.state, status.ended = State.RUNNING, None
    status.host, status.heartbeat = os.uname().nodename, time.time()
    status.write(ledger.home(status))
    (lost,) = ledger.repair()
    assert lost.state is State.KILLED
    assert "died" in lost.cause
    status.state, status.host = State.RUNNING, "another-machine"
    status.write(ledger.home(status))
    assert ledger.repair() == []  # its heartbeat is fresh
    status.heartbeat = time.time() - 3600
    status.write(ledger.home(status))
    assert len(ledger.repair()) == 1


def test_no_process_is_left(tiny: Path) -> None:
    run_sweep(Sweep(tiny, seeds=2, jobs=2), quiet=True)
    children = psutil.Process().children(recursive=True)
    assert [child for child in children if "trfnb.runs" in " ".join(child.cmdline())] == []
