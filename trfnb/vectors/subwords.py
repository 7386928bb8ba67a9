"""Vectors of character n-grams, taken from the words of a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trfnb.vectors.blocks import Floats
from trfnb.vectors.hashing import fasttext_ngram_rows

_WORDS = 4096


def bucket_table(vectors: Any, buckets: int, *, minn: int, maxn: int) -> Floats:
    """Average, for each hash bucket, the vectors of the table's words with an n-gram in it.

    Args:
        vectors: spaCy `Vectors` in default mode.
        buckets: rows of the result.
        minn: shortest n-gram in characters.
        maxn: longest n-gram in characters.

    Returns:
        (buckets, table width) float32; zeros for a bucket that no word reaches.
    """
    from thinc.backends import get_array_ops

    ops = get_array_ops(vectors.data)
    keys = [key for key in vectors.key2row if key in vectors.strings]
    sums = np.zeros((buckets, vectors.shape[1]), dtype=np.float32)
    counts = np.zeros(buckets, dtype=np.int64)
    for start in range(0, len(keys), _WORDS):
        part = keys[start : start + _WORDS]
        rows = np.array([vectors.key2row[key] for key in part])
        words = [vectors.strings[key] for key in part]
        table = np.asarray(ops.to_numpy(vectors.data[ops.asarray(rows)]), dtype=np.float32)
        word, bucket = fasttext_ngram_rows(words, first=0, buckets=buckets, minn=minn, maxn=maxn)
        # Sorted by bucket, each bucket's vectors are added up in one go.
        order = np.argsort(bucket, kind="stable")
        word, bucket = word[order], bucket[order]
        if len(bucket):
            begins = np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1]))
            sums[bucket[begins]] += np.add.reduceat(table[word], begins, axis=0)
            counts += np.bincount(bucket, minlength=buckets)
    sums /= np.maximum(counts, 1).astype(np.float32)[:, None]
    return sums


def compose_from_buckets(buckets: Floats, words: Sequence[str], *, minn: int, maxn: int) -> Floats:
    """Return each word's mean over its n-grams' buckets; zeros for a word without an n-gram."""
    word, bucket = fasttext_ngram_rows(words, first=0, buckets=len(buckets), minn=minn, maxn=maxn)
    total = np.zeros((len(words), buckets.shape[1]), dtype=np.float32)
    np.add.at(total, word, buckets[bucket])
    counts = np.bincount(word, minlength=len(words))
    total /= np.maximum(counts, 1).astype(np.float32)[:, None]
    return total
