"""What every reader hands over: a table's facts and its rows in blocks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trfnb.vectors.blocks import Block, Floats

Compose = Callable[[Sequence[str]], Floats]


@dataclass(frozen=True)
class FloretSettings:
    """How a floret table turns a word into rows; see `spacy.vectors.Vectors`."""

    minn: int
    maxn: int
    hash_count: int
    hash_seed: int
    bow: str
    eow: str


@dataclass
class Source:
    """A table being read.

    Attributes:
        format: what it is.
        width: values a row.
        blocks: its rows, in the file's order, a block at a time; read once.
        floret: set when rows are floret's hash buckets, keyed by their numbers.
        compose: for tables with subwords, (words) -> (words, width) float32; rows of zeros where
            a word has no subword either.
    """

    format: str
    width: int
    blocks: Iterator[Block]
    floret: FloretSettings | None = None
    compose: Compose | None = None
