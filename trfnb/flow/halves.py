"""The layers of BERT's family in half precision: bf16 copies of matrices, sums in fp32."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn import functional

from .attention import Runs, attend_in_half

Linear = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class HalfLayer:
    """One layer's matrices in bf16, with biases; queries, keys and values as one.

    Queries are divided by the root of a head's width here, once, instead of at every pass.
    """

    qkv: Linear
    mixed: Linear
    inner: Linear
    outer: Linear

    @classmethod
    def of(cls, layer: Any, heads: int) -> "HalfLayer":
        """Copy the matrices of a HuggingFace layer."""
        own = layer.attention.self
        scale = 1.0 / math.sqrt(own.query.out_features // heads)
        scales = {own.query: scale, own.key: 1.0, own.value: 1.0}
        weight, bias = (
            torch.cat([getattr(one, name).detach() * by for one, by in scales.items()])
            for name in ("weight", "bias")
        )
        parts = (layer.attention.output.dense, layer.intermediate.dense, layer.output.dense)
        copies = ((one.weight.detach().bfloat16(), one.bias.detach().bfloat16()) for one in parts)
        return cls((weight.bfloat16(), bias.bfloat16()), *copies)

    def forward(self, layer: Any, x: torch.Tensor, runs: Runs, heads: int) -> torch.Tensor:
        """Return the layer's (n, width) output for (n, width) input, both in fp32."""
        mixed = attend_in_half(functional.linear(x.bfloat16(), *self.qkv), runs, heads)
        # Converted first: torch adds numbers of two kinds more slowly.
        x = layer.attention.output.LayerNorm(functional.linear(mixed, *self.mixed).float().add_(x))
        inner = functional.linear(x.bfloat16(), *self.inner)
        inner = layer.intermediate.intermediate_act_fn(inner)
        summed = functional.linear(inner, *self.outer).float().add_(x)
        return cast(torch.Tensor, layer.output.LayerNorm(summed))


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
