import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from thinc.api import reduce_first, reduce_last, reduce_max, reduce_mean, reduce_sum
from thinc.types import Ragged
from transformers import AutoTokenizer

from trfnb.flow.alignment import align, pool
from trfnb.flow.spans import StridedSpans, get_doc_spans
from trfnb.flow.wordpieces import Wordpieces, encode

nlp = spacy.blank("en")


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return AutoTokenizer.from_pretrained(tiny)


def aligned(tokenizer, docs, get_spans=get_doc_spans, max_length=None):
    """Return for each token of each doc the wordpieces that it was given."""
    spans = get_spans(docs)
    pieces = encode(tokenizer, [span.text for one in spans for span in one], max_length)
    alignment = align(docs, spans, pieces)
    words = tokenizer.convert_ids_to_tokens(pieces.ids.tolist())
    ends = np.cumsum(alignment.lengths)
    rows = [
        alignment.dataXd[e - n : e].tolist() for e, n in zip(ends, alignment.lengths, strict=True)
    ]
    return pieces, [[words[i] for i in one] for one in rows], rows


def test_words_parts_and_punctuation(tokenizer):
    _, found, _ = aligned(tokenizer, [nlp("Unable, the bank"), nlp("paris")])
    assert found == [["un", "##able"], [","], ["the"], ["bank"], ["paris"]]


def test_whitespace_and_empty_docs_have_no_rows(tokenizer):
    _, found, _ = aligned(tokenizer, [nlp(""), nlp("   "), nlp("a  b"), nlp("")])
    assert found == [[], ["a"], [], ["b"]]


def test_a_wordpiece_may_span_tokens():
    doc = nlp("can't stop")  # tokens: ca n't stop
    pieces = Wordpieces(
        np.asarray([1, 2]), np.asarray([[0, 5], [6, 10]]), np.asarray([2]), np.asarray([0])
    )
    alignment = align([doc], [[doc[:]]], pieces)
    assert alignment.lengths.tolist() == [1, 1, 1]
    assert alignment.dataXd.tolist() == [0, 0, 1]


def test_overlapping_spans_and_gaps(tokenizer):
    doc = nlp("the bank in the river")
    _, found, rows = aligned(tokenizer, [doc], lambda docs: [[doc[0:2], doc[1:3]]])
    assert found == [["the"], ["bank", "bank"], ["in"], [], []]
    assert rows[1] == [2, 5]


def test_truncated_tokens_have_no_rows(tokenizer):
    pieces, found, _ = aligned(tokenizer, [nlp("the bank in the river")], max_length=4)
    assert found == [["the"], ["bank"], [], [], []]
    assert pieces.truncated.tolist() == [3]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4), st.integers(1, 8), st.integers(1, 8))
def test_rows_share_characters_with_their_token(texts, window, stride):
    tokenizer = test_rows_share_characters_with_their_token.tokenizer
    docs = [nlp(text) for text in texts]
    get_spans = StridedSpans(window, min(stride, window))
    spans = get_spans(docs)
    pieces, _, rows = aligned(tokenizer, docs, get_spans)
    span_of = np.repeat(np.arange(len(pieces.lengths)), pieces.lengths)
    flat = [span for one in spans for span in one]
    tokens = [token for doc in docs for token in doc]
    for token, its_rows in zip(tokens, rows, strict=True):
        for row in its_rows:
            span = flat[span_of[row]]
            start, end = pieces.offsets[row] + span.start_char
            assert span.doc is token.doc
            assert start < token.idx + len(token)
            assert end > token.idx
        if token.text.isascii() and token.text.isalnum():
            assert its_rows, f"{token.text!r} has no row"


@pytest.fixture(autouse=True)
def _lend_tokenizer(tokenizer):
    # hypothesis draws its own arguments beside fixtures of a module's scope
    test_rows_share_characters_with_their_token.tokenizer = tokenizer


ROWS = np.asarray([[0.0, 1.0], [2.0, 5.0], [4.0, 3.0]], dtype="float32")
# three tokens: rows 1 and 2, none, row 2 again
ALIGN = Ragged(np.asarray([1, 2, 2], dtype="int32"), np.asarray([2, 0, 1], dtype="int32"))


@pytest.mark.parametrize(
    ("pooling", "first"),
    [
        (reduce_mean, [3, 4]),
        (reduce_max, [4, 5]),
        (reduce_sum, [6, 8]),
        (reduce_first, [2, 5]),
        (reduce_last, [4, 3]),
    ],
)
def test_each_reduction(pooling, first):
    vectors, _ = pool(pooling(), ROWS, ALIGN, is_train=False)
    assert vectors.tolist() == [first, [0, 0], [4, 3]]


@pytest.mark.parametrize(
    "pooling", [reduce_mean, reduce_max, reduce_sum, reduce_first, reduce_last]
)
def test_gradient_by_finite_differences(pooling):
    weights = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")
    _, backprop = pool(pooling(), ROWS, ALIGN, is_train=True)
    gradient = backprop(weights.copy())
    for index in np.ndindex(ROWS.shape):
        ends = []
        for step in (0.25, -0.25):
            moved = ROWS.copy()
            moved[index] += step
            ends.append(float((pool(pooling(), moved, ALIGN, False)[0] * weights).sum()))
        assert gradient[index] == pytest.approx((ends[0] - ends[1]) / 0.5, abs=1e-4)


def test_no_token_has_a_row():
    none = Ragged(np.zeros(0, dtype="int32"), np.zeros(2, dtype="int32"))
    vectors, backprop = pool(reduce_mean(), ROWS, none, is_train=True)
    assert vectors.tolist() == [[0, 0], [0, 0]]
    assert not backprop(np.ones((2, 2), dtype="f")).any()
