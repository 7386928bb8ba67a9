"""Which words get a row of their own in a small learned table: the frequent ones of a corpus."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spacy.tokens import Doc
from spacy.util import registry
from spacy.vocab import Vocab

from trfnb.vectors.report import VectorsError
from trfnb.vectors.wanted import corpus_words

_ATTRS = {"ORTH": "orth", "LOWER": "lower", "NORM": "norm"}


def key_map(
    counts: Counter[str], vocab: Vocab, rows: int, *, attr: str = "ORTH", min_count: int = 1
) -> dict[int, int]:
    """Number the most frequent words' keys from 1; row 0 is left for all others.

    Args:
        counts: how often each word occurs.
        vocab: its string store hashes the words.
        rows: rows of the learned table, the first included.
        attr: ORTH, LOWER or NORM.
        min_count: leave rarer words out.
    """
    if attr not in _ATTRS:
        raise VectorsError(f"Expected attr among {', '.join(_ATTRS)}, got {attr!r}.")
    by_key: Counter[int] = Counter()
    for word, count in counts.items():
        by_key[int(getattr(vocab[word], _ATTRS[attr]))] += count
    frequent = [key for key, count in by_key.most_common(max(rows - 1, 0)) if count >= min_count]
    return {key: row for row, key in enumerate(frequent, start=1)}


def map_from(
    corpus: str | None, docs: Iterable[Doc], vocab: Vocab, rows: int, *, attr: str = "ORTH"
) -> dict[int, int]:
    """Build the key map from a corpus by name or path, else from the Docs at hand."""
    counts = corpus_words(corpus if corpus is not None else list(docs))
    return key_map(counts, vocab, rows, attr=attr)


@registry.misc("trfnb.key2row.v1")
def configure_key2row(
    corpus: str | None = None, rows: int = 2000, attr: str = "ORTH"
) -> dict[int, int]:
    """Build a key map inside a config, for layers of your own that take one.

    A pipeline's config is resolved again when the pipeline is loaded, perhaps where the corpus is
    not: the map is then empty, and the one saved with the layer takes its place.
    """
    if corpus is None or (("/" in corpus or "." in corpus) and not Path(corpus).exists()):
        return {}
    vocab: Any = Vocab()
    return map_from(corpus, [], vocab, rows, attr=attr)
