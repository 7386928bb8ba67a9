"""Where a sweep takes its next run from: a list, or a search that proposes one."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from trfnb.runs.status import Status


class Source(Protocol):
    """Runs still to do. ``total`` is how many there are in all, done ones included."""

    total: int

    def next(self) -> Status | None:
        """Return the next run to start; None when there is none for now."""

    def variables(self, status: Status) -> dict[str, str]:
        """Return environment variables that a run needs for this source."""

    def settle(self, status: Status) -> None:
        """Take note of how a run ended."""

    def again(self, status: Status) -> None:
        """Put a run back, to be started again."""


class Listed:
    """The runs of a list that aren't final yet, in order."""

    def __init__(self, statuses: Sequence[Status]):
        self.total = len(statuses)
        self._waiting = deque(status for status in statuses if not status.state.final)

    def next(self) -> Status | None:
        """Return the first run that waits."""
        return self._waiting.popleft() if self._waiting else None

    def variables(self, status: Status) -> dict[str, str]:
        """Return nothing: a listed run needs to know of no other."""
        return {}

    def settle(self, status: Status) -> None:
        """Do nothing: a list stays as it is."""

    def again(self, status: Status) -> None:
        """Put a run at the end of the list."""
        self._waiting.append(status)
