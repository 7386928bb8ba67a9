"""Hidden states on disk by content: a sweep over heads on a frozen encoder embeds a corpus once."""

import sqlite3
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .wordpieces import Wordpieces

States = dict[int, NDArray[np.float32]]
_AT_ONCE = 500
_PATIENCE = 60.0


class StateCache:
    """Hidden states of texts in one SQLite file, which several processes may share.

    A key holds a hash of the weights, so that other weights, or those of a later step, never meet.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._weights: tuple[torch.Tensor, bytes] | None = None

    def keys(
        self, body: torch.nn.Module, wordpieces: Wordpieces, texts: Iterable[int], precision: str
    ) -> list[bytes]:
        """Return each text's key: weights, precision, wordpieces."""
        prefix = self._fingerprint(body) + precision.encode()
        ends = np.cumsum(wordpieces.lengths)
        return [
            sha256(prefix + wordpieces.ids[ends[i] - wordpieces.lengths[i] : ends[i]].tobytes())
            .digest()
            for i in texts
        ]  # fmt: skip

    def read(self, keys: Sequence[bytes], layers: Sequence[int]) -> dict[bytes, States]:
        """Return the states of the texts of which every layer asked for is there."""
        if not self.path.exists():
            return {}
        found: dict[bytes, States] = {}
        with self._open() as file:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                numbers = ",".join(str(int(layer)) for layer in layers)
                rows = file.execute(
                    f"SELECT key, layer, width, states FROM states "
                    f"WHERE key IN ({marks}) AND layer IN ({numbers})",
                    some,
                )
                for key, layer, width, states in rows:
                    one = np.frombuffer(states, dtype="float32").reshape(-1, width)
                    found.setdefault(key, {})[layer] = one
        file.close()
        return {key: states for key, states in found.items() if len(states) == len(layers)}

    def write(self, states: Iterable[tuple[bytes, States]]) -> None:
        """Add texts' states; those that are there already stay."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = (
            (key, layer, one.shape[1], np.ascontiguousarray(one, dtype="float32").tobytes())
            for key, layers in states
            for layer, one in layers.items()
        )
        with self._open() as file:
            file.executemany("INSERT OR IGNORE INTO states VALUES (?, ?, ?, ?)", rows)
        file.close()

    def _open(self) -> sqlite3.Connection:
        file = sqlite3.connect(self.path, timeout=_PATIENCE)
        file.execute(
            "CREATE TABLE IF NOT EXISTS states (key BLOB, layer INTEGER, width INTEGER, "
            "states BLOB, PRIMARY KEY (key, layer)) WITHOUT ROWID"
        )
        return file

    def _fingerprint(self, body: torch.nn.Module) -> bytes:
        """Return a hash of all weights, made anew once they have moved."""
        arrays: Any = [one.detach() for one in body.state_dict().values()]
        parts = [one.flatten()[:: one.numel() // 64 + 1].double().cpu() for one in arrays]
        sample = torch.cat(parts)
        if self._weights is None or not torch.equal(self._weights[0], sample):
            digest = sha256(type(body).__name__.encode())
            for one in arrays:
                digest.update(one.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
            self._weights = sample, digest.digest()
        return self._weights[1]
