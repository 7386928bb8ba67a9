"""BERT's and RoBERTa's layers over texts without padding.

HuggingFace's models read a padded block; their layers are reused here over texts laid end to end,
where attention alone needs to know where one text ends: runs of texts of one length attend as a
block, without a mask. Nothing is computed for padding, nothing above the highest layer asked for.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Self, cast

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .dropping import drop
from .packing import Pack

# Position of a text's first wordpiece: RoBERTa's family counts from the padding id on.
_FIRST_POSITION: dict[str, Callable[[Any], int]] = {
    "BertModel": lambda config: 0,
    "RobertaModel": lambda config: int(config.pad_token_id) + 1,
    "XLMRobertaModel": lambda config: int(config.pad_token_id) + 1,
    "CamembertModel": lambda config: int(config.pad_token_id) + 1,
}
_SAME = 1e-4
Runs = Sequence[tuple[int, int]]


class PackedBert:
    """An encoder of BERT's family that reads packs; it shares the HuggingFace model's modules."""

    def __init__(self, body: torch.nn.Module) -> None:
        whole = cast(Any, body)
        self.first_position = _FIRST_POSITION[type(body).__name__](whole.config)
        self.embeddings = whole.embeddings
        self.layers = list(whole.encoder.layer)
        self.heads = int(whole.config.num_attention_heads)
        self._halves: dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]] | None = None
        self._sample: torch.Tensor | None = None

    @classmethod
    def of(cls, body: torch.nn.Module) -> Self | None:
        """Wrap a model, or return None where it is of another kind or computes otherwise."""
        config = getattr(body, "config", None)
        plain = (
            type(body).__name__ in _FIRST_POSITION
            and not getattr(config, "is_decoder", False)
            and getattr(config, "position_embedding_type", None) in (None, "absolute")
            and not getattr(config, "chunk_size_feed_forward", 0)
        )
        if not plain:
            return None
        packed = cls(body)
        return packed if packed._agrees(body) else None

    def states(
        self,
        pack: Pack,
        layers: Collection[int],
        *,
        half: bool = False,
        checkpointing: bool = False,
    ) -> dict[int, torch.Tensor]:
        """Return the hidden states of the layers asked for, each (n, width).

        Args:
            pack: Texts laid end to end.
            layers: Layer numbers; 0 is the embeddings' output.
            half: Multiply copies of the weights in bf16; what is added up stays in fp32.
            checkpointing: Keep no states between layers, and compute them again on the way back.
        """
        device = next(self.embeddings.parameters()).device
        ids = torch.from_numpy(pack.ids).to(device)[None]
        positions = torch.from_numpy(pack.positions).to(device)[None] + self.first_position
        x = self.embeddings(
            input_ids=ids, position_ids=positions, token_type_ids=torch.zeros_like(ids)
        )[0]
        halves = self._in_half() if half else None
        found = {0: x} if 0 in layers else {}
        for number, layer in enumerate(self.layers[: max(layers, default=0)], start=1):
            if checkpointing and torch.is_grad_enabled():
                x = checkpoint(self._layer, layer, x, pack.runs, None, use_reentrant=False)
            else:
                x = self._layer(layer, x, pack.runs, halves)
            if number in layers:
                found[number] = x
        return found

    def _layer(self, layer: Any, x: torch.Tensor, runs: Runs, halves: Any) -> torch.Tensor:
        def linear(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
            return module(x) if halves is None else functional.linear(x, *halves[module])

        own, mixed = layer.attention.self, layer.attention.output
        narrow = x if halves is None else x.bfloat16()
        q, k, v = (linear(module, narrow) for module in (own.query, own.key, own.value))
        looked = linear(mixed.dense, attend(q, k, v, runs, self.heads, _rate(own.dropout)))
        x = mixed.LayerNorm(drop(looked, _rate(mixed.dropout)) + x)
        narrow = x if halves is None else x.bfloat16()
        inner = layer.intermediate.intermediate_act_fn(linear(layer.intermediate.dense, narrow))
        outer = linear(layer.output.dense, inner)
        return cast(
            torch.Tensor, layer.output.LayerNorm(drop(outer, _rate(layer.output.dropout)) + x)
        )

    # -- weights in half precision ----------------------------------------------------------

    def forget_halves(self) -> None:
        """Drop the copies of weights that are about to change."""
        self._halves = self._sample = None

    def _in_half(self) -> dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]:
        """Return copies of the matrices in bf16, made anew once the weights have moved."""
        sample = torch.cat([each.flatten()[:: each.numel() // 64 + 1] for each in self._matrices()])
        if self._halves is None or self._sample is None or not torch.equal(sample, self._sample):
            self._halves = {
                module: (module.weight.detach().bfloat16(), module.bias.detach().bfloat16())
                for module in self._linears()
            }
            self._sample = sample.clone()
        return self._halves

    def _linears(self) -> Iterator[torch.nn.Linear]:
        for layer in self.layers:
            own = layer.attention.self
            yield from (own.query, own.key, own.value, layer.attention.output.dense)
            yield from (layer.intermediate.dense, layer.output.dense)

    def _matrices(self) -> Iterator[torch.Tensor]:
        for module in self._linears():
            yield module.weight.detach()
            yield module.bias.detach()

    def _agrees(self, body: torch.nn.Module) -> bool:
        """Return whether this computes what the HuggingFace model itself computes."""
        import numpy as np

        was = body.training
        body.eval()
        config: Any = body.config
        low = int(getattr(config, "pad_token_id", 0) or 0) + 1
        ids = np.arange(low, low + 5) % config.vocab_size
        pack = Pack(
            np.concatenate([ids, ids[:2], ids[2:4]]), np.array([0, 1, 2, 3, 4, 0, 1, 0, 1]),
            np.arange(9), [(1, 5), (2, 2)],
        )  # fmt: skip
        top = len(self.layers)
        try:
            if not all(type(module) is torch.nn.Linear for module in self._linears()):
                return False
            with torch.no_grad():
                ours = self.states(pack, [top])[top]
                device = ours.device
                theirs = [
                    body(input_ids=torch.from_numpy(one).to(device)[None]).last_hidden_state[0]
                    for one in (ids, ids[:2], ids[2:4])
                ]
            return bool(torch.allclose(ours, torch.cat(theirs), atol=_SAME, rtol=_SAME))
        except (AttributeError, TypeError, KeyError):
            return False  # another version of the model names its parts otherwise
        finally:
            body.train(was)


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


def _matmul_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout: float
) -> torch.Tensor:
    """Attend by plain matrix products, on a CPU the faster way in bf16 and with dropout."""
    looks = torch.matmul(q / math.sqrt(q.shape[-1]), k.transpose(-1, -2)).softmax(-1)
    return torch.matmul(drop(looks, dropout), v)


def _rate(dropout: Any) -> float:
    """Return what a dropout module drops in its present mode."""
    return float(dropout.p) if dropout.training else 0.0
