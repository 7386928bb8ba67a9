"""BERT's and RoBERTa's layers over packs.

HuggingFace's models read a padded block; their modules are reused here over texts laid end to end,
where attention alone needs to know where one text ends. Nothing else is computed for padding,
nothing above the highest layer asked for.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from typing import Any, Self, cast

import numpy as np
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .batching import Group, Pack, Part, Request, grouped, packs
from .runtime import keep_freed_memory
from .wordpieces import first_position

_KINDS = {"BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel"}
_SAME = 1e-4
# Rows of scores of this many numbers: torch's softmax of bf16 is faster in fp32 and back.
_IN_FP32 = range(16, 48)
# Dropout decides by sixteen random bits for each number.
_STEPS = 2**16


class PackedBert:
    """An encoder of BERT's family that reads packs; it shares the HuggingFace model's modules."""

    def __init__(self, hf_model: Any) -> None:
        self.first_position = first_position(hf_model.config)
        self.embeddings = hf_model.embeddings
        self.layers = list(hf_model.encoder.layer)
        self.heads = int(hf_model.config.num_attention_heads)
        self._d_table: torch.Tensor | None = None

    @classmethod
    def of(cls, hf_model: torch.nn.Module) -> Self | None:
        """Wrap a model, or return None where it is of another kind or computes otherwise."""
        if type(hf_model).__name__ not in _KINDS:
            return None
        packed = cls(hf_model)
        return packed if packed._agrees(hf_model) else None

    @cached_property
    def flash(self) -> bool:
        """Whether torch's flash attention reads packs of this model: from 2.10 on."""
        fits = int(self.layers[0].attention.self.query.out_features) // self.heads % 8 == 0
        there = torch.backends.cuda.is_flash_attention_available()
        return fits and there and find_spec("torch.nn.attention.varlen") is not None

    def run(self, request: Request) -> Iterator[Part]:
        """Run texts of a flat batch through the encoder, pack by pack."""
        keep_freed_memory()
        runtime, device = request.runtime, next(self.embeddings.parameters()).device
        items = runtime.items(device, request.is_train)
        for pack in packs(request.wordpieces, items, request.texts):
            with (
                torch.enable_grad() if request.is_train else torch.inference_mode(),
                runtime.autocast(device),
            ):
                found = self.states(pack, request.layers, checkpointing=runtime.checkpointing)
                found = {layer: rows.float() for layer, rows in found.items()}
            yield Part(torch.from_numpy(pack.rows).to(device), found)

    def states(
        self,
        pack: Pack,
        layers: Collection[int],
        *,
        checkpointing: bool = False,
    ) -> dict[int, torch.Tensor]:
        """Return the hidden states of the layers asked for, each (n, width).

        Args:
            pack: Texts laid end to end.
            layers: Layer numbers; 0 is the embeddings' output.
            checkpointing: Keep no states between layers, and compute them again on the way back.
        """
        x = self._embedded(pack)
        training = torch.is_grad_enabled()
        by_hand = training or torch.is_autocast_enabled(x.device.type)
        if x.is_cuda and torch.is_autocast_enabled("cuda") and not training:
            groups: Any = Sequences.of(pack, x.device)
        else:
            groups = grouped(pack.runs) if by_hand else grouped(pack.runs, waste=0)
        found = {0: x} if 0 in layers else {}
        again = partial(checkpoint, self._layer, use_reentrant=False)
        run = again if checkpointing and training else self._layer
        for number, layer in enumerate(self.layers[: max(layers, default=0)], start=1):
            x = run(layer, x, groups)
            if number in layers:
                found[number] = x
        return found

    def _embedded(self, pack: Pack) -> torch.Tensor:
        device = next(self.embeddings.parameters()).device
        ids = torch.from_numpy(pack.ids).to(device)[None]
        positions = torch.from_numpy(pack.positions).to(device)[None] + self.first_position
        states = self.embeddings(
            inputs_embeds=self._looked_up(ids),
            position_ids=positions,
            token_type_ids=torch.zeros_like(ids),
        )
        return cast(torch.Tensor, states[0])

    # Return the embeddings of ids; their gradient is added to the table's in place.
    #
    # torch makes a table of zeros for every pass, though a pass touches few of its rows, and
    # adds these tables up: for MiniLM 47 MB a pass.
    def _looked_up(self, ids: torch.Tensor) -> torch.Tensor:
        table = self.embeddings.word_embeddings
        rows = functional.embedding(ids, table.weight.detach())
        if table.weight.requires_grad and torch.is_grad_enabled():
            rows.requires_grad_().register_hook(partial(self._add_gradient, table, ids))
        return rows

    def _add_gradient(self, table: torch.nn.Embedding, ids: torch.Tensor, d: torch.Tensor) -> None:
        weight, kept = table.weight, self._d_table
        if weight.grad is None:
            if kept is None or kept.shape != weight.shape or kept.dtype != weight.dtype:
                self._d_table = kept = torch.zeros_like(weight)
            weight.grad = kept.zero_()  # memory that stays from step to step
        if table.padding_idx is not None:
            d = d.masked_fill((ids == table.padding_idx)[..., None], 0.0)
        weight.grad.index_add_(0, ids.flatten(), d.flatten(0, -2).to(weight.dtype))

    def _layer(self, layer: Any, x: torch.Tensor, groups: Any) -> torch.Tensor:
        mixed, outer, device = layer.attention.output, layer.output, x.device.type
        own, heads = layer.attention.self, self.heads
        # In half precision one copy serves all three; autocast would make three.
        read = x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x
        parts = own.query(read), own.key(read), own.value(read)
        if isinstance(groups, Sequences):
            found = groups.attend(*parts, heads)
        else:
            found = attend(*parts, groups, heads, _rate(own.dropout))
        del parts, read  # they go before the wider layer below
        x_mixed = mixed.dense(found)
        x = mixed.LayerNorm(dropout(x_mixed, _rate(mixed.dropout)) + x)
        inner = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(x))
        x_outer = dropout(outer.dense(inner), _rate(outer.dropout))
        return cast(torch.Tensor, outer.LayerNorm(x_outer + x))

    # Return whether this computes what the HuggingFace model itself computes.
    def _agrees(self, hf_model: torch.nn.Module) -> bool:
        config: Any = hf_model.config
        low = int(getattr(config, "pad_token_id", 0) or 0) + 1
        ids, positions = np.arange(low, low + 10).reshape(2, 5) % config.vocab_size, np.arange(5)
        real = positions < np.array([[5], [2]])  # texts of five wordpieces and of two
        where = np.broadcast_to(positions, real.shape)[real]
        pack = Pack(ids[real], where, np.arange(7), [(1, 5), (1, 2)])
        top, was = len(self.layers), hf_model.training
        hf_model.eval()
        try:
            with torch.no_grad():
                ours = self.states(pack, [top])[top]
                padded, mask = (torch.from_numpy(one).to(ours.device) for one in (ids, real))
                theirs = hf_model(input_ids=padded, attention_mask=mask.long()).last_hidden_state
            return bool(torch.allclose(ours, theirs[mask], atol=_SAME, rtol=_SAME))
        except (AttributeError, TypeError, KeyError):
            return False  # another version of the model names its parts otherwise
        finally:
            hf_model.train(was)


