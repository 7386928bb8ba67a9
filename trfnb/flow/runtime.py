"""How to run an encoder: precision, budget of a forward pass, what to keep."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from .precision import DTYPES, Precision, checked_precision, resolved

# On a CPU larger forward passes run out of cache: 4,096 wordpieces took 10-20 % longer a word.
# One more pass costs about as much as 30 positions there (60 in training), measured on MiniLM.
CPU_BATCH_ITEMS = 1024
# Training pays for the gradient of all embeddings once a pass, and bf16 lays every matrix out anew
# for the processor: larger passes are worth their cache.
CPU_LARGE_ITEMS = 2048
CPU_PADDING = 64


@dataclass(frozen=True)
class Runtime:
    """How to run the encoder; none of this is saved with its weights.

    Attributes:
        precision: ``"fp32"`` is exact; ``"bf16"`` and ``"fp16"`` run matrix products in half
            precision over weights that stay in fp32; ``"auto"`` is bf16 where the device
            multiplies it natively, and fp32 elsewhere.
        max_batch_items: The most wordpieces of one forward pass, padding included.
        attentions: Keep what each wordpiece looks at.
        checkpointing: While training, keep the states between layers alone and compute the rest
            again on the way back: less memory for a second forward pass.
        cache: A file to keep hidden states in and read them from, by content, where nothing is
            trained: for a frozen encoder.
    """

    precision: Precision = "fp32"
    max_batch_items: int = 4096
    attentions: bool = False
    checkpointing: bool = False
    cache: str | None = None

    def __post_init__(self) -> None:
        checked_precision(self.precision)
        if not isinstance(self.max_batch_items, int) or self.max_batch_items < 1:
            raise ValueError(
                "max_batch_items expected a whole number, at least 1 wordpiece, got "
                f"{self.max_batch_items!r}."
            )

    def items(self, device: torch.device, is_train: bool = False) -> int:
        """Return the budget of one forward pass on a device."""
        if device.type != "cpu":
            return self.max_batch_items
        large = is_train or resolved(self.precision, device) != "fp32"
        return min(self.max_batch_items, CPU_LARGE_ITEMS if large else CPU_BATCH_ITEMS)

    def padding(self, device: torch.device) -> int | None:
        """Return how many padded positions cost less than a forward pass of their own."""
        return CPU_PADDING if device.type == "cpu" else None

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return the context that forward passes run in."""
        precision = resolved(self.precision, device)
        if precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, dtype=DTYPES[precision])
