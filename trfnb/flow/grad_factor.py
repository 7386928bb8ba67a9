"""The factor of a listener's gradient: a number, a schedule, or left to a balancing policy.

A policy works on the inner products of the gradients alone, so that a step costs one small matrix
and no second backward pass. Factors are on the scale of a plain sum: where nothing is to be
balanced, each is about 1. A config names a policy in the registry `balancers`.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, repeat, tee
from numbers import Real
from typing import Annotated, Any, Self

import catalogue
import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, validate_call
from spacy.util import registry as _registry

registry: Any = _registry
# Two that transformers brought, and one of ours.
for _kind in ("span_getters", "annotation_setters", "balancers"):
    if not hasattr(registry, _kind):
        setattr(registry, _kind, catalogue.create("spacy", _kind, entry_points=True))

AUTO = "auto"


class Schedule:
    """A number that stays, or one that changes from training step to training step.

    Args:
        value: A number, or a Thinc schedule (an iterable of them; when it ends, its last value
            stays).

    Attributes:
        now: The number of the present step.
    """

    checked: Callable[[Any], Any]  # returns a number as it is to be used, or raises

    def __init__(self, value: Any) -> None:
        given = isinstance(value, Iterable) and not isinstance(value, str)
        self._rest: Iterator[Any] = iter(value if given else ())
        self.now = self.checked(next(self._rest, value))

    def step(self) -> None:
        """Move on to the next training step."""
        self.now = self.checked(next(self._rest, self.now))

    def __reduce__(self) -> tuple[Any, ...]:
        # A generator cannot be pickled; another process, which only predicts, needs no schedule.
        return type(self), (self.now,)

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Self:
        kind, value = self.__reduce__()
        copied: Self = kind(*value)
        # A generator cannot be copied, but what it yields can go to both.
        self._rest, copied._rest = tee(self._rest)
        return copied


class GradFactor(Schedule):
    """The number that a listener's gradient is multiplied by: constant, or one a training step.

    Args:
        value: A finite number, or a Thinc schedule (an iterable of them; when it ends, its last
            value stays). 0 stops the gradient; a negative one reverses it, as in adversarial
            training (Ganin and Lempitsky, 2015, https://arxiv.org/abs/1409.7495). ``"auto"``
            leaves it to the balancing policy of the shared component.

    Attributes:
        now: The factor of the present step; 1 where a policy decides.
        auto: Whether a policy decides.

    Raises:
        TypeError: the value is neither a number nor an iterable of at least one number.
        ValueError: a number is NaN or infinite.
    """

    def __init__(self, value: float | str | Iterable[float]) -> None:
        self.auto = isinstance(value, str) and value == AUTO
        super().__init__(1.0 if self.auto else value)

    @staticmethod
    def checked(value: Any) -> float:
        """Return a factor, if it is a finite number."""
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(
                "grad_factor expected a finite number or a schedule of them, e.g. 0.5 or "
                f'{{"@schedules": "trfnb.frozen_then_warmup.v1", …}}, or "{AUTO}"; '
                f"got {value!r} ({type(value).__name__})."
            )
        if not math.isfinite(value):
            raise ValueError(f"grad_factor expected a finite number, got {value}.")
        return float(value)

    def __reduce__(self) -> tuple[Any, ...]:
        return GradFactor, (AUTO if self.auto else self.now,)


@registry.schedules("trfnb.frozen_then_warmup.v1")
@validate_call
def frozen_then_warmup(
    frozen: NonNegativeInt, warmup: NonNegativeInt = 0, factor: float = 1.0
) -> Iterator[float]:
    """Yield 0 for a while, then rise in a line to a factor and stay there.

    Lower layers that wait until the heads are no longer random: Howard and Ruder, "Universal
    Language Model Fine-tuning for Text Classification", 2018, https://arxiv.org/abs/1801.06146.

    Args:
        frozen: Steps at 0.
        warmup: Steps from there to the full factor.
        factor: The factor from then on.

    Raises:
        ValueError: a number of steps is negative.
    """
    rising = (factor * step / (warmup + 1) for step in range(1, warmup + 1))
    return chain(repeat(0.0, frozen), rising, repeat(factor))


@registry.schedules("trfnb.piecewise_constant.v1")
def piecewise_constant(starts: list[int], factors: list[float]) -> Iterator[float]:
    """Yield factors that each hold until the next one's start, as a tuned run leaves them.

    Args:
        starts: For each factor, how many steps were made before it; the first is 0.
        factors: The factors.

    Raises:
        ValueError: the starts do not rise from 0, or are not as many as the factors.
    """
    steps = [b - a for a, b in pairwise(starts)]
    if len(starts) != len(factors) or starts[:1] != [0] or any(n < 1 for n in steps):
        raise ValueError(
            "piecewise_constant expected one start for each factor, and starts that rise from 0, "
            f"got starts={starts}, factors={factors}."
        )
    return chain(*map(repeat, factors, steps), repeat(factors[-1]))


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
    seen = TaskGradients(tuple(names), np.nan_to_num(products), known)
    chosen = np.asarray(policy(seen), dtype=float)
    if chosen.shape != (len(names),) or not np.isfinite(chosen).all():
        raise ValueError(
            f"The balancing policy expected to return {len(names)} finite factors, one each "
            f"for {', '.join(names)}; it returned {chosen.tolist()}."
        )
    return dict(zip(names, chosen.tolist(), strict=True))


@registry.balancers("trfnb.equal_norms.v1")
class EqualNorms:
    """Makes all gradients equally strong, at the mean of their norms.

    What GradNorm (Chen et al., 2018, https://arxiv.org/abs/1711.02257) learns by gradient descent
    for equal training rates (its alpha of 0), in closed form.

    Args:
        smoothing: How much of the norm known so far a new batch leaves as it is, from 0 to 1.
    """

    @validate_call
    def __init__(self, smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.9) -> None:
        self.smoothing = smoothing
        self.norms: dict[str, float] = {}

    def __call__(self, gradients: TaskGradients) -> np.ndarray:
        """Return one factor a listener."""
        for name, norm in zip(gradients.listeners, np.sqrt(gradients.gram.diagonal()), strict=True):
            if norm > 0:
                self.norms[name] = norm + self.smoothing * (self.norms.get(name, norm) - norm)
        known = [self.norms[name] for name in gradients.listeners if name in self.norms]
        mean = float(np.mean(known or [1.0]))
        return np.array([mean / self.norms.get(name, mean) for name in gradients.listeners])


@registry.balancers("trfnb.uncertainty.v1")
class Uncertainty:
    """Weighs each task by its learnt precision 1/σ², so that noisy tasks count less.

    Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", 2018,
    https://arxiv.org/abs/1705.07115. Log σ² follows the gradient of L/σ² + log σ² for each
    loss per word. Weights are scaled to a mean of 1, since spaCy's losses have no common unit.

    Args:
        rate: Step size of log σ².
    """

    def __init__(self, rate: float = 0.05) -> None:
        self.rate = rate
        self.log_variance: dict[str, float] = {}

    def __call__(self, gradients: TaskGradients) -> np.ndarray:
        """Return one factor a listener."""
        for name, loss in zip(gradients.listeners, gradients.losses, strict=True):
            now = self.log_variance.setdefault(name, 0.0)
            if np.isfinite(loss):
                # A loss of hundreds must not throw it about.
                self.log_variance[name] = now - self.rate * (1 - min(np.exp(-now) * loss, 10.0))
        weights = np.exp([-self.log_variance[name] for name in gradients.listeners])
        return weights / weights.mean()


@registry.balancers("trfnb.loss_ratio.v1")
class LossRatio:
    """Weighs each task by how slowly its loss falls: Dynamic Weight Average.

    Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", 2019,
    https://arxiv.org/abs/1803.10704, over windows of batches where they take epochs.

    Args:
        temperature: A high one makes the weights alike.
        window: Batches that are averaged before their ratio is taken.
    """

    @validate_call
    def __init__(self, temperature: PositiveFloat = 2.0, window: PositiveInt = 50) -> None:
        self.temperature, self.window = temperature, window
        self.seen: dict[str, deque[float]] = {}

    def __call__(self, gradients: TaskGradients) -> np.ndarray:
        """Return one factor a listener."""
        ratios = np.ones(len(gradients.listeners))
        for place, name in enumerate(gradients.listeners):
            seen = self.seen.setdefault(name, deque(maxlen=2 * self.window))
            if np.isfinite(gradients.losses[place]):
                seen.append(float(gradients.losses[place]))
            before, after = list(seen)[: self.window], list(seen)[self.window :]
            if len(after) == self.window and sum(before) > 0:
                ratios[place] = sum(after) / sum(before)
        weights = np.exp(ratios / self.temperature)
        return weights / weights.mean()


class Weighting:
    """A weighting of torchjd: how much of each gradient goes into the sum.

    - ``trfnb.pcgrad.v1`` takes from each gradient what points against another, in random order
      (Yu et al., "Gradient Surgery for Multi-Task Learning", 2020,
      https://arxiv.org/abs/2001.06782).
    - ``trfnb.mgda.v1`` finds the shortest vector between the gradients, along which no task gets
      worse (Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", 2018,
      https://arxiv.org/abs/1810.04650).
    - ``trfnb.cagrad.v1`` stays near the mean gradient, and helps the task that it helps least; its
      ``c`` is how far from the mean, as a part of its length (Liu et al., "Conflict-Averse
      Gradient Descent for Multi-task Learning", 2021, https://arxiv.org/abs/2110.14048).
    - ``trfnb.upgrad.v1`` projects each gradient to where it conflicts with none (Quinton and Rey,
      "Jacobian Descent for Multi-Objective Optimization", 2024, https://arxiv.org/abs/2406.16232).

    Args:
        name: Its class in `torchjd.aggregation`.
        mean: Whether its weights stand for a mean; they are put on the sum's scale.
        settings: Its own.

    Raises:
        ImportError: torchjd is not installed.
    """

    def __init__(self, name: str, *, mean: bool = True, **settings: Any) -> None:
        try:
            from torchjd import aggregation

            self.weigh = getattr(aggregation, name)(**settings)
        except ImportError as error:
            raise ImportError(
                f"This balancing policy needs torchjd: pip install 'trfnb[balance]' ({error})."
            ) from error
        self.mean = mean
        self.calls = 0

    def __call__(self, gradients: TaskGradients) -> np.ndarray:
        """Return one factor a listener."""
        weights = np.ones(len(gradients.listeners))
        # Heads often start at zero weights and send zeros, which no direction fits.
        nonzero = np.flatnonzero(gradients.gram.diagonal() > 0)
        if len(nonzero):
            products = gradients.gram[np.ix_(nonzero, nonzero)]
            # The weights of all of them depend on no common scale; the solvers' limits do.
            scaled = torch.from_numpy(products / products.diagonal().mean())
            # PCGrad draws an order; torch's own random state, which dropout draws from, stays.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.calls)
                found = self.weigh(scaled).numpy()
            self.calls += 1
            weights[nonzero] = found * (len(nonzero) if self.mean else 1)
        return weights


@registry.balancers("trfnb.cagrad.v1")
def _cagrad(c: float = 0.5) -> Policy:
    return Weighting("CAGradWeighting", c=c)


for _name, _policy in {
    "trfnb.pcgrad.v1": lambda: Weighting("PCGradWeighting", mean=False),
    "trfnb.mgda.v1": lambda: Weighting("MGDAWeighting"),
    "trfnb.upgrad.v1": lambda: Weighting("UPGradWeighting"),
}.items():
    registry.balancers.register(_name, func=_policy)
