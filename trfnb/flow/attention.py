"""Attention over texts laid end to end: runs of texts of one length attend as a block."""

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from .dropping import drop

# (texts, length) of each run of texts of one length, in order.
Runs = Sequence[tuple[int, int]]
# In bf16 on a CPU torch's fused attention wins from here on, measured on heads 32 wide.
_FUSED_FROM = 48
# Rows that fill no vector register are exponentiated faster in bf16, all others in fp32.
_REGISTER = 16


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    runs: Runs,
    heads: int,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Let each wordpiece look at those of its own text.

    Args:
        q: (n, width) queries of texts laid end to end.
        k: (n, width) keys.
        v: (n, width) values.
        runs: (texts, length) of each run of texts of one length, in order.
        heads: Parts that the width is cut into.
        dropout: Share of looks to drop.

    Returns:
        (n, width) mixed values.
    """
    by_hand = q.device.type == "cpu" and (q.dtype != torch.float32 or dropout > 0)
    sizes = [count * length for count, length in runs]
    found = []
    # Split, not sliced: the gradient of a slice is as large as the whole.
    for (count, length), *own in zip(runs, *(x.split(sizes) for x in (q, k, v)), strict=True):
        one, two, three = (x.view(count, length, heads, -1).transpose(1, 2) for x in own)
        if by_hand:
            mixed = _matmul_attention(one, two, three, dropout)
        else:
            mixed = functional.scaled_dot_product_attention(one, two, three, dropout_p=dropout)
        found.append(mixed.transpose(1, 2).reshape(count * length, -1))
    return found[0] if len(found) == 1 else torch.cat(found)


def attend_in_half(qkv: torch.Tensor, runs: Runs, heads: int) -> torch.Tensor:
    """Let each wordpiece look at those of its own text, without gradients.

    Args:
        qkv: (n, 3 * width) bf16: queries, divided by the root of a head's width; keys; values.
        runs: (texts, length) of each run of texts of one length, in order.
        heads: Parts that the width is cut into.

    Returns:
        (n, width) bf16, the mixed values.
    """
    n, width = len(qkv), qkv.shape[1] // 3
    mixed = torch.empty((n, width), dtype=qkv.dtype, device=qkv.device)
    sizes = [count * length for count, length in runs]
    parts = zip(runs, qkv.split(sizes), mixed.split(sizes), strict=True)
    for (count, length), own, out in parts:
        q, k, v = own.view(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        if length >= _FUSED_FROM:
            found = functional.scaled_dot_product_attention(q, k, v, scale=1.0)
        else:
            exact = torch.float32 if length >= _REGISTER else None
            looks = torch.matmul(q, k.transpose(-1, -2)).softmax(-1, dtype=exact)
            found = torch.matmul(looks.to(v.dtype), v)
        out.view(count, length, heads, -1).copy_(found.transpose(1, 2))
    return mixed


def _matmul_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout: float
) -> torch.Tensor:
    """Attend by plain matrix products, on a CPU the faster way with dropout."""
    looks = torch.matmul(q / math.sqrt(q.shape[-1]), k.transpose(-1, -2)).softmax(-1)
    return torch.matmul(drop(looks, dropout), v)
