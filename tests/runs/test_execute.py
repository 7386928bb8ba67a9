"""Kernels that raise, hang, eat memory or die: told apart, and contained."""

import json
from pathlib import Path

import psutil
import pytest

from trfnb.runs.execute import outcome
from trfnb.runs.ledger import State
from trfnb.runs.specification import Sweep
from trfnb.runs.sweep import run_sweep
from trfnb.runs.watchdog import marked, temporary_folders

PARAMETERS = "case: str = 'good'\nseed: int = 0"
BEGIN = "import trfnb, os, signal, subprocess, time\ntrfnb.record('begun', True)"
MISHAP = """if case == "raise":
    raise KeyError("no such thing")
if case == "hang":
    import re
    re.match(r"(a+)+$", "a" * 64 + "b")  # in C, deaf to signals for a lifetime
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
    os._exit(3)
if case == "group":
    raise ExceptionGroup("two of them", [ValueError("first"), OSError("second")])"""
END = "trfnb.record('score', float(seed))"


def test_mishaps_end_in_their_states_and_leave_good_rows(make_notebook) -> None:
    notebook = make_notebook(BEGIN, MISHAP, END, parameters=PARAMETERS)
    expected = {
        "raise": (State.FAILED, "KeyError: 'no such thing'"),
        "hang": (State.TIMED_OUT, "the run took longer than 40 s"),
        "memory": (State.OUT_OF_MEMORY, "more than its limit of 600 MB"),
        "killed": (State.KILLED, "the kernel was killed from outside (SIGKILL)"),
        "segfault": (State.FAILED, "the kernel crashed (SIGSEGV)"),
        "exit": (State.FAILED, "the kernel exited by itself (code 3)"),
        "disk": (State.FAILED, "disk full (OSError)"),
        "group": (State.FAILED, "ValueError: first; OSError: second"),
    }
    runs = [{"seed": 1}, *({"case": case} for case in expected), {"seed": 2}]
    found = run_sweep(Sweep(notebook, runs=runs, timeout=40, memory=600, jobs=2))
    assert not found.complete
    first, *bad, last = found.statuses
    assert [first.metrics["score"], last.metrics["score"]] == [1, 2]
    for status in bad:
        state, cause = expected[status.parameters["case"]]
        assert status.state is state
        assert cause in status.cause
        assert status.metrics == {"begun": True}  # what it had handed back before
        path = found.folder / "runs" / status.run / "notebook.ipynb"
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        states = [cell["metadata"]["papermill"]["status"] for cell in cells]
        assert states[-2:] == ["failed", "pending"]
        assert not any(folder.exists() for folder in temporary_folders(status.token))
    assert not marked(found.folder)
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if "trfnb.runs" in " ".join(child.cmdline())]


def test_a_cell_timeout_interrupts_and_keeps_the_traceback(make_notebook) -> None:
    notebook = make_notebook("import time", "time.sleep(600)", parameters=PARAMETERS)
    (status,) = run_sweep(Sweep(notebook, seeds=1, cell_timeout=1)).statuses
    assert status.state is State.TIMED_OUT
    assert "cell 4" in status.cause  # the injected parameters are cell 2
    assert "time.sleep(600)" in status.error["traceback"]


def test_retry_runs_again_for_its_cause_only(make_notebook, tmp_path: Path) -> None:
    flaky = f"""import os, pathlib, signal
path = pathlib.Path({str(tmp_path)!r}) / f"tries-{{case}}"
path.open("a").write("x")
if len(path.read_text()) < 2:
    if case == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("not yet")"""
    notebook = make_notebook(flaky, parameters=PARAMETERS)
    sweep = Sweep(notebook, grid={"case": ["killed", "raise"]}, retry={"killed": 1}, jobs=2)
    first = run_sweep(sweep)
    assert [(s.state, s.attempt) for s in first.statuses] == [(State.DONE, 2), (State.FAILED, 1)]
    again = run_sweep(sweep)  # the second call: what failed, and nothing else
    assert [(s.state, s.attempt) for s in again.statuses] == [(State.DONE, 2), (State.DONE, 2)]


def test_a_long_tmpdir_is_no_hindrance(tiny, tmp_path: Path, monkeypatch) -> None:
    long = tmp_path / ("t" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.setenv("TMPDIR", str(long))
    assert len({*temporary_folders("0123")}) == 2
    (status,) = run_sweep(Sweep(tiny)).statuses
    assert status.state is State.DONE
    assert not any(long.iterdir())


class RaisedError(Exception):
    def __init__(self, ename: str, evalue: str = ""):
        super().__init__(evalue)
        self.ename, self.evalue, self.traceback = ename, evalue, ["\x1b[31mline\x1b[0m"]


class DeadKernelError(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("error", "code", "system", "state", "cause"),
    [
        (None, None, False, State.DONE, ""),
        (RaisedError("Pruned", "f1"), None, False, State.PRUNED, "f1"),
        (RaisedError("MemoryError"), None, False, State.OUT_OF_MEMORY, "MemoryError"),
        (RaisedError("AcceleratorError", "out of memory"), None, 0, State.OUT_OF_MEMORY, "memory"),
        (DeadKernelError("Kernel died"), -9, True, State.OUT_OF_MEMORY, "system"),
        (DeadKernelError("Kernel died"), -15, False, State.KILLED, "SIGTERM"),
        (RuntimeError("Kernel died before replying"), -9, False, State.KILLED, "SIGKILL"),
    ],
)  # fmt: skip
def test_outcomes(error, code, system, state, cause) -> None:
    found, said, _ = outcome(error, None, code, system)
    assert found is state
    assert cause in said


def test_the_watchdogs_reason_wins_and_the_traceback_stays() -> None:
    reason = (State.TIMED_OUT, "too long")
    state, cause, told = outcome(RaisedError("KeyboardInterrupt"), reason, None, False)
    assert (state, cause, told["traceback"]) == (*reason, "line")
    assert outcome(None, reason, None, False)[0] is State.DONE  # it had finished all the same
    assert len(outcome(RaisedError("E", "x" * 100_000), None, None, False)[1]) < 2100
