"""What a config names to let factors choose themselves or change: policies and schedules."""

from collections.abc import Iterator

from ..flow import balancing, schedules
from ..flow.balancing import Policy
from .registries import registry


@registry.balancers("trfnb.equal_norms.v1")
def configure_equal_norms(smoothing: float = 0.9) -> Policy:
    """Build `balancing.equal_norms` (Chen et al., 2018, https://arxiv.org/abs/1711.02257)."""
    return balancing.equal_norms(smoothing)


@registry.balancers("trfnb.uncertainty.v1")
def configure_uncertainty(rate: float = 0.05) -> Policy:
    """Build `balancing.uncertainty` (Kendall et al., 2018, https://arxiv.org/abs/1705.07115)."""
    return balancing.uncertainty(rate)


@registry.balancers("trfnb.loss_ratio.v1")
def configure_loss_ratio(temperature: float = 2.0, window: int = 50) -> Policy:
    """Build `balancing.loss_ratio` (Liu et al., 2019, https://arxiv.org/abs/1803.10704)."""
    return balancing.loss_ratio(temperature, window)


@registry.balancers("trfnb.pcgrad.v1")
def configure_pcgrad(seed: int = 0) -> Policy:
    """Build `balancing.pcgrad` (Yu et al., 2020, https://arxiv.org/abs/2001.06782)."""
    return balancing.pcgrad(seed)


@registry.balancers("trfnb.mgda.v1")
def configure_mgda() -> Policy:
    """Build `balancing.mgda` (Sener and Koltun, 2018, https://arxiv.org/abs/1810.04650)."""
    return balancing.mgda()


@registry.balancers("trfnb.cagrad.v1")
def configure_cagrad(c: float = 0.5) -> Policy:
    """Build `balancing.cagrad` (Liu et al., 2021, https://arxiv.org/abs/2110.14048)."""
    return balancing.cagrad(c)


@registry.balancers("trfnb.upgrad.v1")
def configure_upgrad() -> Policy:
    """Build `balancing.upgrad` (Quinton and Rey, 2024, https://arxiv.org/abs/2406.16232)."""
    return balancing.upgrad()


@registry.balancers("trfnb.imtl_g.v1")
def configure_imtl_g() -> Policy:
    """Build `balancing.imtl_g` (Liu et al., 2021, https://openreview.net/forum?id=IMPnRXEWpvr)."""
    return balancing.imtl_g()


@registry.schedules("trfnb.thaw.v1")
def configure_thaw(frozen: int, warmup: int = 0, factor: float = 1.0) -> Iterator[float]:
    """Build `schedules.thaw`: 0 for a while, then a rise to the factor."""
    return schedules.thaw(frozen, warmup, factor)


@registry.schedules("trfnb.moves.v1")
def configure_moves(starts: list[int], factors: list[float]) -> Iterator[float]:
    """Build `schedules.moves`: factors that hold from one move to the next."""
    return schedules.moves(starts, factors)
