"""One fused step of all of an encoder's weights, by the settings and the state of Thinc's Adam."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from thinc.api import Optimizer, torch2xp, xp2torch
from thinc.backends import get_array_ops
from thinc.types import FloatsXd
from torch.optim.adamw import adamw

Named = Iterable[tuple[str, torch.nn.Parameter]]
# Where torch's fused AdamW runs.
_FUSED = {("cpu", torch.float32), ("cuda", torch.float32)}


def step(optimizer: Optimizer, owner: int, parameters: Named) -> None:
    """Step each parameter that has a gradient, and clear the gradients.

    Thinc's Adam in fp32 goes through torch's fused AdamW, several times as fast and the
    same to 1e-5 over 100 steps; every other optimizer, and one that keeps averages or takes L2 as a
    penalty, is called parameter by parameter. Both ways keep their state in the optimizer, under
    the same keys, and may follow each other.

    Args:
        optimizer: Thinc's; its schedules stand where its training loop has put them.
        owner: Number of the layer that owns the parameters: with a name, the optimizer's key.
        parameters: Names and parameters; those without a gradient are left as they are.
    """
    taken = [(name, p) for name, p in parameters if p.grad is not None]
    kinds = {(p.device.type, p.dtype) for _, p in taken}
    if kinds <= _FUSED and _is_plain_adam(optimizer):
        _fused(optimizer, owner, taken)
    else:
        _one_by_one(optimizer, owner, taken)
    for _, parameter in taken:
        # None, not zero: a later step without a gradient must not move it by momentum.
        parameter.grad = None


@contextmanager
def averaged(averages: Mapping[Any, Any], owner: int, parameters: Named) -> Iterator[None]:
    """Put an optimizer's averages in the place of a layer's weights, and the weights back after.

    Thinc's own shim for torch looks for other keys than those its optimizer averages under.

    Args:
        averages: Of `step`'s optimizer, by its keys; what is not there stays.
        owner: As for `step`.
        parameters: Names and parameters.
    """
    swapped = [
        (p, p.data, averages[owner, name]) for name, p in parameters if (owner, name) in averages
    ]
    try:
        for parameter, weights, average in swapped:
            parameter.data = xp2torch(average, device=weights.device).view_as(weights)
        yield
    finally:
        for parameter, weights, _ in swapped:
            parameter.data = weights


def _is_plain_adam(optimizer: Optimizer) -> bool:
    return (
        (type(optimizer).__call__ is Optimizer.__call__ or hasattr(optimizer, "scale_of"))
        and not optimizer.use_radam
        and optimizer.b1 > 0.0
        and optimizer.b2 > 0.0
        and (optimizer.L2 == 0 or optimizer.L2_is_weight_decay)
        and optimizer.averages is None
    )


def _fused(optimizer: Optimizer, owner: int, taken: Named) -> None:
    # In Thinc's order: clipping of each array by itself, Adam, weight decay.
    groups: dict[tuple[int, float], list[tuple[str, torch.nn.Parameter]]] = {}
    for name, parameter in taken:
        key = owner, name
        optimizer.nr_update[key] += 1
        scale = optimizer.scale_of(key) if hasattr(optimizer, "scale_of") else 1.0
        groups.setdefault((optimizer.nr_update[key], scale), []).append((name, parameter))
    for (count, scale), group in groups.items():
        gradients = [cast(torch.Tensor, parameter.grad) for _, parameter in group]
        if optimizer.grad_clip:
            norms = torch.stack(torch._foreach_norm(gradients)).tolist()
            for gradient, norm in zip(gradients, norms, strict=True):
                if norm >= optimizer.grad_clip:
                    gradient.mul_(optimizer.grad_clip / norm)
        # torch adds eps to the corrected second moment's root and decays before the step, Thinc to
        # the uncorrected one and after it: rates are rewritten so that the sums are the same.
        rate = optimizer.learn_rate * scale
        decay = rate * optimizer.L2
        kept = 1.0 - decay
        first, second = (
            [_moment(moments, (owner, name), parameter) for name, parameter in group]
            for moments in (optimizer.mom1, optimizer.mom2)
        )
        with torch.no_grad():
            adamw(
                [parameter for _, parameter in group],
                gradients,
                first,
                second,
                [],
                list(torch.full((len(group),), count - 1.0, device=gradients[0].device)),
                fused=True,
                amsgrad=False,
                beta1=optimizer.b1,
                beta2=optimizer.b2,
                lr=rate * kept,
                weight_decay=decay / (rate * kept) if rate * kept else 0.0,
                eps=optimizer.eps / (1.0 - optimizer.b2**count) ** 0.5,
                maximize=False,
            )


def _moment(
    moments: dict[tuple[int, str], Any], key: tuple[int, str], parameter: torch.Tensor
) -> torch.Tensor:
    if key not in moments:
        moments[key] = get_array_ops(torch2xp(parameter.detach())).alloc1f(parameter.numel())
    return xp2torch(moments[key], device=parameter.device).view_as(parameter)


def _one_by_one(optimizer: Optimizer, owner: int, taken: Named) -> None:
    for name, parameter in taken:
        value = cast(FloatsXd, torch2xp(parameter.data))
        gradient = cast(FloatsXd, torch2xp(cast(torch.Tensor, parameter.grad)))
        stepped = xp2torch(optimizer((owner, name), value, gradient)[0], device=parameter.device)
        # The optimizer works in place; a new tensor around the same memory each step would
        # hold on to the one before it.
        if stepped.data_ptr() != parameter.data_ptr():
            parameter.data.copy_(stepped)
