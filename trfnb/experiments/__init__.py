"""Build pipelines, train them, measure what they cost and gain, and compare them."""

from trfnb import on_first_use

_HOME = {
    "build_config": "trfnb.experiments.configs",
    "compare": "trfnb.experiments.comparison",
    "starved": "trfnb.experiments.measures",
    "train": "trfnb.experiments.training",
    "tune": "trfnb.experiments.search",
}

__all__ = [*_HOME]

__getattr__ = on_first_use(__name__, _HOME)
