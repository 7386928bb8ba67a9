"""What notebooks give and get: ``record`` inside a run, ``results`` of a sweep afterwards.

A value travels as a cell output of the type ``application/scrapbook.scrap.json+json``, as
https://nteract-scrapbook.readthedocs.io documents it, so that scrapbook reads it as well.
"""

import base64
import io
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from trfnb.runs.ledger import RUNS, State, Status, flat, gather, plain

if TYPE_CHECKING:
    import pandas

    from trfnb.answer import Answer

MIME = "application/scrapbook.scrap.json+json"
# The name under which `trfnb.use_device` records the device; results have it as ``device``.
TOLD = "trfnb.device"
log = logging.getLogger("trfnb")


def record(name: str, value: Any, *, caption: str = "") -> None:
    """Hand a value or a figure from a notebook to whoever reads its runs.

    Outside a notebook this only logs.

    Args:
        name: the column of the results it becomes; for a mapping ``name.key`` each.
        value: anything JSON can hold, numbers of NumPy and torch included, or a figure with
            a ``savefig`` method. NaN and infinities become null.
        caption: of a figure.

    Raises:
        TypeError: the value is neither.
    """
    if not name or not isinstance(name, str):
        raise TypeError(f"record: expected a name of at least one character, got {name!r}.")
    if hasattr(value, "savefig"):
        stream = io.BytesIO()
        value.savefig(stream, format="png", dpi=144, bbox_inches="tight")
        image = base64.b64encode(stream.getvalue()).decode("ascii")
        about = {"name": name, "data": False, "display": True, "caption": caption}
        _display({"image/png": image, "text/plain": caption or "figure"}, about)
        return
    try:
        value = plain(value)
    except TypeError as error:
        raise TypeError(
            f"record({name!r}): expected what JSON can hold or a figure, {error}; "
            "give numbers, text, lists or mappings of them."
        ) from None
    _display(
        {MIME: {"name": name, "data": value, "encoder": "json", "version": 1}},
        {"name": name, "data": True, "display": False},
    )
    log.info("%s = %s", name, value)


def run_folder() -> Path | None:
    """Return the folder of the run that this notebook is executed in; None outside of a run.

    What a notebook writes there stays beside its executed copy. A spaCy pipeline that it names by
    ``record("pipeline", FOLDER)`` is what a sweep with an ``answer`` keeps of its best run.
    """
    folder = os.environ.get("TRFNB_RUN")  # which trfnb.runs.execute sets
    return Path(folder) if folder else None


def recorded(cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values that a notebook's cells recorded, by name; of one name the last."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    scraps = [output.get("data", {}).get(MIME) for output in outputs]
    return {str(s.get("name")): s.get("data") for s in scraps if isinstance(s, Mapping)}


def results(folder: Path | str) -> "pandas.DataFrame":
    """Return a sweep's runs as a table, one row per run, also while it is under way.

    Mappings become one column per key (``scores.ner``), lists JSON text. A recorded value with a
    parameter's name becomes ``recorded.NAME``; an environment's, ``environment.NAME``. Runs of
    an earlier notebook, library version or corpus are left out.

    Args:
        folder: the sweep's folder, such as ``papermill_runs/shared_vs_independent``.

    Raises:
        FileNotFoundError: the folder holds no sweep.
    """
    return table_of(gather(folder)[1])


def table_of(statuses: Iterable[Status]) -> "pandas.DataFrame":
    """Return runs as the table that `results` describes."""
    import pandas

    return pandas.DataFrame([_row(status) for status in statuses])


def answer_of(about: Mapping[str, Any], statuses: Iterable[Status]) -> "Answer | None":
    """Return what a sweep's runs answer so far; None if it asks nothing or none recorded it.

    Args:
        about: the sweep's description, as ``gather`` gives it.
        statuses: of its folder; runs that its last call did not ask for are left out.
    """
    from trfnb.answer import Answer, Question

    if not about.get("answer"):
        return None
    done = [status for status in statuses if status.state is State.DONE]
    order = about["order"] or [status.identity for status in done]
    table = table_of(status for status in done if status.identity in order)
    margin = {"margin": float(table["margin"].iloc[0])} if "margin" in table else {}
    asked = Question(**margin | about["answer"])
    known = {name for name in table if table[name].notna().any()}
    asked.scores = {name: told for name, told in asked.scores.items() if name in known}
    asked.costs = {name: told for name, told in asked.costs.items() if name in known}
    there = bool(asked.scores) and {asked.by, asked.choose, "seed"} <= known
    return Answer(table, asked) if there else None


def keep_best(folder: Path, answer: "Answer") -> Path | None:
    """Keep the pipeline of an answer's best run, with its card, and remove those of the others.

    Returns:
        A link to it, ``folder/winner``; None if the run recorded no pipeline, or if it was
        removed when another run was the best.
    """
    best = answer.best_run
    kept, winner = folder / RUNS / best["run"] / str(best.get("pipeline", "-")), folder / "winner"
    winner.unlink(missing_ok=True)
    if not (kept / "meta.json").exists():
        return None
    for _, run in answer.runs.drop(index=best.name).dropna(subset="pipeline").iterrows():
        home = (folder / RUNS / run["run"]).resolve()
        path = (home / run["pipeline"]).resolve()
        if home in path.parents:  # what lies elsewhere is not ours to remove
            shutil.rmtree(path, ignore_errors=True)
    winner.symlink_to(os.path.relpath(kept, folder), target_is_directory=True)
    answer.write_card(winner, str(best.get("setup", "")))
    return winner


def out_of_bounds(statuses: Iterable[Status], bounds: Mapping[str, Iterable[float]]) -> list[str]:
    """Return a line for each metric whose mean over the runs leaves its bounds, or is missing."""
    done = [status.numbers for status in statuses if status.state is State.DONE]
    lines = []
    for name, (low, high) in bounds.items():
        values = [row[name] for row in done if name in row]
        got = f"got {fmean(values):.4g} (mean of {len(values)} runs)" if values else "got nothing"
        if not values or not low <= fmean(values) <= high:
            lines.append(f"{name}: expected {low} to {high}, {got}.")
    return lines


def _row(status: Status) -> dict[str, Any]:
    began, ended = status.started, status.ended
    row: dict[str, Any] = {
        "run": status.run,
        "status": str(status.state),
        **status.parameters,
        "seconds": began and ended and round(ended - began, 3),
        "peak_memory_mb": status.peak_memory,
        "attempt": status.attempt,
        "started": began and datetime.fromtimestamp(began, UTC).isoformat(),
        "cause": status.cause,
    }
    for kind, values in ("recorded", flat(status.metrics)), ("environment", status.environment):
        row |= {f"{kind}.{n}" if n in row else n: value for n, value in values.items()}
    row = plain(row)
    nested = {name: value for name, value in row.items() if isinstance(value, list | dict)}
    return row | {name: json.dumps(value, ensure_ascii=False) for name, value in nested.items()}


def _display(bundle: dict[str, Any], about: dict[str, Any]) -> None:
    shell = ipython_shell()
    if hasattr(shell, "kernel"):
        shell.display_pub.publish(bundle, {"scrapbook": about})


def ipython_shell() -> Any:
    """Return the shell of the notebook or console that this is; None elsewhere."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None
