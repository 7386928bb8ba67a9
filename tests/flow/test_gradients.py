"""The way of the gradients, beside a shared layer that only notes what it is given."""

from types import SimpleNamespace

import numpy as np
import pytest
import spacy

from trfnb.flow.grad_factor import GradFactor
from trfnb.flow.gradients import SharedGradients

nlp = spacy.blank("en")
ONES, TWOS = np.ones((2, 3), "f"), np.full((2, 3), 2.0, "f")


class Listener:
    def __init__(self, factor):
        self.attrs = {"factor": GradFactor(factor)}
        self.steps = 0

    @property
    def grad_factor(self):
        return self.attrs["factor"].now

    def step(self):
        self.steps += 1


class Shared:
    """A shared layer, its listeners and its model at once."""

    def __init__(self, **factors):
        self.listeners = {name: Listener(factor) for name, factor in factors.items()}
        self.gradients, self.losses = SharedGradients(), {}
        self.encoded, self.sent, self.stepped = [], [], []

    def encode(self, docs, is_train):
        self.encoded.append(([doc.text for doc in docs], is_train))
        return len(self.encoded), self.sent.append if is_train else None

    def begin(self, *texts, **settings):
        docs = [nlp.make_doc(text) for text in texts]
        settings = {"losses": self.losses, "name": "shared", **settings}
        self.gradients.begin(docs, self.encode, self.listeners, **settings)
        return docs

    def read(self, name, docs):
        return self.gradients.read(self.listeners[name], docs, self.encode)

    def finish(self):
        self.gradients.finish("sgd", SimpleNamespace(finish_update=self.stepped.append))


def test_gradients_are_summed_by_their_factor():
    shared = Shared(a=0.5, b=-1.0)
    docs = shared.begin("one two")
    shared.read("a", docs).add({0: ONES})
    shared.read("b", docs).add({0: TWOS, 1: ONES})
    shared.finish()
    (total,) = shared.sent
    assert total[0].tolist() == [[-1.5] * 3] * 2
    assert total[1].tolist() == [[-1.0] * 3] * 2
    assert shared.losses["shared"] == pytest.approx(6 * 0.25 + 6 * 4 + 6)
    assert ONES.tolist() == [[1.0] * 3] * 2, "a listener's own array must not change"
    assert shared.stepped == ["sgd"]
    assert [x.steps for x in shared.listeners.values()] == [1, 1]
    shared.gradients.send_back()
    assert len(shared.sent) == 1, "a batch goes back once"


def test_a_step_that_comes_first_waits_for_the_last_gradient():
    shared = Shared(a=1.0, b=1.0, c=0.0)
    docs = shared.begin("one two")
    shared.finish()
    shared.read("a", docs).add({0: ONES})
    assert not shared.stepped
    second = shared.read("b", docs), shared.read("b", docs)
    second[0].add({0: ONES})
    assert not shared.stepped, "a model may call its listener twice"
    second[1].add({0: TWOS})
    assert shared.stepped == ["sgd"]
    assert shared.sent[0][0].tolist() == [[4.0] * 3] * 2
    assert shared.read("c", docs).outputs == 1, "at factor 0 a listener may still come to read"
    assert shared.read("a", docs) is None, "a rehearsal belongs to no step"
    with pytest.raises(ValueError, match="before its training step, but it came after it"):
        second[1].add({0: ONES})


def test_a_step_that_lacks_a_gradient_is_taken_later():
    shared = Shared(a=1.0, b=1.0)
    docs = shared.begin("one two")
    shared.finish()
    assert not shared.gradients.overdue
    shared.read("a", docs).add({0: ONES})
    assert shared.gradients.overdue
    assert shared.read("a", [nlp.make_doc("another text")]) is None
    assert (len(shared.sent), shared.stepped) == (1, ["sgd"])


def test_batches_accumulate_until_the_step():
    shared = Shared(a=1.0)
    for gradient in (ONES, TWOS):
        shared.read("a", shared.begin("one two")).add({0: gradient})
    assert [total[0][0, 0] for total in shared.sent] == [1.0]
    shared.finish()
    assert [total[0][0, 0] for total in shared.sent] == [1.0, 2.0]
    assert (shared.stepped, shared.listeners["a"].steps) == (["sgd"], 1)
    np.testing.assert_allclose(shared.gradients.log.steps[0].gram, [[6 + 24]])


def test_nothing_is_asked_or_stepped_at_factor_zero():
    shared = Shared(a=0.0, b=0.0)
    docs = shared.begin("one two")
    assert shared.encoded == [(["one two"], False)]
    assert shared.read("a", docs).factor == 0
    shared.finish()
    assert (shared.sent, shared.stepped) == ([], [])


def test_a_batch_is_known_by_its_tokens():
    shared = Shared(a=1.0, b=0.0)
    docs = shared.begin("one two", "three")
    copies = [doc.copy() for doc in docs]
    assert shared.read("a", copies).outputs == 1
    with pytest.raises(ValueError, match="the same docs in another order"):
        shared.read("a", docs[::-1])
    with pytest.raises(ValueError, match=r"got other docs \(1\)"):
        shared.read("a", [nlp.make_doc("two one")])
    part = docs[0][1:2].as_doc()
    assert shared.read("b", [part]) is None
    reading = shared.read("a", [part, docs[1], part])
    assert (reading.outputs, shared.encoded[1]) == (2, (["two", "three", "two"], True))
    reading.add({0: ONES})
    shared.gradients.send_back()
    assert len(shared.sent) == 1
    assert shared.read("a", docs) is None


def test_auto_needs_a_policy_and_follows_it():
    shared = Shared(a="auto", b=3.0)
    with pytest.raises(ValueError, match=r"grad_factor is 'auto' for a, but.*Set balance"):
        shared.begin("one")
    seen = []

    def policy(gradients):
        seen.append((gradients.listeners, gradients.gram.tolist(), gradients.losses.tolist()))
        return [7.0]

    for loss in (np.nan, 0.5):
        docs = shared.begin("one two", policy=policy)
        shared.read("b", docs).add({0: ONES})
        shared.read("a", docs).add({0: TWOS})
        shared.losses["a"] = shared.losses.get("a", 0.0) + 1.0
        shared.finish()
        assert shared.sent[-1][0][0, 0] == 7 * 2 + 3
        np.testing.assert_equal(seen[-1], (("a",), [[24.0]], [loss]))
