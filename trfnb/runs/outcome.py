"""How a run ended, told from the exception, the watchdog and the kernel's exit."""

import re
import signal
from dataclasses import dataclass, field
from typing import Any

from trfnb.runs.status import State
from trfnb.runs.watchdog import Reason

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_NO_MEMORY = re.compile(r"out of memory|cannot allocate memory|can't allocate memory", re.I)
_FULL_DISK = re.compile(r"no space left on device|disk quota exceeded", re.I)
_LINES = 40


@dataclass(frozen=True)
class Outcome:
    """A final state, its cause in words, and the error as name, message, traceback."""

    state: State
    cause: str = ""
    error: dict[str, str] = field(default_factory=dict)


def classify(
    error: BaseException | None,
    reason: Reason | None = None,
    kernel_exit: int | None = None,
    system_was_out_of_memory: bool = False,
) -> Outcome:
    """Return how a run ended.

    Args:
        error: what papermill raised; None when all cells ran.
        reason: why the watchdog ended it, if it did.
        kernel_exit: the kernel's exit code as ``subprocess`` gives it; None when it lived on.
        system_was_out_of_memory: whether the system killed for memory meanwhile.
    """
    if error is None:
        return Outcome(State.DONE)
    told = describe(error)
    name, message = told["name"], told["message"]
    if reason is not None:
        return Outcome(reason.state, reason.cause, told)
    if name == "Pruned":
        return Outcome(State.PRUNED, message, {})
    if name in {"MemoryError", "OutOfMemoryError"} or _NO_MEMORY.search(message):
        return Outcome(State.OUT_OF_MEMORY, f"{name}: {message}".rstrip(": "), told)
    if name == "DeadKernelError" or (kernel_exit is not None and name == "RuntimeError"):
        return _dead(kernel_exit, system_was_out_of_memory, told)
    if _FULL_DISK.search(message):
        return Outcome(State.FAILED, f"disk full ({name})", told)
    return Outcome(State.FAILED, f"{name}: {message}".rstrip(": "), told)


def _dead(code: int | None, out_of_memory: bool, told: dict[str, str]) -> Outcome:
    if code is None or code >= 0:
        return Outcome(State.FAILED, f"the kernel exited by itself (code {code})", told)
    sent = signal.Signals(-code)
    if sent is signal.SIGKILL and out_of_memory:
        return Outcome(State.OUT_OF_MEMORY, "the system ran out of memory and killed it", told)
    if sent in {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
        return Outcome(State.KILLED, f"the kernel was killed from outside ({sent.name})", told)
    return Outcome(State.FAILED, f"the kernel crashed ({sent.name})", told)


def describe(error: BaseException) -> dict[str, str]:
    """Return an exception as name, message and the end of its traceback, without colours."""
    name = getattr(error, "ename", type(error).__name__)
    message = str(getattr(error, "evalue", error))
    lines: list[Any] = getattr(error, "traceback", None) or []
    traceback = _ANSI.sub("", "\n".join(map(str, lines))).splitlines()[-_LINES:]
    return {"name": name, "message": message[:2000], "traceback": "\n".join(traceback)}
