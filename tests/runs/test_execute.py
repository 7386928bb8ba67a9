"""Kernels that raise, hang, eat memory or die: told apart, and contained."""

import gzip
import json
import zipfile
from pathlib import Path

import psutil
import pytest

from trfnb.runs.execute import marked, outcome, socket_folder
from trfnb.runs.ledger import State
from trfnb.runs.specification import Sweep
from trfnb.runs.sweep import Outcome, run_sweep

PARAMETERS = "case: str = 'good'\nseed: int = 0"
BEGIN = "import trfnb, os, signal, subprocess, time\ntrfnb.record('begun', True)"
MISHAP = """if case == "raise":
    hold = bytearray(300_000_000)
    time.sleep(1)
    raise KeyError("no such thing")
if case == "hang":
    import ctypes
    while True:
        ctypes.PyDLL(None).sleep(600)  # in C, with the interpreter's lock
if case == "killed":
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    os.kill(os.getpid(), signal.SIGKILL)
if case == "segfault":
    import ctypes
    ctypes.string_at(0)
if case == "group":
    raise ExceptionGroup("two of them", [ValueError("first"), OSError("second")])"""
END = "trfnb.record('score', float(seed))"


def test_mishaps_end_in_their_states_and_leave_good_rows(
    make_notebook, tmp_path: Path, monkeypatch
) -> None:
    long = tmp_path / ("t" * 120)  # is no hindrance to sockets
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.setenv("TMPDIR", str(long))
    notebook = make_notebook(BEGIN, MISHAP, END, parameters=PARAMETERS)
    expected = {
        "raise": (State.FAILED, "KeyError: 'no such thing'"),
        "killed": (State.KILLED, "the kernel was killed from outside (SIGKILL)"),
        "segfault": (State.FAILED, "the kernel crashed (SIGSEGV)"),
        "group": (State.FAILED, "ExceptionGroup: two of them (2 sub-exceptions)"),
    }
    runs = [*({"case": case} for case in expected), {"seed": 2}]
    found = run_sweep(Sweep(notebook, runs=runs, jobs=2))
    assert not found.complete
    *bad, last = found.statuses
    assert last.metrics["score"] == 2
    assert bad[0].peak_memory > 300
    for status in bad:
        state, cause = expected[status.parameters["case"]]
        assert status.state is state
        assert cause in status.cause
        assert status.metrics == {"begun": True}  # what it had handed back before
        path = found.folder / "runs" / status.run / "notebook.ipynb"
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        assert cells[-3]["execution_count"]
        assert not cells[-1]["execution_count"]
    assert_nothing_is_left(found)


def test_a_run_that_hangs_ends_when_its_time_is_over(make_notebook) -> None:
    notebook = make_notebook(BEGIN, MISHAP, END, parameters=PARAMETERS)
    found = run_sweep(Sweep(notebook, runs=[{"case": "hang"}], timeout=5))
    (status,) = found.statuses
    assert (status.state, status.cause) == (State.TIMED_OUT, "the run took longer than 5 s")
    assert_nothing_is_left(found)


LEFT_OPEN = """import gzip, threading, time, types, zipfile
plain = open("plain.txt", "w")
plain.write("kept")
pair = [gzip.open("packed.gz", "wt")]
pair.append(pair)
pair[0].write("kept")
archive = zipfile.ZipFile("archive.zip", "w")
archive.writestr("kept.txt", "kept")
of_a_module = types.ModuleType("mine")
of_a_module.log = open("log.txt", "wb")
of_a_module.log.write(b"kept")
sys.modules["mine"] = of_a_module
def late():
    time.sleep(0.5)
    Path("late.txt").write_text("kept")
threading.Thread(target=late).start()
atexit.register(lambda: Path("at_exit.txt").write_text("kept"))"""


def test_what_a_notebook_leaves_open_is_written_when_its_kernel_ends(
    make_notebook, tmp_path: Path
) -> None:
    notebook = make_notebook("import atexit, sys\nfrom pathlib import Path", LEFT_OPEN)
    assert run_sweep(Sweep(notebook, runs=[{}])).complete
    for name in ("plain.txt", "log.txt", "late.txt", "at_exit.txt"):
        assert (tmp_path / name).read_text() == "kept"
    assert gzip.decompress((tmp_path / "packed.gz").read_bytes()) == b"kept"
    assert zipfile.ZipFile(tmp_path / "archive.zip").read("kept.txt") == b"kept"


def assert_nothing_is_left(found: Outcome) -> None:
    assert not [status.run for status in found.statuses if socket_folder(status.token).exists()]
    assert not marked(found.folder)
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if "trfnb.runs" in " ".join(child.cmdline())]


class RaisedError(Exception):
    def __init__(self, ename: str, evalue: str = ""):
        super().__init__(evalue)
        self.ename, self.evalue, self.traceback = ename, evalue, "\x1b[31mline\x1b[0m"


class DeadKernelError(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("error", "code", "state", "cause"),
    [
        (None, None, State.DONE, ""),
        (RaisedError("MemoryError"), None, State.FAILED, "MemoryError"),
        (DeadKernelError("Kernel died"), -15, State.KILLED, "SIGTERM"),
        (RuntimeError("Kernel died before replying"), -9, State.KILLED, "SIGKILL"),
        (DeadKernelError("Kernel died"), 3, State.FAILED, "the kernel crashed (exit code 3)"),
    ],
)
def test_outcomes(error, code, state, cause) -> None:
    found, said, _ = outcome(error, None, code)
    assert found is state
    assert cause in said


def test_the_watchdogs_reason_wins_and_the_traceback_stays() -> None:
    reason = (State.TIMED_OUT, "too long")
    assert outcome(RaisedError("DeadKernelError"), reason, None) == (*reason, "line")
    assert outcome(None, reason, None)[0] is State.DONE  # it had finished all the same
    assert len(outcome(RaisedError("E", "x" * 100_000), None, None)[1]) < 2100
