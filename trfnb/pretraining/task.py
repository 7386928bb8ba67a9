"""What a head has to tell of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc


@dataclass(frozen=True)
class Task:
    """What a head has to tell of a batch of docs.

    Attributes:
        words: What the body reads, by doc.
        looked_at: Which of all words are predicted, one doc after another.
    """

    words: list[list[str]]
    looked_at: NDArray[np.bool_]


# Docs and a random generator -> the task; then original and seen words of one process's docs and
# the rows looked at -> targets.
MakeTask = Callable[[Sequence[Doc], np.random.Generator], Task]
Targets = Callable[[Sequence[Doc], list[list[str]], NDArray[np.int64]], Any]
