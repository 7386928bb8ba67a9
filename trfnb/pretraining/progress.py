"""Where a run is, and whether another config would have led there."""

from dataclasses import dataclass, field

from thinc.api import Config

from trfnb.pretraining.settings import SECTION
from trfnb.pretraining.stream import Position


@dataclass
class Progress:
    """Where a run is; all of it is in a checkpoint."""

    step: int = 0
    position: Position = field(default_factory=Position)
    best: float | None = None
    since_best: int = 0
    ended: bool = False


def comparable(config: Config) -> str:
    """Return a config without what may change when a run is resumed: its ends and its pace."""
    config = config.copy()
    config["pretraining"]["max_epochs"] = None
    loop = dict(config.get(SECTION, {}))
    for name in ("max_steps", "max_seconds", "patience", "keep", "save_every", "workers"):
        loop.pop(name, None)
    config[SECTION] = loop
    return config.to_str()
