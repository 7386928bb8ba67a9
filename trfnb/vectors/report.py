"""What a conversion met on its way: rows skipped, with their line numbers, and why."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

REPORT_FILE = "conversion.json"
_KEPT_LINES = 20


class VectorsError(ValueError):
    """A vector table that cannot be read, written or used as asked."""


@dataclass
class Skipped:
    """Rows left out for one reason: how many, and the first few by line (or row) number."""

    count: int = 0
    lines: list[int] = field(default_factory=list)
    example: str = ""


@dataclass
class Report:
    """The account of one conversion.

    Attributes:
        source: where the table came from.
        format: the format it was read as.
        strict: raise at the first problem instead of noting it.
        rows: rows written.
        keys: keys written (several keys may share a row).
        width: values a row.
        dtype: how a value is stored.
        skipped: reason -> rows left out for it.
        notes: what else is odd about the source (a wrong header, a truncated archive).
        missing: words asked for that the source does not have.
        measures: errors of rounding, variance kept by a projection, seconds.
        fingerprint: the table's content hash, see `trfnb.vectors.fingerprint`.
        path: where the table lies.
    """

    source: str
    format: str = ""
    strict: bool = False
    rows: int = 0
    keys: int = 0
    width: int = 0
    dtype: str = "float32"
    skipped: dict[str, Skipped] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: int = 0
    measures: dict[str, float] = field(default_factory=dict)
    fingerprint: str = ""
    path: str = ""

    def skip(self, reason: str, line: int, example: str = "") -> None:
        """Count a row left out; under ``strict`` raise `VectorsError` instead."""
        if self.strict:
            shown = f" ({example})" if example else ""
            raise VectorsError(
                f"{self.source}: line {line}: {reason}{shown}. Mend the file, or convert without "
                "strict to skip such rows and have them listed."
            )
        skipped = self.skipped.setdefault(reason, Skipped(example=example))
        skipped.count += 1
        if len(skipped.lines) < _KEPT_LINES:
            skipped.lines.append(line)

    def note(self, text: str) -> None:
        """Note an oddity of the whole source; under ``strict`` raise `VectorsError` instead."""
        if self.strict:
            raise VectorsError(f"{self.source}: {text}. Mend it, or convert without strict.")
        self.notes.append(text)

    @property
    def skipped_rows(self) -> int:
        """How many rows were left out, for whatever reason."""
        return sum(entry.count for entry in self.skipped.values())

    def why(self) -> str:
        """Say in brackets what may have left a table without rows; nothing if nothing is known."""
        reasons = list(self.notes)
        for reason, entry in self.skipped.items():
            reasons.append(f"skipped {entry.count:,}: {reason}, first in line {entry.lines[0]}")
        return f" ({'; '.join(reasons)})" if reasons else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)

    def save(self, directory: Path) -> None:
        """Write the report beside its table."""
        (directory / REPORT_FILE).write_text(json.dumps(self.to_dict(), indent=1), "utf8")

    def __str__(self) -> str:
        lines = [
            f"{self.source} ({self.format}) -> {self.path}",
            f"{self.rows:,} rows x {self.width} ({self.dtype}), {self.keys:,} keys, "
            f"fingerprint {self.fingerprint[:12]}",
        ]
        lines += [f"{name}: {value:.6g}" for name, value in self.measures.items()]
        if self.missing:
            lines.append(f"words asked for and not found: {self.missing:,}")
        lines += self.notes
        for reason, entry in self.skipped.items():
            dots = ", …" if entry.count > len(entry.lines) else ""
            where = ", ".join(map(str, entry.lines)) + dots
            lines.append(f"skipped {entry.count:,}: {reason} (line {where})")
        return "\n".join(lines)
