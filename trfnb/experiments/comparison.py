"""Train and measure every way of sharing an encoder, over seeds."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from trfnb.experiments.heads import TASKS
from trfnb.experiments.measures import measure
from trfnb.experiments.pipelines import SHARINGS, build_config
from trfnb.experiments.training import HasExamples, train


def compare(
    corpus: HasExamples,
    *,
    tasks: Sequence[str] = TASKS,
    body: str = "tok2vec",
    sharings: Iterable[str] = SHARINGS,
    seeds: Iterable[int] = (0, 1, 2),
    options: Mapping[str, Any] | None = None,
    memory: bool = True,
    progress: bool = True,
) -> pd.DataFrame:
    """Train and measure every way of sharing with every seed.

    Args:
        corpus: trained and scored on.
        tasks: see `trfnb.experiments.pipelines.build_config`.
        body: see there.
        sharings: the ways to compare.
        seeds: one run each.
        options: further arguments of `build_config`, the same for all runs.
        memory: see `trfnb.experiments.measures.measure`.
        progress: show a bar of runs, and one of updates in each.

    Returns:
        A tidy row a run: ``body``, ``sharing``, ``seed``, ``best_step``, then every measure.
    """
    rows = []
    for sharing, seed in tqdm(list(product(sharings, seeds)), unit=" runs", disable=not progress):
        config = build_config(tasks, body, sharing, seed=seed, **(options or {}))
        trained = train(config, corpus, progress=progress)
        row = {"body": body, "sharing": sharing, "seed": seed, "best_step": trained.best_step}
        rows.append(row | measure(trained, corpus, memory=memory))
    return pd.DataFrame(rows)
