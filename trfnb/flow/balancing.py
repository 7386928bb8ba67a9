"""Policies that choose the factors of listeners set to "auto", from their gradients or losses.

Each works on the inner products of the gradients alone, so that a step costs one small matrix and
no second backward pass. Factors are on the scale of a plain sum: where nothing is to be balanced,
each is about 1. A config names a policy in the registry `balancers`.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import catalogue
import numpy as np
from spacy.util import registry as _registry

registry: Any = _registry


if not hasattr(registry, "balancers"):
    registry.balancers = catalogue.create("spacy", "balancers", entry_points=True)


@dataclass(frozen=True)
class TaskGradients:
    """What a policy sees of a batch.

    Attributes:
        listeners: Names of the components whose factor it chooses.
        gram: Inner products of their gradients, (k, k); 0 for listeners to different layers.
        losses: Each component's loss per word in the batch before; NaN where it is not known yet.
    """

    listeners: tuple[str, ...]
    gram: np.ndarray
    losses: np.ndarray


Policy = Callable[[TaskGradients], Sequence[float] | np.ndarray]


def chosen_factors(
    policy: Policy, names: Sequence[str], products: np.ndarray, losses: Mapping[str, float]
) -> dict[str, float]:
    """Ask a policy for the factors of some listeners.

    Args:
        policy: One of those below, or any function of `TaskGradients`.
        names: The listeners' names.
        products: Inner products of their gradients, (k, k); NaN for listeners to different layers.
        losses: Each component's latest loss per word.

    Raises:
        ValueError: the policy returned something else than one finite number for each.
    """
    known = np.array([losses.get(name, math.nan) for name in names])
    gradients = TaskGradients(tuple(names), np.nan_to_num(products), known)
    chosen = np.asarray(policy(gradients), dtype=float)
    if chosen.shape != (len(names),) or not np.isfinite(chosen).all():
        raise ValueError(
            f"The balancing policy expected to return {len(names)} finite factors, one each "
            f"for {', '.join(names)}; it returned {chosen.tolist()}."
        )
    return dict(zip(names, chosen.tolist(), strict=True))


@registry.balancers("trfnb.equal_norms.v1")
def equal_norms(smoothing: float = 0.9) -> Policy:
    """Make all gradients equally strong, at the mean of their norms.

    What GradNorm (Chen et al., 2018, https://arxiv.org/abs/1711.02257) learns by gradient descent
    for equal training rates (its alpha of 0), in closed form.

    Args:
        smoothing: How much of the norm known so far a new batch leaves as it is, from 0 to 1.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"equal_norms expected smoothing in [0, 1), got {smoothing}.")
    known: dict[str, float] = {}

    def policy(gradients: TaskGradients) -> np.ndarray:
        for name, norm in zip(gradients.listeners, np.sqrt(gradients.gram.diagonal()), strict=True):
            if norm > 0:
                known[name] = smoothing * known.get(name, norm) + (1 - smoothing) * norm
        norms = np.array([known.get(name, np.nan) for name in gradients.listeners])
        if np.isnan(norms).all():
            return np.ones(len(norms))
        return np.nan_to_num(np.nanmean(norms) / norms, nan=1.0)

    return policy


@registry.balancers("trfnb.uncertainty.v1")
def uncertainty(rate: float = 0.05) -> Policy:
    """Weigh each task by its learnt precision 1/σ², so that noisy tasks count less.

    Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", 2018,
    https://arxiv.org/abs/1705.07115. Log σ² follows the gradient of L/σ² + log σ² for each
    loss per word. Weights are scaled to a mean of 1, since spaCy's losses have no common unit.

    Args:
        rate: Step size of log σ².
    """
    log_variance: dict[str, float] = {}

    def policy(gradients: TaskGradients) -> np.ndarray:
        for name, loss in zip(gradients.listeners, gradients.losses, strict=True):
            now = log_variance.setdefault(name, 0.0)
            if np.isfinite(loss):
                # A loss of hundreds must not throw it about.
                log_variance[name] = now - rate * (1 - min(np.exp(-now) * loss, 10.0))
        weights = np.exp([-log_variance[name] for name in gradients.listeners])
        return weights / weights.mean()

    return policy


