"""BERT's and RoBERTa's layers over texts without padding.

HuggingFace's models read a padded block; their layers are reused here over texts laid end to end,
where attention alone needs to know where one text ends: groups of texts of one length, or about
one, attend as a block. Nothing else is computed for padding, nothing above the highest layer asked
for.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Self, cast

import torch
from torch.utils.checkpoint import checkpoint

from .attention import attend, look
from .dropping import drop
from .groups import Group, grouped, padded
from .halves import HalfLayer, Halves, linears
from .looking_up import TableGradient
from .packing import Pack

# Position of a text's first wordpiece: RoBERTa's family counts from the padding id on.
_FIRST_POSITION: dict[str, Callable[[Any], int]] = {
    "BertModel": lambda config: 0,
    "RobertaModel": lambda config: int(config.pad_token_id) + 1,
    "XLMRobertaModel": lambda config: int(config.pad_token_id) + 1,
    "CamembertModel": lambda config: int(config.pad_token_id) + 1,
}
_SAME = 1e-4


class PackedBert:
    """An encoder of BERT's family that reads packs; it shares the HuggingFace model's modules."""

    def __init__(self, body: torch.nn.Module) -> None:
        whole = cast(Any, body)
        self.first_position = _FIRST_POSITION[type(body).__name__](whole.config)
        self.embeddings = whole.embeddings
        self.layers = list(whole.encoder.layer)
        self.heads = int(whole.config.num_attention_heads)
        self.words = TableGradient(whole.embeddings.word_embeddings)
        self.halves = Halves(self.layers, self.heads)

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
        halves: Sequence[HalfLayer] | None = None,
        *,
        checkpointing: bool = False,
    ) -> dict[int, torch.Tensor]:
        """Return the hidden states of the layers asked for, each (n, width).

        Args:
            pack: Texts laid end to end.
            layers: Layer numbers; 0 is the embeddings' output.
            halves: From `Halves.fresh`: multiply these copies of the weights, without gradients.
            checkpointing: Keep no states between layers, and compute them again on the way back.
        """
        device = next(self.embeddings.parameters()).device
        ids = torch.from_numpy(pack.ids).to(device)[None]
        if self.words.table is not self.embeddings.word_embeddings:
            self.words = TableGradient(self.embeddings.word_embeddings)
        positions = torch.from_numpy(pack.positions).to(device)[None] + self.first_position
        x = self.embeddings(
            inputs_embeds=self.words(ids),
            position_ids=positions,
            token_type_ids=torch.zeros_like(ids),
        )[0]
        by_hand = torch.is_grad_enabled() or torch.is_autocast_enabled(device.type)
        if halves is not None:
            groups = padded(pack.runs)
        elif by_hand:
            groups = grouped(pack.runs)
        else:  # `look` knows no padding
            groups = grouped(pack.runs, waste=0)
        found = {0: x} if 0 in layers else {}
        for number, layer in enumerate(self.layers[: max(layers, default=0)], start=1):
            if halves is not None:
                x = halves[number - 1].forward(layer, x, groups, self.heads)
            elif checkpointing and torch.is_grad_enabled():
                x = checkpoint(self._layer, layer, x, groups, by_hand, use_reentrant=False)
            else:
                x = self._layer(layer, x, groups, by_hand)
            if number in layers:
                found[number] = x
        return found

    def _layer(
        self, layer: Any, x: torch.Tensor, groups: Sequence[Group], by_hand: bool
    ) -> torch.Tensor:
        mixed = layer.attention.output
        looked = mixed.dense(self._looked(layer.attention.self, x, groups, by_hand))
        x = mixed.LayerNorm(drop(looked, _rate(mixed.dropout)) + x)
        inner = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(x))
        outer = layer.output.dense(inner)
        return cast(
            torch.Tensor, layer.output.LayerNorm(drop(outer, _rate(layer.output.dropout)) + x)
        )

    def _looked(
        self, own: Any, x: torch.Tensor, groups: Sequence[Group], by_hand: bool
    ) -> torch.Tensor:
        """Return what attention mixes; its queries, keys and values go when it is done."""
        q, k, v = own.query(x), own.key(x), own.value(x)
        way = attend if by_hand else look
        return way(q, k, v, groups, self.heads, _rate(own.dropout))

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
            modules = [module for layer in self.layers for module in linears(layer)]
            if not all(type(module) is torch.nn.Linear for module in modules):
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


def _rate(dropout: Any) -> float:
    """Return what a dropout module drops in its present mode."""
    return float(dropout.p) if dropout.training else 0.0
