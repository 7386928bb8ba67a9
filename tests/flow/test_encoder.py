"""Batched equals single, micro-batched equals one batch, gradients by finite differences."""

import weakref

import numpy as np
import pytest
import torch
from thinc.api import torch2xp

from trfnb.flow.encoder import EncoderShim, encoder
from trfnb.flow.runtime import Runtime
from trfnb.flow.wordpieces import encode

TEXTS = ["paris meets april", "the bank", "", "unable in the river of plans, paris", "x y z"]


@pytest.fixture
def shim(tiny):
    shim = EncoderShim(tiny)
    shim.load()
    return shim


def build(shim, max_batch_items=4096):
    return encoder(shim, Runtime(max_batch_items=max_batch_items))


def states(model, pieces, layers=(-1,)):
    return model.predict((pieces, layers))[0]


def gradients(shim):
    found = {
        name: torch2xp(parameter.grad).copy()
        for name, parameter in shim.loaded().named_parameters()
        if parameter.grad is not None
    }
    shim.loaded().zero_grad()
    return found


def test_equals_the_model_itself(shim):
    pieces = encode(shim.tokenizer, TEXTS)
    rows = states(build(shim), pieces, (0, 1, -1))
    start = 0
    for text, length in zip(TEXTS, pieces.lengths, strict=True):
        if not text:
            continue
        with torch.no_grad():
            right = shim.loaded()(
                **shim.tokenizer(text, return_tensors="pt"), output_hidden_states=True
            ).hidden_states
        for layer in (0, 1, 3):
            np.testing.assert_allclose(
                rows[layer][start : start + length], right[layer][0].numpy(), atol=1e-5
            )
        start += length


@pytest.mark.parametrize("max_items", [1, 7, 16, 4096])
def test_micro_batches_change_neither_rows_nor_gradients(shim, max_items):
    pieces = encode(shim.tokenizer, TEXTS)
    (whole, _), backprop = build(shim).begin_update((pieces, [-1]))
    d_rows = {3: np.random.default_rng(1).normal(size=whole[3].shape).astype("float32")}
    backprop(d_rows)
    expected = gradients(shim)
    (rows, _), backprop = build(shim, max_items).begin_update((pieces, [-1]))
    np.testing.assert_allclose(rows[3], whole[3], atol=1e-5)
    before = d_rows[3].copy()
    backprop(d_rows)
    assert (d_rows[3] == before).all(), "backprop must not change its argument"
    found = gradients(shim)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_gradient_by_finite_differences(shim, layer):
    shim.loaded().double()
    model, pieces = build(shim), encode(shim.tokenizer, TEXTS)
    (rows, _), backprop = model.begin_update((pieces, [layer]))
    weights = np.random.default_rng(2).normal(size=rows[layer].shape).astype("float32")
    backprop({layer: weights})
    found = gradients(shim)
    table = shim.loaded().embeddings.word_embeddings.weight
    checked = 0
    for token in sorted(set(pieces.ids.tolist()))[:6]:
        ends = []
        for step in (1e-2, -1e-2):
            with torch.no_grad():
                table[token, 3] += step
            ends.append(
                float((states(model, pieces, [layer])[layer].astype("float64") * weights).sum())
            )
            with torch.no_grad():
                table[token, 3] -= step
        slope = (ends[0] - ends[1]) / 2e-2
        gradient = found["embeddings.word_embeddings.weight"][token, 3]
        assert gradient == pytest.approx(slope, rel=2e-2, abs=2e-3)
        checked += abs(slope) > 1e-3
    assert checked >= 3, "the slopes must be worth comparing"


def test_half_precision_stays_close(shim):
    pieces = encode(shim.tokenizer, TEXTS)
    exact = states(build(shim), pieces)[3]
    half = states(encoder(shim, Runtime(precision="bf16")), pieces)[3]
    assert half.dtype == np.float32
    cosine = (exact * half).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(half, axis=1)
    assert 0.99 < cosine.min() < 1.0000001
    assert not np.array_equal(exact, half)


def test_errors_say_what_to_do(tiny, shim):
    with pytest.raises(ValueError, match=r"call nlp\.initialize"):
        EncoderShim(tiny).loaded()
    with pytest.raises(ValueError, match="from -4 to 3"):
        states(build(shim), encode(shim.tokenizer, TEXTS), [4])


def test_nothing_to_load(tmp_path):
    with pytest.raises(OSError, match="expected a local directory"):
        EncoderShim(str(tmp_path / "absent")).load()


def test_bytes_round_trip(tiny, shim):
    with torch.no_grad():
        shim.loaded().embeddings.word_embeddings.weight += 1.0
    restored = EncoderShim("elsewhere").from_bytes(shim.to_bytes())
    pieces = encode(shim.tokenizer, TEXTS)
    assert encode(restored.tokenizer, TEXTS).ids.tolist() == pieces.ids.tolist()
    expected = states(build(shim), pieces)[3]
    np.testing.assert_array_equal(states(build(restored), pieces)[3], expected)
    assert restored.to_bytes() == restored.from_bytes(restored.to_bytes()).to_bytes()


def test_weights_are_never_pickled(shim):
    saved = shim.to_bytes()
    assert b"torch._utils" not in saved
    assert b"\x80\x04" not in saved[:64]


def test_a_copy_steps_by_itself(shim):
    copied = shim.copy()
    assert copied.id != shim.id
    with torch.no_grad():
        copied.loaded().embeddings.word_embeddings.weight += 1.0
    ours = shim.loaded().embeddings.word_embeddings.weight
    assert not torch.equal(ours, copied.loaded().embeddings.word_embeddings.weight)


def test_a_step_changes_the_weights_where_they_lie_and_holds_on_to_nothing(tiny):
    shim = EncoderShim(tiny)
    shim.load()
    before = {
        name: (p.data_ptr(), p.detach().clone()) for name, p in shim.loaded().named_parameters()
    }
    for parameter in shim.loaded().parameters():
        parameter.grad = torch.ones_like(parameter)
    seen = []

    def step(key, array, gradient):
        seen.append(weakref.ref(array))
        array -= gradient
        return array, gradient

    shim.finish_update(step)
    for name, parameter in shim.loaded().named_parameters():
        place, value = before[name]
        assert parameter.data_ptr() == place
        assert torch.equal(parameter, value - 1)
    # A weight that lives in the optimiser's array keeps that of every earlier step alive.
    assert len(seen) == len(before)
    assert not any(array() is not None for array in seen)
