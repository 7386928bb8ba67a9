import numpy as np
import pytest
import spacy

from trfnb.pretraining.distillation import Transformer
from trfnb.pretraining.teacher import CachedTeacher

NLP = spacy.blank("en")
DOCS = [NLP.make_doc(text) for text in ("Ada left", "the bank", "Ada left", "a b c")]


class Counting:
    width, name = 3, "counting"

    def __init__(self):
        self.asked = []

    def __call__(self, docs):
        self.asked += [doc.text for doc in docs]
        return [np.full((len(doc), 3), len(doc.text) + i / 8, "f") for i, doc in enumerate(docs)]


def test_a_text_is_asked_for_once(tmp_path):
    teacher = Counting()
    cached = CachedTeacher(teacher, tmp_path)
    first = cached(DOCS)
    second = CachedTeacher(teacher, tmp_path)(DOCS)
    assert teacher.asked == ["Ada left", "the bank", "a b c"]
    assert len(cached) == 3
    for a, b, doc in zip(first, second, DOCS, strict=True):
        assert a.shape == (len(doc), 3)
        np.testing.assert_array_equal(a, b)


def test_what_a_dying_process_left_half_done_is_asked_again(tmp_path):
    teacher = Counting()
    expected = CachedTeacher(teacher, tmp_path)(DOCS)
    rows, index = tmp_path / "rows.f16", tmp_path / "index.jsonl"
    rows.write_bytes(rows.read_bytes()[:-5])
    index.write_text(index.read_text() + '["half')
    again = CachedTeacher(teacher, tmp_path)
    for a, b in zip(again(DOCS)[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    assert teacher.asked[-1] == "a b c"
    assert again(DOCS)[3].shape == (3, 3)


def test_anothers_cache_is_refused(tmp_path):
    CachedTeacher(Counting(), tmp_path)
    other = Counting()
    other.name = "other"
    with pytest.raises(ValueError, match="Name another cache folder"):
        CachedTeacher(other, tmp_path)


def test_a_transformer_teaches_means_of_its_wordpieces(tiny):
    import trfnb

    teacher = Transformer(tiny)
    doc = NLP.make_doc("paris meets unable april")
    nlp = spacy.blank("en")
    nlp.add_pipe("trfnb_transformer", config={"model": {"name": tiny}})
    nlp.initialize()
    expected = trfnb.token_vectors(nlp(doc.text))
    np.testing.assert_allclose(teacher([doc])[0], expected, atol=1e-5)
    assert teacher.width == 16
