"""The way of the gradients, beside a shared layer that only notes what it is given."""

from types import SimpleNamespace

import numpy as np
import pytest
import spacy

from trfnb.flow.grad_factor import GradFactor
from trfnb.flow.gradients import GradientLog, SharedGradients, gram

nlp = spacy.blank("en")
ONES, TWOS = np.ones((2, 3), "f"), np.full((2, 3), 2.0, "f")


class Shared:
    """A shared layer, its listeners and its model at once."""

    name = "shared"

    def __init__(self, policy=None, **factors):
        self.listeners = {
            name: SimpleNamespace(attrs={"factor": GradFactor(factor)})
            for name, factor in factors.items()
        }
        self.balance, self.gradients, self.losses = policy, SharedGradients(), {"shared": 0.0}
        self.encoded, self.sent, self.stepped = [], [], []
        self.model = SimpleNamespace(finish_update=self.stepped.append)

    def named_listeners(self):
        return dict(self.listeners)

    def encode_for_update(self, docs, is_train):
        self.encoded.append(([doc.text for doc in docs], is_train))
        return len(self.encoded), self.sent.append if is_train else None

    def begin(self, *texts):
        docs = [nlp.make_doc(text) for text in texts]
        self.gradients.begin(docs, self, self.losses)
        return docs

    def read(self, name, docs):
        return self.gradients.read(self.listeners[name], docs)

    def send(self, name, docs, parts):
        self.read(name, docs)[1](parts)

    def finish(self):
        self.gradients.finish("sgd")


def test_gradients_are_summed_by_their_factor():
    shared = Shared(a=iter([0.5, 0.25]), b=-1.0)
    docs = shared.begin("one two")
    shared.send("a", docs, {0: ONES})
    shared.send("b", docs, {0: TWOS, 1: ONES})
    shared.finish()
    (total,) = shared.sent
    assert total[0].tolist() == [[-1.5] * 3] * 2
    assert total[1].tolist() == [[-1.0] * 3] * 2
    assert shared.losses["shared"] == pytest.approx(6 * 0.25 + 6 * 4 + 6)
    assert ONES.tolist() == [[1.0] * 3] * 2, "a listener's own array must not change"
    assert shared.stepped == ["sgd"]
    assert shared.listeners["a"].attrs["factor"].now == 0.25
    shared.gradients.send_back()
    assert len(shared.sent) == 1, "a batch goes back once"


def test_a_step_that_comes_first_waits_for_the_last_gradient():
    shared = Shared(a=1.0, b=1.0, c=0.0)
    docs = shared.begin("one two")
    shared.finish()
    shared.send("a", docs, {0: ONES})
    assert not shared.stepped
    second = shared.read("b", docs), shared.read("b", docs)
    second[0][1]({0: ONES})
    assert not shared.stepped, "a model may call its listener twice"
    second[1][1]({0: TWOS})
    assert shared.stepped == ["sgd"]
    assert shared.sent[0][0].tolist() == [[4.0] * 3] * 2
    assert shared.read("c", docs)[0] == 1, "at factor 0 a listener may still come to read"
    with pytest.warns(UserWarning, match="'a' reads a batch after its training step: nothing"):
        assert shared.read("a", docs) is None
    with pytest.raises(ValueError, match="before its training step, but it came after it"):
        second[1][1]({0: ONES})


def test_a_step_that_lacks_a_gradient_is_taken_later():
    shared = Shared(a=1.0, b=1.0)
    docs = shared.begin("one two")
    shared.finish()
    assert not shared.gradients.take_overdue_step()
    shared.send("a", docs, {0: ONES})
    assert shared.read("a", [nlp.make_doc("another text")]) is None
    assert (len(shared.sent), shared.stepped) == (1, ["sgd"])


def test_a_part_read_after_the_step_is_told():
    shared = Shared(a=1.0)
    (doc,) = shared.begin("one two")
    shared.finish()
    first, second = doc[:1].as_doc(), doc[1:].as_doc()
    shared.send("a", [first], {0: ONES})
    assert shared.stepped == ["sgd"]
    with pytest.warns(UserWarning, match="after its training step"):
        assert shared.read("a", [second]) is None


def test_a_step_that_no_gradient_comes_for_is_taken_before_other_docs_are_read():
    shared = Shared(a=0.0)
    shared.begin("one two")
    shared.finish()
    assert shared.read("a", [nlp.make_doc("three")]) is None
    assert shared.gradients.junction is None


def test_batches_accumulate_until_the_step():
    shared = Shared(a=iter([1.0, 3.0]))
    for gradient in (ONES, TWOS):
        shared.send("a", shared.begin("one two"), {0: gradient})
    assert [total[0][0, 0] for total in shared.sent] == [1.0]
    shared.finish()
    assert [total[0][0, 0] for total in shared.sent] == [1.0, 2.0]
    assert (shared.stepped, shared.listeners["a"].attrs["factor"].now) == (["sgd"], 3.0)
    np.testing.assert_allclose(shared.gradients.log.steps[0].gram, [[6 + 24]])


