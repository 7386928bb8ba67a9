import pytest
import spacy
from spacy.tokens import Doc

from trfnb.flow.spans import StridedSpans, checked_spans, get_doc_spans, get_sent_spans

nlp = spacy.blank("en")


def doc(n: int) -> Doc:
    return Doc(nlp.vocab, words=[str(i) for i in range(n)])


def bounds(spans):
    return [[(s.start, s.end) for s in one] for one in spans]


def test_doc_spans():
    assert bounds(get_doc_spans([doc(3), doc(0)])) == [[(0, 3)], [(0, 0)]]


@pytest.mark.parametrize(
    ("n", "window", "stride", "expected"),
    [
        (5, 3, 2, [(0, 3), (2, 5)]),
        (6, 3, 2, [(0, 3), (2, 5), (4, 6)]),
        (3, 3, 3, [(0, 3)]),
        (2, 3, 1, [(0, 2)]),
        (7, 3, 3, [(0, 3), (3, 6), (6, 7)]),
        (0, 3, 3, [(0, 0)]),
    ],
)
def test_strided_spans(n, window, stride, expected):
    assert bounds(StridedSpans(window, stride)([doc(n)])) == [expected]


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (3, 0), (2, 3), (3, -1)])
def test_strided_spans_would_skip_tokens(window, stride):
    with pytest.raises(ValueError, match=f"window={window}, stride={stride}"):
        StridedSpans(window, stride)


def test_sent_spans():
    one = Doc(nlp.vocab, words=["a", "b", "c"], sent_starts=[True, False, True])
    assert bounds(get_sent_spans([one])) == [[(0, 2), (2, 3)]]
    with pytest.raises(ValueError, match="sentencizer"):
        get_sent_spans([doc(2)])


def test_a_wrong_span_getter_is_named():
    a, b = doc(2), doc(3)

    for answer, error, message in [
        (None, TypeError, "'broken': expected 2 lists of spans, one per doc, got None"),
        ([[a[:]]], TypeError, r"'broken': expected 2 lists of spans, one per doc, got \[\[0 1\]\]"),
        ([a[:], b[:]], TypeError, "'broken': expected 2 lists of spans, one per doc"),
        (
            [["a"], [b[:]]],
            ValueError,
            r"'broken': expected spans of the doc '0 1 ', got str \('a'\)",
        ),
        ([[b[:]], [b[:]]], ValueError, r"got a span of another doc \('0 1 2'\)"),
    ]:

        def broken(docs, answer=answer):
            return answer

        with pytest.raises(error, match=message):
            checked_spans(broken, [a, b])
