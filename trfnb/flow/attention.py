"""Attention over texts laid end to end: texts of about one length attend as a block."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from .dropping import drawn, factors
from .groups import SHORT, Group

# Rows of scores of this many numbers: torch's softmax of bf16 is faster in fp32 and back.
_IN_FP32 = range(16, 48)
# Sums of exponentials between this and its inverse lost nothing to under- or overflow.
_TINY = 1e-25


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    groups: Sequence[Group],
    heads: int,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Let each wordpiece look at those of its own text, so that gradients come back.

    Args:
        q: (n, width) queries of texts laid end to end.
        k: (n, width) keys.
        v: (n, width) values.
        groups: The texts, from `grouped`.
        heads: Parts that the width is cut into.
        dropout: Share of looks to drop.

    Returns:
        (n, width) mixed values.
    """
    mixed: torch.Tensor = _Attend.apply(q, k, v, groups, heads, dropout)
    return mixed


def look(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    groups: Sequence[Group],
    heads: int,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Do as `attend`, without gradients, over texts that are grouped by their exact length."""
    out = torch.empty_like(v)
    for group in groups:
        one, two, three = (group.block(x, heads) for x in (q, k, v))
        found = functional.scaled_dot_product_attention(one, two, three, dropout_p=dropout)
        group.unblock(found, out)
    return out


def look_in_half(qkv: torch.Tensor, groups: Sequence[Group], heads: int) -> torch.Tensor:
    """Let each wordpiece look at those of its own text in bf16, without gradients.

    Args:
        qkv: (n, 3 * width) queries, divided by the root of a head's width; keys; values.
        groups: The texts, from `padded`.
        heads: Parts that the width is cut into.

    Returns:
        (n, width) bf16, the mixed values.
    """
    out = qkv.new_empty((len(qkv), qkv.shape[1] // 3))
    for group in groups:
        q, k, v = group.gather(qkv, 3 * heads).chunk(3, dim=1)
        found = _look_briefly(q, k, v, group.real) if group.size[1] <= SHORT else None
        if found is None:
            mask = None if group.real is None else _mask(group.real, q.dtype)
            found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
        group.unblock(found, out)
    return out


def _mask(real: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return what to add to scores so that nobody looks at padding."""
    return torch.zeros_like(real, dtype=dtype).masked_fill_(~real, -torch.inf)


def _look_briefly(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, real: torch.Tensor | None
) -> torch.Tensor | None:
    """Attend over short texts, or return None where a score is too large or too small for it.

    So short a row fills no vector register, which makes finding its maximum as slow as all the
    rest; without maxima a block is exponentiated as one. The sums tell whether that went well.
    """
    looks = torch.matmul(q, k.transpose(-1, -2)).exp_()
    if real is not None:
        looks *= real.to(looks.dtype)
    sums = torch.matmul(looks, looks.new_ones(looks.shape[-1], 1))
    least, most = torch.aminmax(sums)
    if not (least > _TINY and most < 1.0 / _TINY):
        return None
    return torch.matmul(looks, v) / sums


class _Attend(torch.autograd.Function):
    """Attention by plain matrix products, on a CPU the faster way with dropout.

    Forward and backward pass are written out: torch's own keep more, and autocast would convert
    what is multiplied next back and forth.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        groups: Sequence[Group],
        heads: int,
        dropout: float,
    ) -> torch.Tensor:
        out = torch.empty_like(v)
        scale = 1.0 / math.sqrt(q.shape[1] // heads)
        kept = []
        with torch.autocast(q.device.type, enabled=False):
            for group in groups:
                one, two, three = (group.gather(x, heads) for x in (q, k, v))
                scores = torch.matmul(one * scale, two.transpose(-1, -2))
                if group.real is not None:
                    scores.masked_fill_(~group.real, -torch.inf)
                share = _softmax(scores)
                stays = drawn(share, dropout) if dropout > 0 else None
                dropped = share if stays is None else share * factors(stays, dropout, share.dtype)
                group.unblock(torch.matmul(dropped, three), out)
                kept += [share, stays]
        ctx.save_for_backward(q, k, v, *kept)
        ctx.groups, ctx.heads, ctx.scale, ctx.dropout = groups, heads, scale, dropout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_outs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        d_out = d_outs[0].to(v.dtype)
        d_q, d_k, d_v = (torch.empty_like(x) for x in (q, k, v))
        with torch.autocast(q.device.type, enabled=False):
            for group, share, stays in zip(ctx.groups, kept[::2], kept[1::2], strict=True):
                one, two, three = (group.gather(x, ctx.heads) for x in (q, k, v))
                d_mixed = group.block(d_out, ctx.heads)
                d_share = torch.matmul(d_mixed, three.transpose(-1, -2))
                dropped = share
                if stays is not None:
                    factor = factors(stays, ctx.dropout, share.dtype)
                    dropped = share * factor
                    d_share.mul_(factor)
                group.unblock(torch.matmul(dropped.transpose(-1, -2), d_mixed), d_v)
                d_scores = torch._softmax_backward_data(d_share, share, -1, share.dtype)
                group.unblock(torch.matmul(d_scores, two).mul_(ctx.scale), d_q)
                group.unblock(torch.matmul(d_scores.transpose(-1, -2), one).mul_(ctx.scale), d_k)
        return d_q, d_k, d_v, None, None, None


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    """Return the softmax of the last axis, by the faster of two ways in bf16."""
    length = scores.shape[-1]
    if scores.dtype == torch.bfloat16 and length in _IN_FP32:
        return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
    return scores.softmax(-1)
