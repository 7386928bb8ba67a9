"""What a sweep costs beyond its notebooks' own time, and what a second job gives.

    python benchmarks/sweep_overhead.py [--runs 8] [--million 120]

Own time is what the cells took, by the kernel's own clock. Prints one JSON object.
"""

import argparse
import json
import os
import tempfile
import time
from datetime import datetime
from pathlib import Path

import nbformat

from trfnb.runs.report import write_report
from trfnb.runs.specification import Sweep
from trfnb.runs.sweep import run_sweep

IDLE = "import time\ntime.sleep(1)"
BUSY = "total = 0\nfor number in range({million}_000_000):\n    total += number * number % 7"


def notebook(folder: Path, source: str) -> Path:
    cells = [
        nbformat.v4.new_code_cell("seed: int = 0", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(source),
        nbformat.v4.new_code_cell("import trfnb\ntrfnb.record('score', seed)"),
    ]
    path = folder / "bench.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def own_seconds(path: Path) -> float:
    """Return how long a notebook's cells took, from the times that nbclient noted in each."""
    cells = json.loads(path.read_text())["cells"]
    times = [cell["metadata"]["execution"] for cell in cells if cell["cell_type"] == "code"]
    begun = [datetime.fromisoformat(time["iopub.status.busy"]) for time in times]
    ended = [datetime.fromisoformat(time["iopub.status.idle"]) for time in times]
    return sum((end - begin).total_seconds() for begin, end in zip(begun, ended, strict=True))


def sweep_seconds(source: str, runs: int, jobs: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        sweep = Sweep(notebook(Path(home), source), seeds=runs, jobs=jobs)
        started = time.perf_counter()
        outcome = run_sweep(sweep)
        wall = time.perf_counter() - started
        own = sum(own_seconds(p) for p in outcome.folder.glob("runs/*/notebook.ipynb"))
        return wall, own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--million", type=int, default=120, help="steps of a busy notebook")
    given = parser.parse_args()
    runs, busy = given.runs, BUSY.format(million=given.million)
    start = Path.cwd()
    wall, own = sweep_seconds(IDLE, runs, 1)
    one, _ = sweep_seconds(busy, runs, 1)
    two, _ = sweep_seconds(busy, runs, 2)
    os.chdir(start)
    found = {
        "overhead_seconds_per_run_at_one_job": round((wall - own) / runs, 2),
        "busy_seconds_at_one_job": round(one, 1),
        "busy_seconds_at_two_jobs": round(two, 1),
        "speed_up_of_two_jobs": round(one / two, 2),
        "report_seconds_of_1000_rows": round(report_seconds(1000), 1),
    }
    print(json.dumps(found, indent=1))


def report_seconds(rows: int) -> float:
    from tests.runs.test_report import many_rows

    with tempfile.TemporaryDirectory() as home:
        folder = many_rows(Path(home) / "many", rows)
        started = time.perf_counter()
        write_report(folder)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
