"""Attention over texts laid end to end: runs of texts of one length attend as a block."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from .dropping import kept
from .groups import Group

# (texts, length) of each run of texts of one length, in order.
Runs = Sequence[tuple[int, int]]
# In bf16 on a CPU torch's fused attention wins from here on, measured on heads 32 wide.
_FUSED_FROM = 48
# Shorter rows of scores fill no vector register: torch's softmax in fp32 gains nothing there.
_REGISTER = 16


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    runs: Runs,
    heads: int,
    dropout: float = 0.0,
    groups: Sequence[Group] | None = None,
) -> torch.Tensor:
    """Let each wordpiece look at those of its own text.

    Args:
        q: (n, width) queries of texts laid end to end.
        k: (n, width) keys.
        v: (n, width) values.
        runs: (texts, length) of each run of texts of one length, in order.
        heads: Parts that the width is cut into.
        dropout: Share of looks to drop.
        groups: The same texts in groups, on a CPU, where gradients are wanted.

    Returns:
        (n, width) mixed values.
    """
    if groups is not None:
        mixed: torch.Tensor = _Attend.apply(q, k, v, groups, heads, dropout)
        return mixed
    sizes = [count * length for count, length in runs]
    found = []
    # Split, not sliced: the gradient of a slice is as large as the whole.
    for (count, length), *own in zip(runs, *(x.split(sizes) for x in (q, k, v)), strict=True):
        one, two, three = (x.view(count, length, heads, -1).transpose(1, 2) for x in own)
        looked = functional.scaled_dot_product_attention(one, two, three, dropout_p=dropout)
        found.append(looked.transpose(1, 2).reshape(count * length, -1))
    return found[0] if len(found) == 1 else torch.cat(found)


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
        looks = []
        with torch.autocast(q.device.type, enabled=False):
            for group in groups:
                one, two, three = (group.block(x, heads) for x in (q, k, v))
                scores = torch.matmul(one * scale, two.transpose(-1, -2))
                if group.real is not None:
                    scores.masked_fill_(~group.real, -torch.inf)
                look = _softmax(scores)
                fate = kept(look, dropout) if dropout > 0 else None
                group.unblock(torch.matmul(look if fate is None else look * fate, three), out)
                looks += [look, fate]
        ctx.save_for_backward(q, k, v, *looks)
        ctx.groups, ctx.heads, ctx.scale = groups, heads, scale
        return out

    @staticmethod
    def backward(ctx: Any, *d_outs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, *looks = ctx.saved_tensors
        d_out = d_outs[0].to(v.dtype)
        d_q, d_k, d_v = (torch.empty_like(x) for x in (q, k, v))
        with torch.autocast(q.device.type, enabled=False):
            for group, look, fate in zip(ctx.groups, looks[::2], looks[1::2], strict=True):
                one, two, three, d_mixed = (group.block(x, ctx.heads) for x in (q, k, v, d_out))
                d_look = torch.matmul(d_mixed, three.transpose(-1, -2))
                dropped = look
                if fate is not None:
                    dropped = look * fate
                    d_look.mul_(fate)
                group.unblock(torch.matmul(dropped.transpose(-1, -2), d_mixed), d_v)
                d_scores = torch._softmax_backward_data(d_look, look, -1, look.dtype)
                d_scores.mul_(ctx.scale)
                group.unblock(torch.matmul(d_scores, two), d_q)
                group.unblock(torch.matmul(d_scores.transpose(-1, -2), one), d_k)
        return d_q, d_k, d_v, None, None, None


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
            found = torch.matmul(_softmax(torch.matmul(q, k.transpose(-1, -2))), v)
        out.view(count, length, heads, -1).copy_(found.transpose(1, 2))
    return mixed


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    """Return the softmax of the last axis, by the faster of two ways in bf16."""
    length = scores.shape[-1]
    if scores.dtype == torch.bfloat16 and _REGISTER <= length < _FUSED_FROM:
        return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
    return scores.softmax(-1)
