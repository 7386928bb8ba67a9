"""Wordpieces -> mini-batches under a budget: padded blocks, or packs without padding.

A `Request` says what of a batch is to be encoded, a `Part` holds what came of one mini-batch. An
encoder of BERT's family reads packs: texts laid end to end, where only attention must know where a
text ends (`Group`). Every other encoder reads padded blocks of texts of about one length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from thinc.types import Floats4d

from .runtime import Runtime
from .wordpieces import Ints, Wordpieces

# (texts, length) of each run of texts of one length, in order, the longest first.
Runs = Sequence[tuple[int, int]]
# Scores (queries times keys, a head) that a run may waste by joining a group: what its own
# operations cost instead.
_WASTE = 2048


@dataclass(frozen=True, eq=False)
class Request:
    """What an engine is to run.

    Attributes:
        wordpieces: A flat batch.
        texts: The numbers of its texts to run.
        layers: Numbers of the layers to return.
        runtime: Precision, budget of a forward pass and engine.
        is_train: Whether to keep what torch needs for a backward pass.
    """

    wordpieces: Wordpieces
    texts: Ints
    layers: Sequence[int]
    runtime: Runtime
    is_train: bool = False


@dataclass(frozen=True, eq=False)
class Part:
    """What one forward pass computed.

    Attributes:
        rows: (n,) where its wordpieces lie in the flat batch.
        states: Layer number -> (n, width) hidden states in fp32.
        attentions: Text number -> (layers, heads, wordpieces, wordpieces), if asked for.
    """

    rows: torch.Tensor
    states: dict[int, torch.Tensor]
    attentions: dict[int, Floats4d] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """A padded block of texts of about the same length.

    Attributes:
        ids: (texts, longest) int64, padded.
        mask: (texts, longest) bool, True at real wordpieces.
        rows: (wordpieces,) int64, where each real position lies in the flat batch.
        texts: (texts,) int64, the texts' numbers in the flat batch.
    """

    ids: Ints
    mask: NDArray[np.bool_]
    rows: Ints
    texts: Ints


@dataclass(frozen=True, eq=False)
class Pack:
    """Texts laid end to end, the longest first.

    Attributes:
        ids: (n,) int64, the texts' wordpieces.
        positions: (n,) int64, each wordpiece's place in its text, from 0.
        rows: (n,) int64, where each lies in the flat batch.
        runs: (texts, length) of each run of texts of one length, in order.
    """

    ids: Ints
    positions: Ints
    rows: Ints
    runs: Runs


@dataclass(frozen=True, eq=False)
class Group:
    """Consecutive texts of a pack that attend as one padded block, the longest first.

    A text's attention is a dozen small operations each way. Texts whose lengths differ a little
    share them; nothing else of a pack is padded.

    Attributes:
        size: (texts, length), the length that all are padded to.
        rows: The texts' rows in the pack.
        places: (rows,) for each row its place in the block; None where nothing is padded.
        sources: (texts * length,) for each place of the block its row, and where there is none
            the first row of the same text; None where nothing is padded.
        real: (texts, 1, 1, length) whether a place holds a wordpiece; None where all do.
    """

    size: tuple[int, int]
    rows: slice
    places: torch.Tensor | None = None
    sources: torch.Tensor | None = None
    real: torch.Tensor | None = None

    def pad(self, rows: torch.Tensor, heads: int) -> torch.Tensor:
        """Lay the group's rows, (n, width), out as (texts, heads, length, width / heads).

        A place without a wordpiece holds its text's first one, not another text's: a number that
        is not finite passes every mask.
        """
        padded = rows if self.sources is None else rows.index_select(0, self.sources)
        return padded.view(*self.size, heads, -1).transpose(1, 2)

    def unpad(self, block: torch.Tensor) -> torch.Tensor:
        """Return a block's real places as rows."""
        flat = block.transpose(1, 2).reshape(self.size[0] * self.size[1], -1)
        return flat if self.places is None else flat.index_select(0, self.places)


