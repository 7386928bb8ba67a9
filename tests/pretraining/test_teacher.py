import numpy as np
import spacy

import trfnb
from trfnb.pretraining.teacher import CachedTeacher, Transformer

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
    for a, b, doc in zip(first, second, DOCS, strict=True):
        assert a.shape == (len(doc), 3)
        np.testing.assert_array_equal(a, b)


def test_another_teacher_gives_its_own_answers(tmp_path):
    CachedTeacher(Counting(), tmp_path)(DOCS)
    other = Counting()
    other.name = "other"
    CachedTeacher(other, tmp_path)(DOCS)
    assert other.asked == ["Ada left", "the bank", "a b c"]


def test_a_transformer_teaches_means_of_its_wordpieces(tiny):
    teacher = Transformer(tiny)
    doc = NLP.make_doc("paris meets unable april")
    nlp = spacy.blank("en")
    nlp.add_pipe("trfnb_transformer", config={"model": {"name": tiny}})
    nlp.initialize()
    expected = trfnb.token_vectors(nlp(doc.text))
    np.testing.assert_allclose(teacher([doc])[0], expected, atol=1e-5)
    assert teacher.width == 16
