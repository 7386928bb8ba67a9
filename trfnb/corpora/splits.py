"""Which sentences train and which score: held-out documents, samples, limits."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from trfnb.corpora.sentence import Sentence


def hold_out(
    sentences: Sequence[Sentence], fraction: float, seed: int
) -> tuple[list[Sentence], list[Sentence]]:
    """Split one file's sentences in two, whole documents at a time where it has several.

    Args:
        sentences: All sentences.
        fraction: About what share of them to hold out; at least one, never all.
        seed: Chooses which.

    Returns:
        Sentences to train on and held-out ones, each in their order.
    """
    groups: dict[str | int, list[int]] = defaultdict(list)
    ids = {s.doc_id for s in sentences}
    by_document = len(ids) >= 2 / fraction
    for i, sentence in enumerate(sentences):
        key = sentence.doc_id if by_document and sentence.doc_id is not None else i
        groups[key].append(i)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    held: set[int] = set()
    for group in order[:-1]:
        if len(held) >= fraction * len(sentences):
            break
        held.update(group)
    return (
        [s for i, s in enumerate(sentences) if i not in held],
        [s for i, s in enumerate(sentences) if i in held],
    )


def sample(sentences: Sequence[Sentence], limit: int | None, seed: int) -> list[Sentence]:
    """Return ``limit`` sentences (all if ``None``) chosen by the seed, in their order."""
    if limit is None or limit >= len(sentences):
        return list(sentences)
    chosen = sorted(random.Random(seed).sample(range(len(sentences)), limit))
    return [sentences[i] for i in chosen]


def shuffled(sentences: Iterable[Sentence], limit: int | None, seed: int) -> list[Sentence]:
    """Return the sentences in the seed's order, the first ``limit`` of them."""
    order = list(sentences)
    random.Random(seed).shuffle(order)
    return order[:limit]


def complete_cats(splits: Sequence[list[Sentence]]) -> list[list[Sentence]]:
    """Give every categorised sentence a value for every category, 0 where it had none.

    spaCy takes a category that is not there for unknown, and would learn nothing from it.
    """
    names = sorted({name for split in splits for s in split for name in s.cats or ()})
    zeros = dict.fromkeys(names, 0.0)
    return [
        [s if s.cats is None else replace(s, cats={**zeros, **s.cats}) for s in split]
        for split in splits
    ]
