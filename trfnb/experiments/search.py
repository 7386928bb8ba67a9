"""Choose the learn rates of a config on dev, with the same effort for every way of sharing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from thinc.api import Config
from tqdm.auto import tqdm

from trfnb.experiments.configs import blocks, peak_key, peak_rate
from trfnb.experiments.training import HasExamples, read_budget, train


def tune(
    config: Config,
    corpus: HasExamples,
    *,
    trials: int = 8,
    budget: str,
    spread: float = 6.0,
    seed: int = 0,
    progress: bool = True,
) -> tuple[Config, pd.DataFrame]:
    """Choose the learn rates of the heads and of a transformer by successive halving on dev.

    The first trial has the rates of the config; the others multiply them by factors that are
    spread evenly over logarithms, as a Latin hypercube. The better half of each round goes on to
    the next, whose trainings are twice as long and start anew, until a round has the length of
    the budget: 8 trials take a quarter, a half and the whole of it. The test split is not
    touched. After Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and
    Hyperparameter Optimization", 2016, https://arxiv.org/abs/1502.07943.

    The same trials and budget make the same effort for each way of sharing: a frozen encoder, or
    one written in Thinc, has no rate of its own, and all trials go to the heads' rate.

    Args:
        config: a complete config; it is not changed.
        corpus: trained on, and chosen by on dev.
        trials: how many rates to try; with 8 all trainings together take six times the budget.
        budget: of the longest trainings, such as ``"30000 words"``; see `train`. Words make a
            search that can be repeated exactly.
        spread: the largest factor; the smallest is its inverse.
        seed: of the factors, and of every training.
        progress: show a bar of trainings.

    Returns:
        The config with the best rates of the last round, and a table with one row per training:
        ``round`` (from 1), ``budget``, ``trial``, ``heads_rate``, ``encoder_rate``, ``words``,
        and the weighted dev ``score``, which is −inf where the loss became NaN.

    Raises:
        ValueError: there are fewer than two trials, the spread is not above 1, or the budget
            cannot be read.
    """
    if trials < 2 or spread <= 1:
        raise ValueError(
            f"tune: expected 2 trials or more and a spread above 1, got {trials} and {spread}."
        )
    own_rate = _trains_transformer(config)
    made = [with_rates(config, **factors) for factors in _factors(trials, own_rate, spread, seed)]
    amount, unit = read_budget(budget)
    rounds = trials.bit_length() - 1
    left, rows = list(range(trials)), []
    for number in range(rounds):
        share = f"{amount / 2 ** (rounds - 1 - number):.1f} {unit.replace('seconds', 's')}"
        scores = {}
        for trial in tqdm(
            left[: trials >> number], desc=f"round {number + 1}", disable=not progress
        ):
            row = _scored(made[trial], corpus, share, seed)
            rows.append({"round": number + 1, "budget": share, "trial": trial, **row})
            scores[trial] = row["score"]
        left = sorted(scores, key=lambda trial: -scores[trial])
    return made[left[0]], pd.DataFrame(rows)


def rates_of(config: Config) -> dict[str, float]:
    """Return the highest learn rates of the ``"heads"`` and of a torch ``"encoder"``."""
    optimizer = config.interpolate()["training"]["optimizer"]
    heads = peak_rate(optimizer["learn_rate"])
    return {"heads": heads, "encoder": heads * optimizer.get("encoder_factor", 1.0)}


def with_rates(config: Config, *, heads: float = 1.0, encoder: float = 1.0) -> Config:
    """Multiply a config's learn rates, schedules included.

    Args:
        config: with any optimiser that has a learn rate; not changed.
        heads: what the rate of the task models is multiplied by, and of an encoder in Thinc.
        encoder: what the rate of transformers is multiplied by. spaCy's Adam becomes
            ``trfnb.Adam.v1`` where the two differ.

    Raises:
        ValueError: the two differ, and the optimiser has one rate for all; or the peak of the
            schedule cannot be read from its block.
    """
    optimizer = config.interpolate()["training"]["optimizer"]
    config = config.copy()
    config["training"]["optimizer"] = optimizer
    parent, key = optimizer, "learn_rate"
    if isinstance(parent[key], Mapping):
        parent, key = parent[key], peak_key(parent[key])
    parent[key] *= heads
    if encoder != heads:
        if optimizer["@optimizers"] not in ("Adam.v1", "trfnb.Adam.v1"):
            raise ValueError(
                f"with_rates: expected Adam.v1 or trfnb.Adam.v1 for a rate of the encoder's own, "
                f"got {optimizer['@optimizers']}. Change [training.optimizer]."
            )
        factor = optimizer.get("encoder_factor", 1.0) * encoder / heads
        optimizer |= {"@optimizers": "trfnb.Adam.v1", "encoder_factor": factor}
    return config


# Return whether a transformer is among what the config trains.
def _trains_transformer(config: Config) -> bool:
    return any(
        "Transformer" in block.get("@architectures", "")
        and "Listener" not in block["@architectures"]
        for name, component in config["components"].items()
        if name not in config["training"]["frozen_components"]
        for block in blocks(component)
    )


def _factors(trials: int, own_rate: bool, spread: float, seed: int) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    strata = rng.permuted(np.tile(np.arange(trials - 1), (2, 1)), axis=1)
    drawn = spread ** (2 * (strata + rng.random(strata.shape)) / (trials - 1) - 1)
    encoders = drawn[1] if own_rate else drawn[0]
    both = [(1.0, 1.0), *zip(drawn[0].tolist(), encoders.tolist(), strict=True)]
    return [{"heads": heads, "encoder": encoder} for heads, encoder in both]


def _scored(config: Config, corpus: HasExamples, budget: str, seed: int) -> dict[str, Any]:
    row: dict[str, Any] = {f"{part}_rate": rate for part, rate in rates_of(config).items()}
    try:
        trained = train(config, corpus, budget=budget, seed=seed, test=False, progress=False)
    except ValueError as error:
        if "E910" not in str(error):  # spaCy's for a loss of NaN
            raise
        return {**row, "words": 0, "score": -np.inf}
    return {**row, "words": int(trained.history["words"].sum()), "score": trained.score}
