"""Packs give what HuggingFace's own models give: states, gradients, attention, dropout."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
)

from trfnb.flow.batching import grouped, packs
from trfnb.flow.packed import PackedBert, attend, dropout
from trfnb.flow.wordpieces import Wordpieces

SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "initializer_range": 0.4,
}
LENGTHS = [5, 0, 9, 5, 1, 9, 9, 3]
# Long texts that fill registers and that do not, and short ones, of which some share a group.
RUNS = [(1, 70), (3, 64), (2, 50), (2, 48), (2, 32), (1, 31), (3, 15), (4, 1)]


@pytest.fixture(params=["bert", "roberta"])
def hf_model(request):
    torch.manual_seed(0)
    if request.param == "bert":
        return BertModel(BertConfig(**SIZES)).eval()
    return RobertaModel(RobertaConfig(**SIZES, pad_token_id=1)).eval()


def flat(lengths=LENGTHS):
    ids = np.random.default_rng(0).integers(5, 60, sum(lengths))
    zeros = np.zeros(len(lengths), dtype="int64")
    lengths = np.asarray(lengths, dtype="int64")
    return Wordpieces(ids, np.zeros((len(ids), 2), "int64"), lengths, zeros)


def expected(hf_model, pieces):
    """Return every layer's states of every text, run by itself."""
    found = []
    for start, n in zip(pieces.starts, pieces.lengths, strict=True):
        if n:
            ids = torch.from_numpy(pieces.ids[start : start + n])[None]
            states = hf_model(input_ids=ids, output_hidden_states=True).hidden_states
            found.append(torch.stack([one[0] for one in states]))
    return torch.cat(found, dim=1)


def ours(packed, pieces, layers, max_items=12, **options):
    out = torch.zeros(4, len(pieces.ids), 16)
    for pack in packs(pieces, max_items, np.arange(len(pieces.lengths))):
        for layer, rows in packed.states(pack, layers, **options).items():
            out[layer, pack.rows] = rows
    return out


@pytest.mark.parametrize("max_items", [1, 12, 1000])
def test_states_and_gradients_are_those_of_the_model(hf_model, max_items):
    pieces, packed = flat(), PackedBert.of(hf_model)
    right = expected(hf_model, pieces)
    right.square().sum().backward()
    gradients = {
        n: one.grad.clone() for n, one in hf_model.named_parameters() if one.grad is not None
    }
    for options in ({}, {"checkpointing": True}):
        hf_model.zero_grad()
        found = ours(packed, pieces, range(4), max_items, **options)
        torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-5)
        found.square().sum().backward()
        for name, one in hf_model.named_parameters():
            if name in gradients:
                torch.testing.assert_close(one.grad, gradients[name], atol=1e-3, rtol=1e-4)


def test_nothing_is_computed_above_the_highest_layer(hf_model):
    packed, calls = PackedBert.of(hf_model), []
    for number, layer in enumerate(hf_model.encoder.layer, start=1):
        layer.output.dense.register_forward_hook(lambda *_, number=number: calls.append(number))
    ours(packed, flat(), [0, 1], max_items=1000)
    assert calls == [1]


def test_bf16_states_stay_close(hf_model):
    pieces, packed = flat(), PackedBert.of(hf_model)
    for _ in range(2):
        with torch.no_grad():
            exact = expected(hf_model, pieces)[3]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            found = ours(packed, pieces, [3])[3].float()
        assert torch.cosine_similarity(found, exact, dim=-1).min() > 0.99
        hf_model.encoder.layer[1].output.dense.weight.data *= 1.5


def test_dropout_drops(hf_model):
    hf_model.train()
    packed, pieces = PackedBert.of(hf_model), flat()
    one, other = (ours(packed, pieces, [3]) for _ in range(2))
    assert (one - other).abs().max() > 0.1
    for layer in hf_model.encoder.layer:  # by attention alone, and without gradients
        layer.attention.output.dropout.p = layer.output.dropout.p = 0.0
    hf_model.embeddings.dropout.p = 0.0
    with torch.no_grad():
        one, other = (ours(packed, pieces, [3]) for _ in range(2))
    assert (one - other).abs().max() > 0.01
    assert hf_model.training


def test_other_kinds_are_left_to_their_own_code():
    config = DistilBertConfig(vocab_size=60, dim=16, n_layers=2, n_heads=4, hidden_dim=32)
    assert PackedBert.of(DistilBertModel(config)) is None
    assert PackedBert.of(BertModel(BertConfig(**SIZES, is_decoder=True))) is None
    hf_model = BertModel(BertConfig(**SIZES))
    last = hf_model.encoder.layer[2]
    last.register_forward_hook(lambda module, args, output: output * 2)
    assert PackedBert.of(hf_model) is None


