"""One tidy row a run: parameters, metrics, seconds, status, environment."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trfnb.runs.status import Status, write_text

_FIRST = ("run", "status")
_LAST = ("seconds", "peak_memory_mb", "attempt", "started", "cause")


def row_of(status: Status) -> dict[str, Any]:
    """Return a run as one flat row.

    Mappings become a column a key (``scores.ner``), lists JSON text. A recorded value with a
    parameter's name becomes ``recorded.NAME``; an environment's, ``environment.NAME``.
    """
    row: dict[str, Any] = {"run": status.run, "status": str(status.state)}
    row |= {name: _cell(value) for name, value in status.parameters.items()}
    for name, value in flat(status.metrics).items():
        row[f"recorded.{name}" if name in row or name in _LAST else name] = _cell(value)
    started = datetime.fromtimestamp(status.started, UTC).isoformat() if status.started else None
    row |= {
        "seconds": status.seconds,
        "peak_memory_mb": status.peak_memory,
        "attempt": status.attempt,
        "started": started,
        "cause": status.cause,
    }
    for name, value in status.environment.items():
        row[f"environment.{name}" if name in row else name] = _cell(value)
    return row


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, keys joined by dots."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False)
    return value


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return all columns in the order of their first appearance, bookkeeping last."""
    seen = list(dict.fromkeys(name for row in rows for name in row))
    own = [name for name in seen if name not in _LAST]
    return own + [name for name in _LAST if name in seen]


def write_tables(folder: Path, statuses: Sequence[Status]) -> list[dict[str, Any]]:
    """Write ``results.csv``, and ``results.parquet`` where pyarrow is installed."""
    rows = [row_of(status) for status in statuses]
    columns = columns_of(rows)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "results.csv", stream.getvalue())
    _write_parquet(folder / "results.parquet", rows, columns)
    return rows


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], columns: list[str]) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        return
    arrays = {}
    for name in columns:
        values = [row.get(name) for row in rows]
        try:
            arrays[name] = pyarrow.array(values)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):  # mixed types
            arrays[name] = pyarrow.array([None if v is None else str(v) for v in values])
    aside = path.with_name(f".{path.name}")
    parquet.write_table(pyarrow.table(arrays), aside)
    aside.replace(path)
