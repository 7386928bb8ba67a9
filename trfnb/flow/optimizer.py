"""One fused step of all of an encoder's weights, by the settings and the state of Thinc's Adam."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from thinc.api import Optimizer, torch2xp, xp2torch
from thinc.backends import get_array_ops
from thinc.types import FloatsXd
from torch.optim.adamw import adamw

Named = Iterable[tuple[str, torch.nn.Parameter]]
Taken = list[tuple[str, torch.nn.Parameter, torch.Tensor]]


def step(optimizer: Optimizer, owner: int, parameters: Named) -> None:
    """Step each parameter that has a gradient, and clear the gradients.

    Thinc's Adam in fp32 on a CPU goes through torch's fused AdamW, several times as fast and the
    same to 1e-5 over 100 steps; every other optimizer is called parameter by parameter. Both ways
    keep their state in the optimizer, under the same keys, and may follow each other.

    Args:
        optimizer: Thinc's; its schedules stand where its training loop has put them.
        owner: Number of the layer that owns the parameters: with a name, the optimizer's key.
        parameters: Names and parameters; those without a gradient are left as they are.
    """
    taken: Taken = [(name, p, p.grad) for name, p in parameters if p.grad is not None]
    plain = all(p.device.type == "cpu" and p.dtype == torch.float32 for _, p, _ in taken)
    if plain and _is_adam(optimizer):
        _fused(optimizer, owner, taken)
    else:
        _one_by_one(optimizer, owner, taken)
    for _, parameter, _ in taken:
        # None, not zero: a later step without a gradient must not move it by momentum.
        parameter.grad = None


def _is_adam(optimizer: Optimizer) -> bool:
    """Return whether an optimizer computes what Thinc's Adam does."""
    steps_itself = type(optimizer).__call__ is not Optimizer.__call__
    if steps_itself and not hasattr(optimizer, "scale_of"):
        return False
    return not optimizer.use_radam and optimizer.b1 > 0.0 and optimizer.b2 > 0.0


def _fused(optimizer: Optimizer, owner: int, taken: Taken) -> None:
    """Follow Thinc's order: L2 penalty, clipping of each array by itself, Adam, weight decay."""
    if optimizer.L2 != 0 and not optimizer.L2_is_weight_decay:
        for _, parameter, gradient in taken:
            gradient.add_(parameter.detach(), alpha=optimizer.L2)
    if optimizer.grad_clip and taken:
        norms = torch.stack(torch._foreach_norm([gradient for *_, gradient in taken]))
        for (*_, gradient), norm in zip(taken, norms.tolist(), strict=True):
            if norm >= optimizer.grad_clip:
                gradient.mul_(optimizer.grad_clip / norm)
    groups: dict[tuple[int, float], Taken] = {}
    for one in taken:
        key = owner, one[0]
        optimizer.nr_update[key] += 1
        scale = optimizer.scale_of(key) if hasattr(optimizer, "scale_of") else 1.0
        groups.setdefault((optimizer.nr_update[key], scale), []).append(one)
    for (count, scale), group in groups.items():
        _adam(optimizer, owner, group, count, optimizer.learn_rate * scale)
    if optimizer.averages is not None:
        for name, parameter, _ in taken:
            _average(optimizer, (owner, name), parameter)


def _adam(optimizer: Optimizer, owner: int, group: Taken, count: int, rate: float) -> None:
    """Step parameters that were stepped equally often.

    torch adds eps to the corrected second moment's root and decays before the step, Thinc to the
    uncorrected one and after it: rates are rewritten so that the sums are the same.
    """
    correction = (1.0 - optimizer.b2**count) ** 0.5
    decay = rate * optimizer.L2 if optimizer.L2_is_weight_decay else 0.0
    kept = 1.0 - decay
    first, second = (
        [_moment(moments, (owner, name), parameter) for name, parameter, _ in group]
        for moments in (optimizer.mom1, optimizer.mom2)
    )
    with torch.no_grad():
        adamw(
            [parameter for _, parameter, _ in group],
            [gradient for *_, gradient in group],
            first,
            second,
            [],
            [torch.tensor(float(count - 1)) for _ in group],
            fused=True,
            amsgrad=False,
            beta1=optimizer.b1,
            beta2=optimizer.b2,
            lr=rate * kept,
            weight_decay=decay / (rate * kept) if rate * kept else 0.0,
            eps=optimizer.eps / correction,
            maximize=False,
        )


def _moment(
    moments: dict[tuple[int, str], Any], key: tuple[int, str], parameter: torch.Tensor
) -> torch.Tensor:
    """Return a moment that the optimizer keeps, as a tensor around its memory."""
    if key not in moments:
        moments[key] = get_array_ops(torch2xp(parameter.detach())).alloc1f(parameter.numel())
    return xp2torch(moments[key]).view_as(parameter)


def _average(optimizer: Optimizer, key: tuple[int, str], parameter: torch.Tensor) -> None:
    value = cast(FloatsXd, torch2xp(parameter.detach()))
    ops, averages = get_array_ops(value), cast(dict[Any, Any], optimizer.averages)
    if key not in averages:
        averages[key] = ops.alloc(value.shape, dtype="float32")
    ops.update_averages(averages[key], value, optimizer.nr_update[key])


def _one_by_one(optimizer: Optimizer, owner: int, taken: Taken) -> None:
    for name, parameter, grad in taken:
        gradient = cast(FloatsXd, torch2xp(grad))
        value = cast(FloatsXd, torch2xp(parameter.data))
        stepped = xp2torch(optimizer((owner, name), value, gradient)[0])
        # The optimizer works in place; a new tensor around the same memory each step would
        # hold on to the one before it.
        if stepped.data_ptr() != parameter.data_ptr():
            parameter.data.copy_(stepped)
