"""Several processes that train one model: started by torchrun, their gradients summed by torch.

Each draws the same masks for the whole batch, computes every n-th doc, and divides by the whole
batch's targets; the sum of what they find is the single process's gradient.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from thinc.api import Model

from trfnb.pretraining.state import parameters, to_numpy


@dataclass(frozen=True)
class Share:
    """One process of several.

    Attributes:
        number: Its number, from 0.
        of: How many there are.
    """

    number: int = 0
    of: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes what the run leaves."""
        return self.number == 0


@contextmanager
def processes() -> Iterator[Share]:
    """Join the other processes that torchrun started; alone without it."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Share()
        return
    import torch.distributed as dist

    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Share(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()


def sum_gradients(model: Model, share: Share) -> None:
    """Replace every gradient by the sum over all processes, in one exchange."""
    if share.of == 1:
        return
    ops: Any = model.ops
    found = list(parameters(model))
    flat = np.concatenate(
        [
            np.zeros(value.numel() if hasattr(value, "numel") else value.size, dtype="f")
            if gradient is None
            else to_numpy(gradient).ravel()
            for _, _, value, gradient in found
        ]
    )
    summed = summed_over(flat)
    nodes = {node.id: node for node in model.walk()}
    start = 0
    for _, (number, name), value, gradient in found:
        shape = tuple(value.shape)
        size = int(np.prod(shape))
        part = summed[start : start + size].reshape(shape)
        start += size
        if isinstance(value, torch.Tensor):
            value.grad = torch.from_numpy(part.copy()).to(value.device)
        elif gradient is not None:
            gradient[...] = ops.asarray(part)
        elif part.any():
            nodes[number].set_grad(name, ops.asarray(part.copy()))
    for node in nodes.values():
        for shim in node.shims:
            if hasattr(shim, "has_gradient"):
                shim.has_gradient = True


def summed_over(values: np.ndarray) -> np.ndarray:
    """Return the sum of an array over all processes."""
    import torch.distributed as dist

    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if dist.get_backend() == "nccl":
        on_device = tensor.cuda()
        dist.all_reduce(on_device)
        return on_device.cpu().numpy()
    dist.all_reduce(tensor)
    return tensor.numpy()
