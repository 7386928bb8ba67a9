"""Batches of Docs from a stream of records, tokenised ahead, from any place in the stream.

Records are taken in shards of about the same size. Shuffling and batching happen within a shard
and follow from its number alone, so that going on in the middle of a text needs two numbers: the
shard, and how many of its batches were used.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc

from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.reader import Text
from trfnb.pretraining.text import Record
from trfnb.pretraining.tokenising import Pieces, Shard, Tokenisers, cut


@dataclass(frozen=True, order=True)
class Position:
    """A place in the stream: what comes next is batch ``batch`` of shard ``shard``."""

    epoch: int = 0
    shard: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Stream:
    """Batches of a text.

    Attributes:
        nlp: Tokenises.
        text: Where the records come from.
        batcher: Groups Docs, as ``[pretraining.batcher]`` does.
        held_out: Numbers of records that are left for the dev loss.
        shard_size: Characters of a shard, about.
        shuffle: Mix the docs of each shard.
        seed: Of the mixing.
        workers: Processes that tokenise ahead; 0 tokenises in this one.
        code: A file of registered functions that these import first.
    """

    nlp: Language
    text: Text
    batcher: Callable[[Iterable[Doc]], Iterable[list[Doc]]]
    held_out: frozenset[int] = frozenset()
    shard_size: int = 400_000
    shuffle: bool = True
    seed: int = 0
    workers: int = 0
    code: str | Path | None = None

    def batches(self, start: Position, epochs: int) -> Iterator[tuple[Position, list[Doc]]]:
        """Yield batches from a place on, each with the place after it, ``epochs`` times over all.

        Raises:
            PretrainingError: a whole pass gave no batch.
        """
        with Tokenisers(self.nlp, self.text, self.workers, self.code) as tokenisers:
            for epoch in range(start.epoch, epochs or 2**62):
                first = start.shard if epoch == start.epoch else 0
                empty = first == 0
                self.text.skipped.begin()
                for shard, pieces in tokenisers.ahead(self._shards(first)):
                    used = start.batch if (epoch, shard) == (start.epoch, start.shard) else 0
                    for number, docs in enumerate(self._batches(epoch, shard, pieces), start=1):
                        empty = False
                        if number > used:
                            yield Position(epoch, shard, number), docs
                if empty:
                    raise PretrainingError(
                        f"{self.text.path}: expected text to train on, got no batch. Lower "
                        "min_length, raise max_length, or give more text."
                    )

    def _shards(self, first: int) -> Iterator[Shard]:
        for number, shard in enumerate(shards(self.text.records(), self.shard_size, self.held_out)):
            if number >= first:
                yield number, shard

    def _batches(self, epoch: int, shard: int, pieces: Pieces) -> Iterable[list[Doc]]:
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch, shard]).permutation(len(pieces))
            pieces = [pieces[i] for i in order]
        return map(list, self.batcher(docs_of(self.nlp, pieces)))


def batch_size(batcher: Callable[..., Any]) -> Any:
    """Return the size that one of spaCy's batchers was made with; 0 for any other batcher."""
    return getattr(batcher, "keywords", {}).get("size", 0)


def shards(stream: Iterable[Record], size: int, held_out: frozenset[int]) -> Iterator[list[Record]]:
    """Yield records in groups of about ``size`` characters, without those held out."""
    group: list[Record] = []
    length = 0
    for number, record in enumerate(stream):
        if number in held_out:
            continue
        group.append(record)
        length += len(record) if isinstance(record, str) else sum(map(len, record[0]))
        if length >= size:
            yield group
            group, length = [], 0
    if group:
        yield group


def docs_of(nlp: Language, pieces: Pieces) -> Iterator[Doc]:
    """Make Docs of words and spaces."""
    for words, spaces in pieces:
        yield Doc(nlp.vocab, words=words, spaces=spaces)


def held_out(
    nlp: Language, text: Text, words: int, every: int = 10
) -> tuple[frozenset[int], Pieces]:
    """Choose records for the dev loss: each ``every``-th until they have enough words.

    Returns:
        The records' numbers, and their docs.
    """
    numbers: set[int] = set()
    pieces: Pieces = []
    found = 0
    for number, record in enumerate(text.records()):
        if found >= words:
            break
        if number % every == every - 1:
            numbers.add(number)
            new = cut(nlp, text, [record])
            pieces += new
            found += sum(len(one) for one, _ in new)
    return frozenset(numbers), pieces
