"""Attention over texts laid end to end: in bf16 beside fp32, in groups beside one by one."""

import math

import pytest
import torch

from trfnb.flow.attention import attend, look, look_in_half
from trfnb.flow.groups import grouped, padded

# Long texts that fill registers and that do not, and short ones, of which some share a group.
RUNS = [(1, 70), (3, 64), (2, 50), (2, 48), (2, 32), (1, 31), (3, 15), (4, 1)]


def drawn(runs, width, heads):
    torch.manual_seed(0)
    n = sum(count * length for count, length in runs)
    q, k, v = torch.randn(3, n, width)
    scaled = q / math.sqrt(width // heads)
    return q, k, v, torch.cat([scaled, k, v], dim=1).bfloat16()


@pytest.mark.parametrize(("width", "heads"), [(16, 4), (64, 1), (64, 2)])
def test_half_precision_is_close_to_fp32(width, heads):
    q, k, v, half = drawn(RUNS, width, heads)
    exact = look(q, k, v, grouped(RUNS, waste=0), heads)
    found = look_in_half(half, padded(RUNS), heads)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=0.04, rtol=0.04)


@pytest.mark.parametrize("shift", [500.0, -500.0])
def test_scores_that_no_exponential_holds(shift):
    q, k, v, _ = drawn(RUNS, 16, 4)
    # A part of each head's width adds the same to all of a text's scores: attention stays as it is.
    q[:, 3::4], k[:, 3::4] = shift, 1.0
    groups = grouped(RUNS, waste=0)
    exact = look(q * 2, k, v, groups, 4)  # bf16 gets them undivided, and a head is 4 wide
    q[:, 3::4], k[:, 3::4] = 0.0, 0.0
    torch.testing.assert_close(look(q * 2, k, v, groups, 4), exact, atol=1e-3, rtol=1e-3)
    q[:, 3::4], k[:, 3::4] = shift, 1.0
    found = look_in_half(torch.cat([q, k, v], dim=1).bfloat16(), padded(RUNS), 4)
    assert found.isfinite().all()
    assert torch.cosine_similarity(found.float(), exact, dim=1).mean() > 0.8


def test_texts_do_not_look_at_each_other():
    *_, half = drawn(RUNS, 16, 4)
    moved, groups = half.clone(), padded(RUNS)
    moved[70:] = 0
    assert torch.equal(look_in_half(half, groups, 4)[:70], look_in_half(moved, groups, 4)[:70])


@pytest.mark.parametrize("runs", [[(1, 20), (3, 19)], [(1, 60), (2, 59)]])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_broken_number_stays_in_its_text(runs, broken):
    longest = runs[0][1]
    q, k, v, half = drawn(runs, 32, 1)
    half[0, 70] = v[0, 0] = broken
    assert look_in_half(half, padded(runs), 1)[longest:].isfinite().all()
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    found = attend(q, k, v, grouped(runs, waste=10**6), 1)[longest:]
    found.sum().backward()
    assert found.isfinite().all()
    assert all(x.grad[longest:].isfinite().all() for x in (q, k, v))


def test_padded_groups_fill_registers():
    groups = padded(RUNS)
    assert [(one.size, one.rows, one.places is None) for one in groups] == [
        ((1, 80), (0, 70), False), ((5, 64), (70, 362), False), ((2, 48), (362, 458), True),
        ((3, 32), (458, 553), False), ((3, 15), (553, 598), True), ((4, 1), (598, 602), True),
    ]  # fmt: skip


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
    torch.testing.assert_close(attend(q, k, v, groups, 2), look(q, k, v, grouped(runs, waste=0), 2))

    def again(q, k, v):
        torch.manual_seed(1)  # the same looks are dropped each time
        return attend(q, k, v, groups, 2, 0.3)

    assert torch.autograd.gradcheck(again, (q, k, v))


def test_dropout_in_groups_keeps_the_mean():
    runs = [(2, 9), (3, 8)]
    q, k, v, _ = drawn(runs, 16, 4)
    exact = look(q, k, v, grouped(runs, waste=0), 4)
    groups = grouped(runs)
    found = torch.stack([attend(q, k, v, groups, 4, 0.2) for _ in range(400)])
    assert (found[0] - exact).abs().max() > 0.1
    torch.testing.assert_close(found.mean(0), exact, atol=0.15, rtol=0.1)
