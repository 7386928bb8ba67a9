"""What a run is: a config, a text, threads. Resumed as something else, it would end elsewhere."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from thinc.api import Config

from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.settings import SECTION
from trfnb.pretraining.text import text_files

logger = logging.getLogger("spacy")


@dataclass(frozen=True)
class Identity:
    """What must be the same when a run is resumed.

    Attributes:
        config: From `comparable`.
        text: Names and sizes of the text's files; empty where a user's own reader gives it.
        threads: Threads and processes; with others, sums are rounded in another order.
    """

    config: str
    text: list[list[Any]]
    threads: list[int]

    def check(self, first: "Identity", folder: Path) -> None:
        """Compare with the run that began in a folder.

        Raises:
            PretrainingError: the config or the text is another one.
        """
        if changed := _differences(first.config, self.config):
            raise PretrainingError(
                f"{folder}: expected the config of the first run, got another "
                f"{', '.join(changed[:6])}. Give {folder / 'config.cfg'}, or pretrain into another "
                "folder."
            )
        if first.text != self.text:
            changed = [str(name) for name, size in self.text if [name, size] not in first.text]
            raise PretrainingError(
                f"{folder}: expected the text of the first run, got files of other names or sizes "
                f"({', '.join(changed[:3]) or 'fewer files'}). Give that text, or pretrain into "
                "another folder."
            )
        if first.threads != self.threads:
            logger.warning(
                "%s: the first run had threads and processes %s, this one has %s: sums are rounded "
                "in another order, and the weights will differ a little from an unbroken run's.",
                folder,
                first.threads,
                self.threads,
            )


def identity(config: Config, text: Path | None, processes: int) -> Identity:
    """Return what a run here is."""
    return Identity(
        comparable(config),
        _sizes(text) if text is not None else [],
        [torch.get_num_threads(), processes],
    )


def comparable(config: Config) -> str:
    """Return a config without what may change when a run is resumed: its ends and its pace."""
    config = config.copy()
    config["pretraining"]["max_epochs"] = None
    loop = dict(config.get(SECTION, {}))
    for name in ("max_steps", "max_seconds", "patience", "keep", "save_every", "workers"):
        loop.pop(name, None)
    config[SECTION] = loop
    return config.to_str()


def _differences(first: str, second: str) -> list[str]:
    """Return the names of settings in which two configs differ."""
    one, other = (_settings(Config().from_str(text, interpolate=False)) for text in (first, second))
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _settings(block: Any, prefix: str = "") -> dict[str, Any]:
    """Return values by dotted names."""
    found: dict[str, Any] = {}
    for name, value in block.items():
        if isinstance(value, dict) and value:
            found |= _settings(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _sizes(path: Path) -> list[list[Any]]:
    root = path if path.is_dir() else path.parent
    return [[str(file.relative_to(root)), file.stat().st_size] for file in text_files(path)]
