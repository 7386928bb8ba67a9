"""Alignment by tokenizers other than WordPiece, on text that is hard to align."""

import unicodedata
from functools import partial

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers_of_kinds import KINDS

from trfnb.flow.alignment import align
from trfnb.flow.spans import StridedSpans, WordpieceSpans, get_doc_spans
from trfnb.flow.wordpieces import encode

nlp = spacy.blank("xx")
HARD = {
    "emoji": "I 👩‍👩‍👧‍👦 love 🇫🇷 and 👍🏽 !",
    "combining": "cafe\u0301 na\u0308ive Z\u0351\u036b\u0343 a\u0300\u0301",
    "right-to-left": "שָׁלוֹם עולם مرحبا بالعالم , ok",
    "cjk": "你好世界。 こんにちは 한국어 𠀋",
    "control": "a\x00b \x01 c\u200bd \u200e e\ufefff \x7f",
    "long": "x" * 2000,
    "empty": "",
    "spaces": "   \n\t ",
    "mixed spaces": " two  words \n\n here\t",
    "ligatures": "ﬁne ½ ① ｆｕｌｌ Å ß İ",
}


def is_visible(text):
    """Whether a text has a character that a reader sees by itself."""
    return any(unicodedata.category(c)[0] in "LNPS" for c in text)


def check(tokenizer, docs, get_spans=get_doc_spans, every_visible=True):
    spans = get_spans(docs)
    flat = [span for one in spans for span in one]
    pieces = encode(tokenizer, [span.text for span in flat])
    alignment = align(docs, spans, pieces)
    span_of = np.repeat(np.arange(len(pieces.lengths)), pieces.lengths)
    tokens = [token for doc in docs for token in doc]
    assert len(alignment.lengths) == len(tokens)
    ends = np.cumsum(alignment.lengths)
    for token, n, end in zip(tokens, alignment.lengths, ends, strict=True):
        rows = alignment.dataXd[end - n : end]
        assert len(set(rows.tolist())) == n, "no row twice"
        for row in rows:
            start, stop = pieces.offsets[row] + flat[span_of[row]].start_char
            assert flat[span_of[row]].doc is token.doc
            assert start < token.idx + len(token)
            assert stop > token.idx
        if every_visible and is_visible(token.text):
            assert n, f"{token.text!r} ({[hex(ord(c)) for c in token.text]}) has no row"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", HARD.values(), ids=HARD)
def test_hard_texts(kind, text):
    check(KINDS[kind](), [nlp("the bank"), nlp(text), nlp("")])


@pytest.mark.parametrize("kind", KINDS)
def test_windows_cut_nothing(kind):
    tokenizer = KINDS[kind]()
    docs = [nlp(text) for text in HARD.values() if len(text) < 100]
    get_spans = partial(WordpieceSpans(12, 6), tokenizer=tokenizer, limit=64)
    spans = get_spans(docs)
    for doc, its in zip(docs, spans, strict=True):
        assert {token.i for span in its for token in span} == set(range(len(doc)))
    check(tokenizer, docs, get_spans)
    texts = [span.text for one in spans for span in one if len(span) > 1]
    assert encode(tokenizer, texts).lengths.max() <= 12


@pytest.mark.parametrize("kind", KINDS)
def test_empty_batches(kind):
    check(KINDS[kind](), [])
    check(KINDS[kind](), [nlp(""), nlp("")])


LETTERS = st.text(
    st.one_of(
        st.characters(codec="utf-8", exclude_categories=["Cs", "Co", "Cn"]),
        st.sampled_from("abc ,.'\n\u0301\u200d👍🏽שا世ﬁ"),
    ),
    max_size=30,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(LETTERS, max_size=3), window=st.integers(1, 6))
def test_any_text(kind, texts, window):
    check(KINDS[kind](), [nlp(text) for text in texts], StridedSpans(window, window))
