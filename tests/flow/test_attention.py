"""bf16 attention over texts laid end to end, beside attention in fp32."""

import math

import pytest
import torch

from trfnb.flow.attention import attend, attend_in_half
from trfnb.flow.groups import grouped

# Short and long enough for each of the three ways to compute it.
RUNS = [(1, 70), (3, 48), (2, 47), (2, 16), (3, 15), (4, 1)]


def drawn(runs, width, heads):
    torch.manual_seed(0)
    n = sum(count * length for count, length in runs)
    q, k, v = torch.randn(3, n, width)
    scaled = q / math.sqrt(width // heads)
    return q, k, v, torch.cat([scaled, k, v], dim=1).bfloat16()


@pytest.mark.parametrize(("width", "heads"), [(16, 4), (64, 1), (64, 2)])
def test_half_precision_is_close_to_fp32(width, heads):
    q, k, v, half = drawn(RUNS, width, heads)
    exact = attend(q, k, v, RUNS, heads)
    found = attend_in_half(half, RUNS, heads)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=0.04, rtol=0.04)


def test_texts_do_not_look_at_each_other():
    *_, half = drawn(RUNS, 16, 4)
    moved = half.clone()
    moved[70:] = 0
    assert torch.equal(attend_in_half(half, RUNS, 4)[:70], attend_in_half(moved, RUNS, 4)[:70])


def test_groups_hold_texts_of_about_one_length():
    groups = grouped([(1, 70), (3, 48), (2, 47), (2, 16), (3, 15), (4, 1)], waste=300)
    assert [(one.size, one.rows) for one in groups] == [
        ((1, 70), (0, 70)), ((5, 48), (70, 308)), ((5, 16), (308, 385)), ((4, 1), (385, 389)),
    ]  # fmt: skip
    assert [one.places is None for one in groups] == [True, False, False, True]
    assert groups[1].real.sum() == 3 * 48 + 2 * 47


@pytest.mark.parametrize("waste", [0, 300, 10**6])
def test_gradients_in_groups_by_finite_differences(waste):
    runs = [(2, 5), (1, 4), (3, 1)]
    torch.manual_seed(0)
    q, k, v = (torch.randn(17, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    groups = grouped(runs, waste)
    torch.testing.assert_close(attend(q, k, v, runs, 2, 0.0, groups), attend(q, k, v, runs, 2))

    def again(q, k, v):
        torch.manual_seed(1)  # the same looks are dropped each time
        return attend(q, k, v, runs, 2, 0.3, groups)

    assert torch.autograd.gradcheck(again, (q, k, v))


def test_dropout_in_groups_keeps_the_mean():
    runs = [(2, 9), (3, 8)]
    q, k, v, _ = drawn(runs, 16, 4)
    exact = attend(q, k, v, runs, 4)
    groups = grouped(runs)
    found = torch.stack([attend(q, k, v, runs, 4, 0.2, groups) for _ in range(400)])
    assert (found[0] - exact).abs().max() > 0.1
    torch.testing.assert_close(found.mean(0), exact, atol=0.15, rtol=0.1)