@dataclass(frozen=True)
class Sequences:
    """Where texts that lie end to end begin and end, as flash attention on a GPU reads it.

    Attributes:
        ends: (texts + 1,) int32, 0 first.
        longest: the most wordpieces of a text.
    """

    ends: torch.Tensor
    longest: int

    @classmethod
    def of(cls, pack: Pack, device: torch.device) -> Self:
        """Read them off a pack."""
        counts, lengths = np.array(pack.runs).T
        ends = np.concatenate([[0], np.repeat(lengths, counts)]).cumsum(dtype=np.int32)
        return cls(torch.from_numpy(ends).to(device), int(lengths.max()))

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
        """Let each wordpiece attend to those of its own text, in half precision, (n, width)."""
        from torch.nn.attention.varlen import varlen_attn

        one, two, three = (x.unflatten(-1, (heads, -1)) for x in (q, k, v))
        span = (self.ends, self.ends, self.longest, self.longest)
        return cast(torch.Tensor, varlen_attn(one, two, three, *span)).flatten(-2)


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    groups: Sequence[Group],
    heads: int,
    rate: float = 0.0,
) -> torch.Tensor:
    """Let each wordpiece attend to those of its own text.

    Args:
        q: (n, width) queries of texts laid end to end.
        k: (n, width) keys.
        v: (n, width) values.
        groups: The texts, from `grouped`; without gradients only groups that pad nothing.
        heads: Parts that the width is cut into.
        rate: Share of attention weights to drop.

    Returns:
        (n, width) mixed values.
    """
    device, sizes = q.device.type, [group.rows.stop - group.rows.start for group in groups]
    by_hand = torch.is_grad_enabled() or torch.is_autocast_enabled(device)
    scale, mixed = 1.0 / math.sqrt(q.shape[1] // heads), []
    # Autocast would convert what is multiplied next back and forth.
    with torch.autocast(device, enabled=False):
        for group, *parts in zip(groups, *(x.split(sizes) for x in (q, k, v)), strict=True):
            one, two, three = (group.pad(part, heads) for part in parts)
            if not by_hand:
                found = functional.scaled_dot_product_attention(one, two, three, dropout_p=rate)
            else:  # plain products are the faster way with gradients and dropout
                scores = torch.matmul(one * scale, two.transpose(-1, -2))
                if group.real is not None:
                    scores = scores.masked_fill(~group.real, -torch.inf)
                # In bf16 the faster of two ways to the softmax of the last axis.
                wide = scores.dtype == torch.bfloat16 and scores.shape[-1] in _IN_FP32
                weights = scores.softmax(-1, dtype=torch.float32 if wide else None)
                found = torch.matmul(dropout(weights.to(scores.dtype), rate), three)
            mixed.append(group.unpad(found))
        return torch.cat(mixed)


def dropout(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Set a random share of numbers to zero and scale the others up.

    On a CPU torch draws for each number by itself, which took a tenth of a training step; here
    one draw serves four. The rate is rounded to 1/65,536. Draws come from torch's generator, so
    that a seed repeats them.

    Args:
        x: Any shape.
        rate: Share to drop, below 1; 0 returns `x` itself.
    """
    if rate <= 0.0:
        return x
    if x.device.type != "cpu":
        return functional.dropout(x, rate)
    dropped = min(round(rate * _STEPS), _STEPS - 1)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = draws.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - _STEPS // 2
    return x * keep.to(x.dtype).mul_(_STEPS / (_STEPS - dropped))


# Return what a dropout module drops in its present mode.
def _rate(module: Any) -> float:
    return float(module.p) if module.training else 0.0
