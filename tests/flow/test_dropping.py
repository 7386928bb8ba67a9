"""Dropout from bits: the right share, the right scale, repeatable, the right gradient."""

import pytest
import torch

from trfnb.flow.allocation import keep_pages
from trfnb.flow.dropping import drop
from trfnb.flow.precision import native_bf16, resolved
from trfnb.flow.runtime import Runtime


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_and_scale(rate, dtype):
    found = drop(torch.ones(401, 503, dtype=dtype), rate)
    assert found.dtype == dtype
    assert (found == 0).float().mean().item() == pytest.approx(rate, abs=0.005)
    assert found.float().mean().item() == pytest.approx(1, abs=0.01)
    # No place is dropped more often than another: four numbers share one draw.
    for place in range(4):
        share = (found.flatten()[place::4] == 0).float().mean().item()
        assert share == pytest.approx(rate, abs=0.01)


def test_a_seed_repeats_it_and_zero_changes_nothing():
    x = torch.ones(7, 9)
    found = [(torch.manual_seed(1), drop(x, 0.5))[1] for _ in range(2)]
    assert torch.equal(*found)
    assert drop(x, 0.0) is x


def test_gradient_goes_where_numbers_stayed():
    x = torch.ones(50, requires_grad=True)
    kept = drop(x, 0.25)
    kept.sum().backward()
    assert torch.equal(x.grad, kept.detach())


def test_a_rate_just_below_one():
    found = drop(torch.ones(1000), 0.999999)
    assert found.isfinite().all()
    assert (found == 0).float().mean() > 0.99


def test_auto_is_native_or_exact():
    cpu = torch.device("cpu")
    assert resolved("auto", cpu) == ("bf16" if native_bf16(cpu) else "fp32")
    assert resolved("fp16", cpu) == "fp16"
    assert Runtime("auto").precision == "auto"


def test_pages_are_kept_where_the_allocator_can():
    assert isinstance(keep_pages(), bool)