def test_parts_that_were_exchanged_run_as_they_are(hf_model):
    dense = hf_model.encoder.layer[0].output.dense
    hf_model.encoder.layer[0].output.dense = torch.nn.Sequential(dense, torch.nn.Tanh())
    with torch.no_grad():
        found = ours(PackedBert.of(hf_model), flat(), [3])[3]
    torch.testing.assert_close(found, expected(hf_model, flat())[3], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("padding", [None, 0])
def test_the_embedding_table_learns_as_in_torch(padding):
    torch.manual_seed(0)
    hf_model = BertModel(BertConfig(**SIZES)).eval()
    packed, pieces = PackedBert.of(hf_model), flat()
    pieces.ids[0] = 0
    table = torch.nn.Embedding(70, 16, padding_idx=padding)  # another one than at first
    hf_model.set_input_embeddings(table)
    for _ in range(2):
        expected(hf_model, pieces)[0].square().sum().backward()
        right, table.weight.grad = table.weight.grad, None
        found = ours(packed, pieces, [0])[0]
        found.square().sum().backward()
        torch.testing.assert_close(table.weight.grad, right, atol=1e-4, rtol=1e-4)
        assert (table.weight.grad[0] == 0).all() == (padding == 0)
        table.weight.grad.add_(1.0)
        table.weight.grad = None  # as a step leaves it
    table.weight.requires_grad_(False)
    assert table.weight.grad is None


# -- attention ------------------------------------------------------------------------------


def drawn(runs, width, heads):
    torch.manual_seed(0)
    n = sum(count * length for count, length in runs)
    q, k, v = torch.randn(3, n, width)
    return q, k, v


def alone(q, k, v, runs, heads, scale=None):
    """Attend text by text, by torch's own attention."""
    found, start = [], 0
    for length in [length for count, length in runs for _ in range(count)]:
        parts = [
            x[start : start + length].view(length, heads, -1).transpose(0, 1) for x in (q, k, v)
        ]
        mixed = functional.scaled_dot_product_attention(*parts, scale=scale)
        found.append(mixed.transpose(0, 1).reshape(length, -1))
        start += length
    return torch.cat(found)


@pytest.mark.parametrize(("width", "heads"), [(16, 4), (64, 1), (64, 2)])
def test_bf16_attention_is_that_of_torch(width, heads):
    parts = [x.bfloat16() for x in drawn(RUNS, width, heads)]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = attend(*parts, grouped(RUNS), heads)
    assert found.dtype == torch.bfloat16
    exact = alone(*(x.float() for x in parts), RUNS, heads)
    torch.testing.assert_close(found.float(), exact, atol=0.04, rtol=0.04)


def test_texts_do_not_attend_to_each_other():
    parts, groups = drawn(RUNS, 16, 4), grouped(RUNS, waste=0)
    moved = [x.clone() for x in parts]
    for x in moved:
        x[70:] = 0
    with torch.no_grad():
        assert torch.equal(attend(*parts, groups, 4)[:70], attend(*moved, groups, 4)[:70])


@pytest.mark.parametrize("runs", [[(1, 20), (3, 19)], [(1, 60), (2, 59)]])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_broken_number_stays_in_its_text(runs, broken):
    longest = runs[0][1]
    q, k, v = drawn(runs, 32, 1)
    v[0, 0] = broken
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    found = attend(q, k, v, grouped(runs, waste=10**6), 1)[longest:]
    found.sum().backward()
    assert found.isfinite().all()
    assert all(x.grad[longest:].isfinite().all() for x in (q, k, v))


@pytest.mark.parametrize("waste", [0, 300, 10**6])
def test_gradients_in_groups_by_finite_differences(waste):
    runs = [(2, 5), (1, 4), (3, 1)]
    torch.manual_seed(0)
    q, k, v = (torch.randn(17, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    groups = grouped(runs, waste)
    torch.testing.assert_close(attend(q, k, v, groups, 2), alone(q, k, v, runs, 2))
    with torch.no_grad():
        found = attend(q, k, v, grouped(runs, waste=0), 2)
    torch.testing.assert_close(found, alone(q, k, v, runs, 2))

    def again(q, k, v):
        torch.manual_seed(1)  # the same weights are dropped each time
        return attend(q, k, v, groups, 2, 0.3)

    assert torch.autograd.gradcheck(again, (q, k, v))


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_has_its_share_and_scale(rate, dtype):
    found = dropout(torch.ones(401, 503, dtype=dtype), rate)
    assert found.dtype == dtype
    assert found.float().mean().item() == pytest.approx(1, abs=0.01)
    # No place is dropped more often than another: four numbers share one draw.
    for place in range(4):
        share = (found.flatten()[place::4] == 0).float().mean().item()
        assert share == pytest.approx(rate, abs=0.01)


def test_dropout_repeats_with_its_seed_and_sends_gradients_where_numbers_stayed():
    x = torch.ones(7, 9, requires_grad=True)
    found = [(torch.manual_seed(1), dropout(x, 0.25))[1] for _ in range(2)]
    assert torch.equal(*found)
    found[0].sum().backward()
    assert torch.equal(x.grad, found[0].detach())
    assert dropout(x, 0.0) is x
    assert dropout(x, 0.999999).isfinite().all()
