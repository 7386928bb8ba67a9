"""bf16 attention over texts laid end to end, beside attention in fp32."""

import math

import pytest
import torch

from trfnb.flow.attention import attend, attend_in_half

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
