"""Dropout on a CPU: sixteen random bits a number in place of a draw from a distribution."""

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
    return x * kept(x, rate)


def kept(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Return what dropout on a CPU multiplies `x` by: 0, or the inverse of the share that stays."""
    dropped = round(rate * _STEPS)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    fates = draws.view(torch.int16)[: x.numel()].view(x.shape)
    return (fates >= dropped - _STEPS // 2).to(x.dtype).mul_(_STEPS / (_STEPS - dropped))
