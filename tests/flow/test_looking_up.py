"""The embedding table's gradient is torch's own."""

import pytest
import torch

from trfnb.flow.looking_up import TableGradient

PASSES = [torch.tensor([[3, 1, 3, 0]]), torch.tensor([[5, 1]])]


def table(padding):
    torch.manual_seed(0)
    return torch.nn.Embedding(7, 4, padding_idx=padding)


def gradient(look_up, module):
    for ids in PASSES:
        rows = look_up(ids)
        rows.mul(torch.arange(4.0)).square().sum().backward()
    return module.weight.grad.clone()


@pytest.mark.parametrize("padding", [None, 0])
def test_gradient_of_several_passes_and_steps(padding):
    one, other = table(padding), table(padding)
    ours = TableGradient(one)
    for _ in range(2):
        torch.testing.assert_close(gradient(ours, one), gradient(other, other))
        # As a step leaves them: changed in place, then taken away.
        one.weight.grad.add_(1.0)
        one.weight.grad = other.weight.grad = None


def test_a_gradient_without_bound_at_padding_is_left_out():
    module = table(0)
    (
        TableGradient(module)(torch.tensor([0, 2])) * torch.tensor([[torch.inf], [1.0]])
    ).sum().backward()
    assert module.weight.grad.sum() == 4


def test_a_table_in_another_precision_gets_a_gradient_of_its_own():
    module = table(None)
    ours = TableGradient(module)
    ours(torch.tensor([2])).sum().backward()
    module.weight.grad = None
    module.double()
    ours(torch.tensor([2])).sum().backward()
    assert module.weight.grad.dtype == torch.float64


def test_a_gradient_that_is_there_is_added_to():
    module = table(None)
    module.weight.grad = torch.ones(7, 4)
    TableGradient(module)(torch.tensor([2])).sum().backward()
    assert module.weight.grad.sum() == 28 + 4


def test_no_gradient_for_frozen_tables_or_without_one_asked_for():
    module = table(None)
    ours = TableGradient(module)
    with torch.no_grad():
        assert not ours(PASSES[0]).requires_grad
    module.weight.requires_grad_(False)
    assert not ours(PASSES[0]).requires_grad
    assert module.weight.grad is None
