"""Reads back what notebooks recorded, from the outputs of their cells."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_PREFIX = "application/scrapbook.scrap."


def scraps_of(cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the recorded values by name; of one name the last."""
    found: dict[str, Any] = {}
    for cell in cells:
        for output in cell.get("outputs", []):
            for mime, scrap in output.get("data", {}).items():
                if mime.startswith(_PREFIX) and isinstance(scrap, Mapping):
                    found[str(scrap.get("name"))] = scrap.get("data")
    return found


def figures_of(notebook: Path) -> list[tuple[str, str, str]]:
    """Return name, caption and base64 PNG of the figures that an executed notebook recorded."""
    found = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            about = output.get("metadata", {}).get("scrapbook", {})
            if about.get("display") and "image/png" in output.get("data", {}):
                image = output["data"]["image/png"]
                image = image if isinstance(image, str) else "".join(image)
                found.append((about["name"], about.get("caption", ""), image))
    return found
