"""Reads a sweep's folder back, whether the sweep still runs or not."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trfnb.runs.ledger import Ledger
from trfnb.runs.status import Status


@dataclass
class Gathered:
    """A sweep's description and its runs, those of earlier notebooks or data apart."""

    about: dict[str, Any]
    current: list[Status]
    outdated: list[Status]


def gather(folder: Path) -> Gathered:
    """Return what a sweep's folder holds.

    Current are the runs of the notebook, the library version and, for each corpus, the content
    that were in use when the sweep was last called.

    Raises:
        FileNotFoundError: the folder holds no sweep.
    """
    try:
        about = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} holds no sweep (no sweep.json): give a folder that `trfnb sweep` wrote, "
            "such as papermill_runs/NAME."
        ) from None
    current: list[Status] = []
    outdated: list[Status] = []
    for status in Ledger(folder).statuses():
        same = status.notebook == about["notebook_digest"] and status.version == about["trfnb"]
        known = about.get("data", {})
        same = same and all(known.get(k, v) == v for k, v in status.data.items())
        (current if same else outdated).append(status)
    rank = {identity: place for place, identity in enumerate(about.get("order", []))}
    current.sort(key=lambda status: rank.get(status.identity, len(rank)))
    return Gathered(about, current, outdated)