def test_nothing_is_asked_or_stepped_at_factor_zero():
    shared = Shared(a=0.0, b=0.0)
    docs = shared.begin("one two")
    assert shared.encoded == [(["one two"], False)]
    shared.send("a", docs, {0: ONES})
    shared.finish()
    assert (shared.sent, shared.stepped) == ([], [])


def test_a_batch_is_known_by_its_tokens():
    shared = Shared(a=1.0, b=0.0)
    docs = shared.begin("one two", "three")
    copies = [doc.copy() for doc in docs]
    assert shared.read("a", copies)[0] == 1
    with pytest.raises(ValueError, match="the same docs in another order"):
        shared.read("a", docs[::-1])
    with pytest.raises(ValueError, match=r"got other docs \(1\)"):
        shared.read("a", [nlp.make_doc("two one")])
    part = docs[0][1:2].as_doc()
    outputs, add = shared.read("a", [part, docs[1], part])
    assert (outputs, shared.encoded[1]) == (2, (["two", "three", "two"], True))
    add({0: ONES})
    assert shared.read("b", [part])[0] == 3
    assert shared.encoded[2] == (["two"], False)
    shared.gradients.send_back()
    assert len(shared.sent) == 1
    assert shared.read("a", docs) is None, "a rehearsal belongs to no step"


def test_auto_needs_a_policy_and_follows_it():
    shared = Shared(a="auto", b=3.0)
    with pytest.raises(ValueError, match=r"grad_factor is 'auto' for a, but.*Set balance"):
        shared.begin("one")
    seen = []

    def policy(gradients):
        seen.append((gradients.listeners, gradients.gram.tolist(), gradients.losses.tolist()))
        return [7.0]

    shared.balance = policy
    for loss in (np.nan, 0.5):  # a loss per word is known one batch later
        docs = shared.begin("one two")
        shared.send("b", docs, {0: ONES})
        shared.send("a", docs, {0: TWOS})
        shared.losses["a"] = shared.losses.get("a", 0.0) + 1.0
        shared.finish()
        assert shared.sent[-1][0][0, 0] == 7 * 2 + 3
        np.testing.assert_equal(seen[-1], (("a",), [[24.0]], [loss]))


X = np.array([[3.0, 0.0], [0.0, 4.0]], "f")  # norm 5
Y = np.array([[-3.0, 0.0], [0.0, 0.0]], "f")  # norm 3, cosine -9/15 with X


def test_products_of_gradients_of_several_layers():
    assert gram([]).shape == (0, 0)
    found = gram([{1: X, 2: Y}, {2: Y}, {3: X}])
    np.testing.assert_array_equal(found, [[34, 9, np.nan], [9, 9, np.nan], [np.nan, np.nan, 25]])


def logged(*batches):
    log = GradientLog()
    for factors, came in batches:
        log.add(factors, gram([{0: came[name]} if name in came else {} for name in factors]))
    log.close()
    return log


def test_the_log_by_hand():
    log = logged(({"a": 1.0, "b": -2.0}, {"b": Y, "a": X}))
    table = log.table()
    assert list(table["listener"]) == ["a", "b"]
    assert list(table["raw_norm"]) == [5, 3]
    assert list(table["norm"]) == [5, 6]
    total = X - 2 * Y
    expected = [(X * total).sum() / (total**2).sum(), (-2 * Y * total).sum() / (total**2).sum()]
    np.testing.assert_allclose(table["share"], expected)
    assert set(table["state"]) == {"measured"}
    assert log.conflicts().values.tolist() == [[1, "a", "b", pytest.approx(-0.6)]]


def test_the_log_says_what_was_not_computed():
    table = logged(({"a": 1.0, "b": 0.0, "c": 1.0}, {"a": X})).table().set_index("listener")
    assert list(table["state"]) == ["measured", "not computed: factor 0", "no gradient came"]
    np.testing.assert_equal(table["raw_norm"].tolist(), [5.0, np.nan, np.nan])
    np.testing.assert_equal(table["norm"].tolist(), [5.0, 0.0, np.nan])
    assert table["share"]["a"] == 1
    empty = logged()
    assert list(empty.table())[:3] == ["step", "listener", "factor"]
    assert list(empty.conflicts()) == ["step", "first", "second", "cosine"]


def test_parts_of_a_logged_step_add_up():
    (step,) = logged(
        ({"a": 1.0, "b": 1.0}, {"a": X, "b": Y}), ({"a": 0.5, "b": 1.0}, {"a": 2 * X, "b": X})
    ).steps
    stacked = gram([{0: np.concatenate([X, 2 * X])}, {0: np.concatenate([Y, X])}])
    np.testing.assert_allclose(step.gram, stacked)
    assert (step.factors, step.varied) == ((0.75, 1.0), True)
