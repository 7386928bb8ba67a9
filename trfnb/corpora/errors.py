"""What happens when a corpus file is not what it should be."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

OnError = Literal["raise", "skip"]


class CorpusError(ValueError):
    """Input that cannot be used, with the place and what to do about it.

    Args:
        path: The file, or the name that was asked for.
        expected: What should have been there.
        got: What was there.
        hint: What to do next.
        line: Line number, from 1, where there is one.
        reason: A few words under which a skipped sentence is counted.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        expected: str,
        got: str,
        hint: str,
        line: int | None = None,
        reason: str = "malformed",
    ) -> None:
        self.path, self.line, self.reason = str(path), line, reason
        self.expected, self.got, self.hint = expected, got, hint
        place = self.path if line is None else f"{self.path}:{line}"
        super().__init__(f"{place}: expected {expected}, got {got}. {hint}")


@dataclass
class Problems:
    """Decides whether a bad sentence stops the reading, and counts those that do not.

    Attributes:
        on_error: ``"raise"`` or ``"skip"``.
        skipped: Number of sentences left out, by reason.
    """

    on_error: OnError = "raise"
    skipped: Counter[str] = field(default_factory=Counter)

    def meet(self, error: CorpusError) -> None:
        """Raise the error, or count one sentence under its reason."""
        if self.on_error == "raise":
            raise error
        self.skipped[error.reason] += 1


FIX_OR_SKIP = 'Correct the line, or pass on_error="skip" to leave such sentences out'
