"""The embedding table's gradient, added up in memory that stays.

torch makes a table of zeros for every pass, though a pass touches few of its rows, and adds these
tables up: for MiniLM 47 MB a pass, faulted in afresh each time.
"""

from typing import Any

import torch
from torch.nn import functional


class TableGradient:
    """Looks rows of an embedding table up, and adds their gradients to ``weight.grad`` itself.

    Args:
        table: The module; its gradient is what torch's own would be.
    """

    def __init__(self, table: torch.nn.Embedding) -> None:
        self.table = table
        self._kept: torch.Tensor | None = None

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Return (…, width) rows of (…) ids."""
        weight = self.table.weight
        if weight.requires_grad and torch.is_grad_enabled():
            rows: torch.Tensor = _LookUp.apply(weight, ids, self)
            return rows
        return functional.embedding(ids, weight)

    def add(self, ids: torch.Tensor, d_rows: torch.Tensor) -> None:
        """Add the gradient of rows that were looked up."""
        weight, padding = self.table.weight, self.table.padding_idx
        if weight.grad is None:
            kept = self._kept
            if kept is None or kept.shape != weight.shape or kept.dtype != weight.dtype:
                self._kept = kept = torch.zeros_like(weight)
            weight.grad = kept.zero_()
        ids, d_rows = ids.flatten(), d_rows.flatten(0, -2).to(weight.dtype)
        if padding is not None and bool((ids == padding).any()):
            d_rows = d_rows.masked_fill((ids == padding)[:, None], 0.0)
        weight.grad.index_add_(0, ids, d_rows)


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, ids: torch.Tensor, owner: Any) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.owner = owner
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *d_rows: torch.Tensor) -> tuple[None, None, None]:
        ctx.owner.add(*ctx.saved_tensors, *d_rows)
        return None, None, None
