import numpy as np
import spacy

import trfnb
from trfnb.pretraining.teacher import CachedTeacher, PretrainDistillation

NLP = spacy.blank("en")
DOCS = [NLP.make_doc(text) for text in ("Ada left", "the bank", "Ada left", "a b c")]


class Counting:
    def __init__(self):
        self.asked = []

    def __call__(self, docs):
        self.asked += [doc.text for doc in docs]
        return [np.full((len(doc), 3), len(doc.text) + i / 8, "f") for i, doc in enumerate(docs)]


def test_a_text_is_asked_for_once(tmp_path):
    teacher = Counting()
    cached = CachedTeacher(teacher, "one", tmp_path)
    first = cached(DOCS)
    second = CachedTeacher(teacher, "one", tmp_path)(DOCS)
    assert teacher.asked == ["Ada left", "the bank", "a b c"]
    for a, b, doc in zip(first, second, DOCS, strict=True):
        assert a.shape == (len(doc), 3)
        np.testing.assert_array_equal(a, b)


def test_another_teacher_gives_its_own_answers(tmp_path):
    CachedTeacher(Counting(), "one", tmp_path)(DOCS)
    other = Counting()
    CachedTeacher(other, "other", tmp_path)(DOCS)
    assert other.asked == ["Ada left", "the bank", "a b c"]


def test_targets_are_the_means_of_the_teachers_wordpieces(tiny, tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("trfnb_transformer", config={"model": {"name": tiny}})
    nlp.initialize()
    doc = nlp("paris meets unable april")
    expected = trfnb.token_vectors(doc)[[0, 2, 3]]
    tok2vec = spacy.blank("en").add_pipe("tok2vec").model
    for cache, tolerance in ((None, 1e-5), (tmp_path, 1e-2)):
        model = PretrainDistillation(tiny, cache=cache)(nlp.vocab, tok2vec)
        found = model.attrs["targets"]([doc], [], np.array([0, 2, 3]))
        np.testing.assert_allclose(found, expected, atol=tolerance)
