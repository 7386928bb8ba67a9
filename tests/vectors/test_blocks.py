from hypothesis import given
from hypothesis import strategies as st
from spacy.strings import hash_string
from spacy.symbols import IDS

from trfnb.vectors.blocks import fasttext_ngram_rows, murmur64

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=90)


@given(st.lists(TEXT, min_size=1, max_size=20))
def test_keys_hash_as_in_spacy(words):
    words = [word for word in words if word not in IDS] or ["word"]
    assert murmur64(words).tolist() == [hash_string(word) for word in words]


def test_ngrams_by_hand():
    def bucket(ngram: bytes) -> int:
        h = 2166136261
        for byte in ngram:
            h = ((h ^ byte) * 16777619) & 0xFFFFFFFF
        return h % 5

    word, row = fasttext_ngram_rows(["ab", "q"], buckets=5, minn=1, maxn=2)
    expected = {0: [b"a", b"b", b"<a", b"ab", b"b>"], 1: [b"q", b"<q", b"q>"]}
    for number, ngrams in expected.items():
        assert sorted(row[word == number].tolist()) == sorted(map(bucket, ngrams))
