"""The layers of BERT's family in half precision: bf16 copies of matrices, sums in fp32."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from .attention import look_in_half
from .groups import Group

# A bf16 product adds no bias: torch writes it into the result first and reads it back, which takes
# a third of the product's time. Columns of the input that hold 1 add it instead; a tile is 32 wide.
_ONES, _TILE = 2, 32


@dataclass(frozen=True, eq=False)
class HalfLayer:
    """One layer's matrices in bf16, (in, out) in memory; queries, keys and values as one.

    Queries are divided by the root of a head's width here, once, instead of at every pass.

    Attributes:
        qkv: (width + 32, 3 * width), the biases in rows of their own.
        mixed: (width, width).
        inner: (width + 32, inner width), the bias in rows of its own.
        outer: (inner width, width).
        mixed_bias: (width,).
        outer_bias: (width,).
    """

    qkv: torch.Tensor
    mixed: torch.Tensor
    inner: torch.Tensor
    outer: torch.Tensor
    mixed_bias: torch.Tensor
    outer_bias: torch.Tensor

    @classmethod
    def of(cls, layer: Any, heads: int) -> "HalfLayer":
        """Copy the matrices of a HuggingFace layer."""
        own, mixed, outer = layer.attention.self, layer.attention.output.dense, layer.output.dense
        scale = 1.0 / math.sqrt(own.query.out_features // heads)
        scales = {own.query: scale, own.key: 1.0, own.value: 1.0}
        weight, bias = (
            torch.cat([getattr(one, name).detach() * by for one, by in scales.items()])
            for name in ("weight", "bias")
        )
        inner = layer.intermediate.dense
        return cls(
            _with_bias(weight, bias), _half(mixed.weight),
            _with_bias(inner.weight, inner.bias), _half(outer.weight),
            mixed.bias.detach().bfloat16(), outer.bias.detach().bfloat16(),
        )  # fmt: skip

    def forward(
        self, layer: Any, x: torch.Tensor, groups: Sequence[Group], heads: int
    ) -> torch.Tensor:
        """Return the layer's (n, width) output for (n, width) input, both in fp32."""
        mixed = look_in_half(torch.mm(_widened(x), self.qkv), groups, heads)
        # Converted first: torch adds numbers of two kinds more slowly.
        mixed = torch.addmm(self.mixed_bias, mixed, self.mixed).float()
        x = layer.attention.output.LayerNorm(mixed.add_(x))
        inner = layer.intermediate.intermediate_act_fn(torch.mm(_widened(x), self.inner))
        outer = torch.addmm(self.outer_bias, inner, self.outer).float()
        return cast(torch.Tensor, layer.output.LayerNorm(outer.add_(x)))


def _half(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().bfloat16().t().contiguous()


def _with_bias(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return an (out, in) matrix as (in + 32, out) in bf16; two numbers make up for the bias."""
    rows = weight.new_zeros((_TILE, len(bias)))
    rows[0] = bias.detach().bfloat16()
    rows[1] = bias.detach() - rows[0]
    return torch.cat([weight.detach().t(), rows]).bfloat16()


def _widened(x: torch.Tensor) -> torch.Tensor:
    """Return (n, width) in bf16 with the columns that multiply the rows of a bias."""
    wide = torch.empty((len(x), x.shape[1] + _TILE), dtype=torch.bfloat16, device=x.device)
    wide[:, :-_TILE] = x
    wide[:, -_TILE:] = 0
    wide[:, -_TILE : -_TILE + _ONES] = 1
    return wide


class Halves:
    """Copies of the layers' matrices, made anew once the weights have moved."""

    def __init__(self, layers: Sequence[Any], heads: int) -> None:
        self.layers, self.heads = layers, heads
        self._copies: list[HalfLayer] | None = None
        self._sample: torch.Tensor | None = None

    def forget(self) -> None:
        """Drop the copies of weights that are about to change."""
        self._copies = self._sample = None

    def fresh(self) -> list[HalfLayer]:
        """Return the copies, of the weights as they are now."""
        sample = torch.cat([each.flatten()[:: each.numel() // 64 + 1] for each in self._matrices()])
        if self._copies is None or self._sample is None or not torch.equal(sample, self._sample):
            self._copies = [HalfLayer.of(layer, self.heads) for layer in self.layers]
            self._sample = sample.clone()
        return self._copies

    def _matrices(self) -> Iterator[torch.Tensor]:
        for layer in self.layers:
            for module in linears(layer):
                yield module.weight.detach()
                yield module.bias.detach()


def linears(layer: Any) -> tuple[torch.nn.Linear, ...]:
    """Return the linear modules of a HuggingFace layer."""
    own = layer.attention.self
    return (own.query, own.key, own.value, layer.attention.output.dense,
            layer.intermediate.dense, layer.output.dense)  # fmt: skip