def length_sorted(
    lengths: Ints, max_items: int, max_padding: float = math.inf, *, padded: bool = True
) -> list[Ints]:
    """Group texts by length so that padding stays small.

    Args:
        lengths: (texts,) wordpieces of each text.
        max_items: The most positions of a group, padding included; a longer text stands alone.
        max_padding: The most padded positions of a group: what one more forward pass costs,
            counted in positions. 0 makes groups of one length.
        padded: Whether a group is padded at all.

    Returns:
        Groups of indices into `lengths`, the longest texts first; empty texts are in none.
    """
    order = np.argsort(-lengths, kind="stable")
    order, groups = order[lengths[order] > 0], []
    while len(order):
        sizes = lengths[order[:max_items]]
        filled, padding = np.cumsum(sizes), np.cumsum(sizes[0] - sizes)
        fits = (filled + padding * padded <= max_items) & (padding <= max_padding)
        end = max(int(fits.sum()), 1)
        groups.append(order[:end])
        order = order[end:]
    return groups


def micro_batches(
    wordpieces: Wordpieces,
    max_items: int,
    pad_id: int,
    max_padding: float = math.inf,
    texts: Ints | None = None,
) -> list[MicroBatch]:
    """Cut a flat batch of wordpieces, or some of its texts, into padded micro-batches."""
    lengths = wordpieces.lengths
    texts = np.arange(len(lengths)) if texts is None else texts
    batches = []
    for places in length_sorted(lengths[texts], max_items, max_padding):
        group = texts[places]
        mask = np.arange(lengths[group].max()) < lengths[group][:, None]
        rows, _ = text_rows(wordpieces, group)
        ids = np.full(mask.shape, pad_id, dtype="int64")
        ids[mask] = wordpieces.ids[rows]
        batches.append(MicroBatch(ids, mask, rows, group))
    return batches


def packs(wordpieces: Wordpieces, max_items: int, texts: Ints) -> list[Pack]:
    """Cut texts into packs under a budget; a longer text stands alone.

    Args:
        wordpieces: A flat batch.
        max_items: The most wordpieces of a pack.
        texts: The numbers of the texts to lay out; empty ones are left out.
    """
    found = []
    for places in length_sorted(wordpieces.lengths[texts], max_items, padded=False):
        own = texts[places]
        rows, positions = text_rows(wordpieces, own)
        negative, counts = np.unique(-wordpieces.lengths[own], return_counts=True)
        runs = list(zip(counts.tolist(), (-negative).tolist(), strict=True))
        found.append(Pack(wordpieces.ids[rows], positions, rows, runs))
    return found


def text_rows(wordpieces: Wordpieces, texts: Ints) -> tuple[Ints, Ints]:
    """Return the rows of some texts in the flat batch, text after text, and their positions."""
    lengths = wordpieces.lengths[texts]
    positions = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(wordpieces.starts[texts], lengths) + positions, positions


def put_rows(states: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> None:
    """Write values into rows; torch's threads would wait for cores that OpenVINO works on."""
    if states.is_cpu:
        states.numpy()[rows.numpy()] = values.numpy()
    else:
        states[rows] = values


def originals(wordpieces: Wordpieces) -> Ints:
    """Return for each text the number of the first one that has the same wordpieces."""
    first: dict[bytes, int] = {}
    texts = enumerate(zip(wordpieces.starts, wordpieces.lengths, strict=True))
    found = [first.setdefault(wordpieces.ids[at : at + n].tobytes(), i) for i, (at, n) in texts]
    return np.asarray(found, dtype="int64")


def grouped(runs: Runs, waste: int = _WASTE) -> list[Group]:
    """Join runs of texts of one length into groups of about one length.

    Args:
        runs: (texts, length) of each run, the longest first.
        waste: The most padded scores that a run may cost by joining the group before it; 0 pads
            nothing.
    """
    joined: list[list[tuple[int, int]]] = []
    longest = math.inf
    for count, length in runs:
        if count * (longest**2 - length**2) > waste:
            joined.append([])
            longest = length
        joined[-1].append((count, length))
    groups, first = [], 0
    for group in joined:
        groups.append(_group(group, first))
        first = groups[-1].rows.stop
    return groups


# Return the group of some runs whose rows begin at a place of their pack.
def _group(runs: Runs, first: int) -> Group:
    counts, sizes = np.array(runs).T
    lengths, columns = np.repeat(sizes, counts), np.arange(sizes[0])
    size, rows = (len(lengths), len(columns)), slice(first, first + int(lengths.sum()))
    real = columns < lengths[:, None]
    if real.all():
        return Group(size, rows)
    starts = (np.cumsum(lengths) - lengths)[:, None]
    arrays = (np.flatnonzero(real), (starts + np.where(real, columns, 0)).ravel(), real)
    places, sources, mask = (torch.from_numpy(one) for one in arrays)
    return Group(size, rows, places, sources, mask[:, None, None])
