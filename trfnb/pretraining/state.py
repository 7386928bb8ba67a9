"""Everything that a training step depends on, as arrays under names that hold in another process.

A Thinc optimiser keys its moments by numbers that count the layers a process has made; here a
layer is known by its place in the model.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from thinc.api import Model, Optimizer

from trfnb.flow.encoder import EncoderShim

Arrays = dict[str, NDArray[Any]]
_MOMENTS = ("mom1", "mom2", "averages")


def parameters(model: Model) -> Iterator[tuple[str, tuple[int, str], Any, Any]]:
    """Yield each parameter's name here, its key in an optimiser, its value and gradient.

    Value and gradient are Thinc's or torch's, live.
    """
    for place, node in enumerate(model.walk()):
        for name in node.param_names:
            if node.has_param(name):
                gradient = node.get_grad(name) if node.has_grad(name) else None
                yield f"{place}.{name}", (node.id, name), node.get_param(name), gradient
        for number, shim in enumerate(node.shims):
            for name, value in _torch_parameters(shim):
                yield f"{place}.{number}.{name}", (shim.id, name), value, value.grad


def capture(model: Model, optimizer: Optimizer) -> tuple[Arrays, dict[str, int]]:
    """Return copies of weights and moments, and each parameter's count of updates."""
    arrays, updates = {}, {}
    for name, key, value, _ in parameters(model):
        arrays[f"weights/{name}"] = to_numpy(value)
        for moment in _MOMENTS:
            held = getattr(optimizer, moment) or {}
            if key in held:
                arrays[f"{moment}/{name}"] = to_numpy(held[key])
        if key in optimizer.nr_update:
            updates[name] = optimizer.nr_update[key]
    return arrays, updates


def restore(model: Model, optimizer: Optimizer, arrays: Arrays, updates: dict[str, int]) -> None:
    """Put back what `capture` returned.

    Raises:
        ValueError: the arrays are of another model.
    """
    found = {f"weights/{name}" for name, *_ in parameters(model)}
    saved = {name for name in arrays if name.startswith("weights/")}
    if found != saved:
        raise ValueError(
            "A checkpoint expected the same model as the config builds, got other parameters: "
            f"{', '.join(sorted(found ^ saved)[:5])}, … Resume with the config of the first run."
        )
    for name, key, value, _ in list(parameters(model)):
        _fill(value, arrays[f"weights/{name}"], name)
        ops: Any = model.ops
        for moment in _MOMENTS:
            held = getattr(optimizer, moment)
            if f"{moment}/{name}" in arrays and held is not None:
                held[key] = ops.asarray(arrays[f"{moment}/{name}"].copy())
        if name in updates:
            optimizer.nr_update[key] = updates[name]


def replay_schedules(model: Model, optimizer: Optimizer, updates: int) -> None:
    """Step all that follows a schedule as often as the updates before did."""
    factors = [node.attrs["factor"] for node in model.walk() if "factor" in node.attrs]
    shims = [shim for node in model.walk() for shim in node.shims]
    unfreezing = [shim.trainable for shim in shims if isinstance(shim, EncoderShim)]
    for _ in range(updates):
        optimizer.step_schedules()
        for scheduled in (*factors, *unfreezing):
            scheduled.step()


def to_numpy(value: Any) -> NDArray[Any]:
    """Return a copy of an array of any library."""
    if isinstance(value, torch.Tensor):
        return np.array(value.detach().cpu().numpy())
    return np.array(value.get() if hasattr(value, "get") else value)


def _fill(value: Any, saved: NDArray[Any], name: str) -> None:
    if tuple(value.shape) != saved.shape:
        raise ValueError(
            f"A checkpoint's parameter {name} expected the shape {tuple(value.shape)}, got "
            f"{saved.shape}. Resume with the config of the first run."
        )
    if isinstance(value, torch.Tensor):
        value.data.copy_(torch.from_numpy(saved.copy()))
    elif isinstance(value, np.ndarray):
        value[...] = saved
    else:
        value.set(saved)


def _torch_parameters(shim: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    if isinstance(getattr(shim, "_model", None), torch.nn.Module):
        yield from shim._model.named_parameters()
