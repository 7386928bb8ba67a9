"""Values and figures that a notebook hands back, in scrapbook's wire format.

A value travels as a cell output of the type ``application/scrapbook.scrap.json+json``, as
https://nteract-scrapbook.readthedocs.io documents it, so that scrapbook reads it as well.
"""

import base64
import io
import json
import logging
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MIME = "application/scrapbook.scrap.json+json"
PROGRESS = "progress.jsonl"
log = logging.getLogger("trfnb")


class Pruned(Exception):  # noqa: N818 - a signal, no error
    """An adaptive search has seen enough of this run; let it end the notebook."""


def record(name: str, value: Any, *, step: int | None = None, caption: str = "") -> None:
    """Hand a value or a figure from a notebook to whoever reads its runs.

    Outside a notebook this only logs.

    Args:
        name: the column of the results it becomes; for a mapping ``name.key`` each.
        value: anything JSON can hold, numbers of NumPy and torch included, or a figure with
            a ``savefig`` method. NaN and infinities become null.
        step: marks an intermediate score: shown live, kept out of the results, and told to the
            adaptive search, if the run belongs to one.
        caption: of a figure.

    Raises:
        TypeError: the value is neither.
        Pruned: the search ends this run; don't catch it.
    """
    if not name or not isinstance(name, str):
        raise TypeError(f"record: expected a name of at least one character, got {name!r}.")
    if hasattr(value, "savefig"):
        _display(_image(value, caption), _metadata(name, data=False, caption=caption))
        return
    plain = _plain(name, value)
    _append({"name": name, "value": plain, "step": step, "time": time.time()})
    if step is None:
        scrap = {"name": name, "data": plain, "encoder": "json", "version": 1}
        _display({MIME: scrap}, _metadata(name, data=True))
        log.info("%s = %s", name, plain)
    elif os.environ.get("TRFNB_TRIAL"):
        from trfnb.runs.search import report

        if report(name, plain, step):
            raise Pruned(f"{name} = {plain} at step {step}")


def _metadata(name: str, *, data: bool, caption: str = "") -> dict[str, Any]:
    about: dict[str, Any] = {"name": name, "data": data, "display": not data}
    return {"scrapbook": about | ({"caption": caption} if caption else {})}


def _display(bundle: dict[str, Any], metadata: dict[str, Any]) -> None:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and hasattr(shell, "kernel"):
        ipython.display.display(bundle, metadata=metadata, raw=True)  # type: ignore[union-attr]


def _image(figure: Any, caption: str) -> dict[str, Any]:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=144, bbox_inches="tight")
    image = base64.b64encode(stream.getvalue()).decode("ascii")
    return {"image/png": image, "text/plain": caption or "figure"}


def _append(entry: dict[str, Any]) -> None:
    folder = os.environ.get("TRFNB_RUN")
    if folder and Path(folder).is_dir():
        with (Path(folder) / PROGRESS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(name, item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(name, item) for item in value]
    for method in ("tolist", "item"):  # arrays and scalars of NumPy, CuPy, torch
        if callable(getattr(value, method, None)):
            return _plain(name, getattr(value, method)())
    raise TypeError(
        f"record({name!r}): expected what JSON can hold or a figure, got "
        f"{type(value).__name__}; give numbers, text, lists or mappings of them."
    )
