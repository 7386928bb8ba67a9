import pytest

from trfnb.runs.outcome import classify
from trfnb.runs.status import State
from trfnb.runs.watchdog import Reason


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
        (RaisedError("KeyError", "'x'"), None, False, State.FAILED, "KeyError: 'x'"),
        (RaisedError("Pruned", "f1"), None, False, State.PRUNED, "f1"),
        (RaisedError("MemoryError"), None, False, State.OUT_OF_MEMORY, "MemoryError"),
        (RaisedError("AcceleratorError", "out of memory"), None, 0, State.OUT_OF_MEMORY, "memory"),
        (RaisedError("OSError", "No space left on device"), None, False, State.FAILED, "disk"),
        (DeadKernelError("Kernel died"), -9, False, State.KILLED, "SIGKILL"),
        (DeadKernelError("Kernel died"), -9, True, State.OUT_OF_MEMORY, "system"),
        (DeadKernelError("Kernel died"), -11, False, State.FAILED, "SIGSEGV"),
        (DeadKernelError("Kernel died"), -15, False, State.KILLED, "SIGTERM"),
        (DeadKernelError("Kernel died"), 3, False, State.FAILED, "code 3"),
        (RuntimeError("Kernel died before replying"), -9, False, State.KILLED, "SIGKILL"),
    ],
)  # fmt: skip
def test_outcomes(error, code, system, state, cause) -> None:
    outcome = classify(error, None, code, system)
    assert outcome.state is state
    assert cause in outcome.cause


def test_the_watchdogs_reason_wins_and_the_traceback_stays() -> None:
    reason = Reason(State.TIMED_OUT, "too long")
    outcome = classify(RaisedError("KeyboardInterrupt"), reason, None)
    assert (outcome.state, outcome.cause) == (State.TIMED_OUT, "too long")
    assert outcome.error["traceback"] == "line"
    assert classify(None, reason).state is State.DONE  # it had finished all the same
