"""Build pipelines, train them, measure what they cost and gain, and compare them."""

from trfnb import on_first_use

__getattr__, __dir__, __all__ = on_first_use(
    __name__,
    {
        "build_config": "trfnb.experiments.configs",
        "compare": "trfnb.experiments.comparison",
        "starved": "trfnb.experiments.measures",
        "train": "trfnb.experiments.training",
        "tune": "trfnb.experiments.search",
    },
)
