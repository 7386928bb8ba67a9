"""Dropout on a CPU: sixteen random bits a number in place of a draw from a distribution."""

from typing import Any

import torch
from torch.nn import functional

_STEPS = 2**16


def drop(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Set a random share of numbers to zero and scale the others up.

    torch draws each number's fate by itself, which took a tenth of a training step; here one draw
    serves four. The rate is rounded to 1/65,536. Draws come from torch's generator, so that a seed
    repeats them.

    Args:
        x: Any shape.
        rate: Share to drop, below 1; 0 returns `x` itself.
    """
    if rate <= 0.0:
        return x
    if x.device.type != "cpu":
        return functional.dropout(x, rate)
    dropped: torch.Tensor = _Drop.apply(x, rate)
    return dropped


class _Drop(torch.autograd.Function):
    """Keeps a byte a number for the way back, where torch would keep the factors themselves."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, rate: float) -> torch.Tensor:
        stays = drawn(x, rate)
        ctx.save_for_backward(stays)
        ctx.rate = rate
        return factors(stays, rate, x.dtype).mul_(x)

    @staticmethod
    def backward(ctx: Any, *d_outs: torch.Tensor) -> tuple[torch.Tensor, None]:
        (stays,) = ctx.saved_tensors
        return factors(stays, ctx.rate, d_outs[0].dtype).mul_(d_outs[0]), None


def drawn(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Draw which numbers of `x` stay, as booleans of its shape."""
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    fates = draws.view(torch.int16)[: x.numel()].view(x.shape)
    return fates >= _dropped(rate) - _STEPS // 2


def factors(stays: torch.Tensor, rate: float, dtype: torch.dtype) -> torch.Tensor:
    """Return what dropout multiplies by: 0, or the inverse of the share that stays."""
    return stays.to(dtype).mul_(_STEPS / (_STEPS - _dropped(rate)))


def _dropped(rate: float) -> int:
    return min(round(rate * _STEPS), _STEPS - 1)
