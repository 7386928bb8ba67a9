"""Where a run is."""

from dataclasses import dataclass, field

from trfnb.pretraining.stream import Position


@dataclass
class Progress:
    """Where a run is; all of it is in a checkpoint."""

    step: int = 0
    position: Position = field(default_factory=Position)
    best: float | None = None
    since_best: int = 0
    ended: bool = False
