"""The next batch is tokenised while the encoder runs over this one."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_pipelines import transformer_pipeline

import trfnb
from trfnb.pipe.ahead import one_ahead

TEXTS = ["paris meets april in the bank", "the river", "", "unable plans of the river bank"]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_next_batch_is_begun_before_this_one_is_used():
    begun = threading.Semaphore(0)

    def work(batch):
        begun.release()
        return batch * 2

    found = []
    for n, (batch, made) in enumerate(one_ahead(work, [1, 2, 3])):
        # This batch's work, and the next one's where there is one.
        for _ in range(2 if n == 0 else (1 if n == 1 else 0)):
            assert begun.acquire(timeout=30)
        found.append((batch, made.result()))
    assert found == [(1, 2), (2, 4), (3, 6)]


def test_an_error_comes_with_its_batch():
    found = []
    for batch, made in one_ahead(lambda batch: 1 // batch, [1, 0, 1]):
        found.append((batch, type(made.exception()).__name__))
    assert found == [(1, "NoneType"), (0, "ZeroDivisionError"), (1, "NoneType")]


def test_an_error_in_drawing_comes_after_the_batches_before():
    def batches():
        yield from (1, 2)
        raise KeyError("no more")

    found = []
    with pytest.raises(KeyError, match="no more"):
        found.extend(made.result() for _, made in one_ahead(lambda batch: batch, batches()))
    assert found == [1, 2]


def test_a_thread_that_starts_nothing_any_more_is_done_without(monkeypatch):
    class Closed(ThreadPoolExecutor):
        def submit(self, *given):
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr("trfnb.pipe.ahead.ThreadPoolExecutor", Closed)
    assert [made.result() for _, made in one_ahead(lambda batch: batch, [1, 2])] == [1, 2]


def test_leaving_early_leaves_no_thread():
    for _ in one_ahead(lambda batch: batch, iter(range(100))):
        break
    assert not [one for one in threading.enumerate() if one.name.startswith("trfnb-ahead")]


def test_vectors_are_those_of_single_docs(tiny, threads):
    nlp = transformer_pipeline(tiny)
    expected = [trfnb.token_vectors(nlp(text)) for text in TEXTS]
    found = [trfnb.token_vectors(doc) for doc in nlp.pipe(TEXTS * 3, batch_size=2)]
    for a, b in zip(expected * 3, found, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)


def test_docs_may_be_read_while_others_are_tokenised(tiny, threads):
    nlp = transformer_pipeline(tiny)
    for _ in nlp.pipe(TEXTS * 25, batch_size=2):
        nlp(TEXTS[0])


def test_a_span_getter_that_fails_goes_to_the_error_handler(tiny, threads):
    nlp = transformer_pipeline(tiny)
    component, failed = nlp.get_pipe("transformer"), []

    def one_span_a_doc(docs):
        if any(len(doc) == 2 for doc in docs):
            raise ValueError("no spans of two tokens")
        return [[doc[:]] for doc in docs]

    component.model.attrs["get_spans"] = one_span_a_doc
    component.set_error_handler(lambda name, pipe, docs, error: failed.append((len(docs), error)))
    found = list(nlp.pipe([*[TEXTS[0]] * 2, *[TEXTS[1]] * 2, TEXTS[3]], batch_size=2))
    assert [doc.text for doc in found] == [TEXTS[0], TEXTS[0], TEXTS[3]]
    assert [(n, str(error)) for n, error in failed] == [(2, "no spans of two tokens")]


def test_doc_by_doc_each_is_answered_before_the_next_is_drawn(tiny, threads):
    nlp, answered = transformer_pipeline(tiny), []

    def asked():
        for n, text in enumerate(TEXTS):
            assert len(answered) == n
            yield text

    for doc in nlp.pipe(asked(), batch_size=1):
        answered.append(doc)
    assert len(answered) == len(TEXTS)