@registry.balancers("trfnb.loss_ratio.v1")
def loss_ratio(temperature: float = 2.0, window: int = 50) -> Policy:
    """Weigh each task by how slowly its loss falls: Dynamic Weight Average.

    Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", 2019,
    https://arxiv.org/abs/1803.10704, over windows of batches where they take epochs.

    Args:
        temperature: A high one makes the weights alike.
        window: Batches that are averaged before their ratio is taken.
    """
    if temperature <= 0 or window < 1:
        raise ValueError(
            "loss_ratio expected a temperature above 0 and a window of at least 1 batch, got "
            f"{temperature} and {window}."
        )
    seen: dict[str, deque[float]] = {}

    def ratio(name: str, loss: float) -> float:
        losses = seen.setdefault(name, deque(maxlen=2 * window))
        if np.isfinite(loss):
            losses.append(float(loss))
        if len(losses) < 2 * window:
            return 1.0
        before, after = list(losses)[:window], list(losses)[window:]
        return sum(after) / sum(before) if sum(before) else 1.0

    def policy(gradients: TaskGradients) -> np.ndarray:
        pairs = zip(gradients.listeners, gradients.losses, strict=True)
        weights = np.exp(np.array([ratio(name, loss) for name, loss in pairs]) / temperature)
        return weights / weights.mean()

    return policy


@registry.balancers("trfnb.pcgrad.v1")
def pcgrad(seed: int = 0) -> Policy:
    """Take from each gradient what points against another, in random order, and add them up.

    Yu et al., "Gradient Surgery for Multi-Task Learning", 2020, https://arxiv.org/abs/2001.06782.

    Args:
        seed: Of the order. Torch's own random state, which dropout draws from, stays as it is.
    """
    import torch

    weigh = _torchjd("PCGradWeighting", mean=False)
    random = np.random.default_rng(seed)

    def policy(gradients: TaskGradients) -> np.ndarray:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(random.integers(2**31)))
            return np.asarray(weigh(gradients))

    return policy


@registry.balancers("trfnb.mgda.v1")
def mgda() -> Policy:
    """Find the shortest vector between the gradients, along which no task gets worse.

    Désidéri, "Multiple-gradient descent algorithm", 2012; Sener and Koltun, "Multi-Task Learning
    as Multi-Objective Optimization", 2018, https://arxiv.org/abs/1810.04650.
    """
    return _torchjd("MGDAWeighting")


@registry.balancers("trfnb.cagrad.v1")
def cagrad(c: float = 0.5) -> Policy:
    """Stay near the mean gradient, and help the task that it helps least.

    Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", 2021,
    https://arxiv.org/abs/2110.14048.

    Args:
        c: How far from the mean, as a part of its length; 0 is the mean itself.
    """
    return _torchjd("CAGradWeighting", c=c)


@registry.balancers("trfnb.upgrad.v1")
def upgrad() -> Policy:
    """Project each gradient to where it conflicts with none, and add them up.

    Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024,
    https://arxiv.org/abs/2406.16232.
    """
    return _torchjd("UPGradWeighting")


@registry.balancers("trfnb.imtl_g.v1")
def imtl_g() -> Policy:
    """Make the sum project equally far onto each gradient's direction.

    Liu et al., "Towards Impartial Multi-task Learning", 2021,
    https://openreview.net/forum?id=IMPnRXEWpvr. A factor may come out negative.
    """
    return _torchjd("IMTLGWeighting")


def _torchjd(name: str, *, mean: bool = True, **settings: Any) -> Policy:
    """Wrap a weighting of torchjd; one that stands for a mean is put on the sum's scale."""
    try:
        import torch
        from torchjd import aggregation

        weighting = getattr(aggregation, name)(**settings)
    except ImportError as error:
        raise ImportError(
            f"This balancing policy needs torchjd: pip install 'trfnb[balance]' ({error})."
        ) from error

    def policy(gradients: TaskGradients) -> np.ndarray:
        weights = np.ones(len(gradients.listeners))
        # Heads often start at zero weights and send zeros, which no direction fits.
        nonzero = np.flatnonzero(gradients.gram.diagonal() > 0)
        if len(nonzero):
            products = gradients.gram[np.ix_(nonzero, nonzero)]
            # The weights of all of them depend on no common scale; the solvers' limits do.
            scaled = torch.from_numpy(products / products.diagonal().mean())
            found = weighting(scaled).numpy()
            weights[nonzero] = found * (len(nonzero) if mean else 1)
        return weights

    return policy
