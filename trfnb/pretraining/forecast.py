"""How many updates a run will make, for the bar's time left."""

from dataclasses import dataclass, field
from pathlib import Path

from trfnb.pretraining.settings import LoopSettings
from trfnb.pretraining.stream import Position
from trfnb.pretraining.text import DOCBIN, kind, text_files

_SIZE_OF_GZ = 4


@dataclass
class Forecast:
    """What ends a run first, as far as it is known.

    Attributes:
        settings: Of the loop; ``max_steps`` is known, ``max_seconds`` follows from the pace.
        max_epochs: Passes over the text; 0 for no end.
        characters: Of the text, about; 0 where only a whole pass can tell.
    """

    settings: LoopSettings
    max_epochs: int
    characters: int = 0
    _shards: float = field(init=False)

    def __post_init__(self) -> None:
        self._shards = self.characters / self.settings.shard_size

    def pass_ended(self, last: Position) -> None:
        """Learn from the last place of a pass how many shards there are."""
        self._shards = last.shard + 1

    def updates(self, step: int, seconds: float, now: Position) -> int | None:
        """Return how many updates there will be in all, None where nothing is known."""
        found: list[float] = []
        if self.settings.max_steps:
            found.append(self.settings.max_steps)
        if self.settings.max_seconds:
            found.append(step * self.settings.max_seconds / max(seconds, 1e-9))
        if self.max_epochs and self._shards:
            # The text may hold more than its size in bytes made believe.
            share = min((now.shard + 0.5) / max(self._shards, 1), 1.0)
            found.append(step * self.max_epochs / (now.epoch + share))
        return max(round(min(found)), step) if found else None


def characters_of(path: Path) -> int:
    """Return about how many characters a text has, by the size of its files; 0 if they hide it."""
    total = 0
    for file in text_files(path):
        if kind(file) in DOCBIN:
            return 0
        total += _unpacked(file) if file.suffix.lower() == ".gz" else file.stat().st_size
    return total


def _unpacked(path: Path) -> int:
    """Return the size that a gzipped file states of itself, at its end (RFC 1952)."""
    with path.open("rb") as file:
        file.seek(-_SIZE_OF_GZ, 2)
        return int.from_bytes(file.read(_SIZE_OF_GZ), "little")
