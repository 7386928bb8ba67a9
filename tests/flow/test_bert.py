"""Texts laid end to end give what HuggingFace's own models give, in states and gradients."""

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
)

from trfnb.flow.bert import PackedBert
from trfnb.flow.packing import copy_rows, distinct, packs
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


@pytest.fixture(params=["bert", "roberta"])
def body(request):
    torch.manual_seed(0)
    if request.param == "bert":
        return BertModel(BertConfig(**SIZES)).eval()
    return RobertaModel(RobertaConfig(**SIZES, pad_token_id=1)).eval()


def flat(lengths=LENGTHS):
    ids = np.random.default_rng(0).integers(5, 60, sum(lengths))
    zeros = np.zeros(len(lengths), dtype="int64")
    lengths = np.asarray(lengths, dtype="int64")
    return Wordpieces(ids, np.zeros((len(ids), 2), "int64"), lengths, zeros)


def expected(body, pieces):
    """Return every layer's states of every text, run by itself."""
    ends = np.cumsum(pieces.lengths)
    found = []
    for end, n in zip(ends, pieces.lengths, strict=True):
        if n:
            ids = torch.from_numpy(pieces.ids[end - n : end])[None]
            states = body(input_ids=ids, output_hidden_states=True).hidden_states
            found.append(torch.stack([one[0] for one in states]))
    return torch.cat(found, dim=1)


def ours(packed, pieces, layers, max_items=12, **options):
    out = torch.zeros(4, len(pieces.ids), 16)
    for pack in packs(pieces, max_items, np.arange(len(pieces.lengths))):
        for layer, rows in packed.states(pack, layers, **options).items():
            out[layer, pack.rows] = rows
    return out


@pytest.mark.parametrize("max_items", [1, 12, 1000])
def test_states_and_gradients_are_those_of_the_model(body, max_items):
    pieces, packed = flat(), PackedBert.of(body)
    right = expected(body, pieces)
    right.square().sum().backward()
    gradients = [one.grad.clone() for one in body.parameters() if one.grad is not None]
    body.zero_grad()
    for options in ({}, {"checkpointing": True}):
        found = ours(packed, pieces, range(4), max_items, **options)
        torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-5)
        found.square().sum().backward()
        again = [one.grad.clone() for one in body.parameters() if one.grad is not None]
        body.zero_grad()
        for a, b in zip(again, gradients, strict=True):
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


def test_nothing_is_computed_above_the_highest_layer(body):
    packed, calls = PackedBert.of(body), []
    for number, layer in enumerate(body.encoder.layer, start=1):
        layer.output.dense.register_forward_hook(lambda *_, number=number: calls.append(number))
    ours(packed, flat(), [0, 1], max_items=1000)
    assert calls == [1]


def test_half_precision_follows_the_weights(body):
    pieces, packed = flat(), PackedBert.of(body)
    with torch.no_grad():
        first = ours(packed, pieces, [3], halves=packed.halves.fresh())[3]
        exact = expected(body, pieces)[3]
        cosine = torch.cosine_similarity(first, exact, dim=-1)
        assert cosine.min() > 0.99
        # In place and behind torch's back, as Thinc's optimizers step.
        body.encoder.layer[1].output.dense.weight.data.numpy()[...] *= 1.5
        moved = ours(packed, pieces, [3], halves=packed.halves.fresh())[3]
        exact = expected(body, pieces)[3]
    assert (moved - first).abs().max() > 0.05
    assert torch.cosine_similarity(moved, exact, dim=-1).min() > 0.99


def test_dropout_drops(body):
    body.train()
    packed, pieces = PackedBert.of(body), flat()
    one, other = (ours(packed, pieces, [3]) for _ in range(2))
    assert (one - other).abs().max() > 0.1
    for layer in body.encoder.layer:  # by attention alone, and without gradients
        layer.attention.output.dropout.p = layer.output.dropout.p = 0.0
    body.embeddings.dropout.p = 0.0
    with torch.no_grad():
        one, other = (ours(packed, pieces, [3]) for _ in range(2))
    assert (one - other).abs().max() > 0.01
    assert body.training


def test_other_kinds_are_left_to_their_own_code():
    config = DistilBertConfig(vocab_size=60, dim=16, n_layers=2, n_heads=4, hidden_dim=32)
    assert PackedBert.of(DistilBertModel(config)) is None
    body = BertModel(BertConfig(**SIZES))
    body.encoder.layer[0].output.dense = torch.nn.Sequential(body.encoder.layer[0].output.dense)
    assert PackedBert.of(body) is None


def test_a_model_that_computes_otherwise_is_left_to_its_own_code():
    body = BertModel(BertConfig(**SIZES))
    last = body.encoder.layer[2]
    last.register_forward_hook(lambda module, args, output: output * 2)
    assert PackedBert.of(body) is None


def test_packs_hold_each_wordpiece_once_under_the_budget():
    pieces = flat([5, 0, 30, 9, 5, 1, 9, 9, 3])
    found = packs(pieces, 12, np.arange(9))
    assert sorted(np.concatenate([one.rows for one in found])) == list(range(71))
    assert [len(one.ids) for one in found] == [30, 9, 9, 9, 10, 4]
    assert found[4].runs == [(2, 5)]
    assert found[5].positions.tolist() == [0, 1, 2, 0]


def test_equal_texts_are_found():
    ids = np.array([1, 2, 3, 1, 2, 1, 2, 3])
    zeros = np.zeros(5, dtype="int64")
    pieces = Wordpieces(ids, np.zeros((8, 2), "int64"), np.array([3, 2, 0, 3, 0]), zeros)
    texts, copies = distinct(pieces)
    assert texts.tolist() == [0, 1, 2]
    assert copies == [(3, 0)]
    to, source = copy_rows(pieces, copies)
    assert (to.tolist(), source.tolist()) == ([5, 6, 7], [0, 1, 2])


def test_another_table_of_wordpieces_is_read_and_learns(body):
    pieces, packed = flat(), PackedBert.of(body)
    body.set_input_embeddings(torch.nn.Embedding(70, 16))
    found = ours(packed, pieces, [0])[0]
    torch.testing.assert_close(found, expected(body, pieces)[0], atol=1e-5, rtol=1e-5)
    found.sum().backward()
    assert body.get_input_embeddings().weight.grad is not None
