"""Scores against factors, schedules and balancing policies, and what is forgotten, over seeds.

    python benchmarks/gradients_sweep.py newsroom 5
    python benchmarks/gradients_sweep.py path/to/ud_ewt 3 --layer path/to/uner_ewt --limit 2000

Rows are added to a CSV file as they come; runs that it holds are not made again.
"""

import argparse
from pathlib import Path

import pandas as pd

from trfnb import corpora
from trfnb.experiments.configs import build_config
from trfnb.experiments.forgetting import compare_factors, factor_settings, forgetting

RESULTS = Path(__file__).parent / "results"
TASKS = ("tagger", "parser", "ner")


def add(path, rows):
    rows.to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.6g")


def done(path):
    return pd.read_csv(path) if path.exists() else pd.DataFrame({"setting": [], "seed": []})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("seeds", type=int)
    parser.add_argument("--layer", action="append", default=[])
    parser.add_argument("--limit", type=int, default=800)
    parser.add_argument("--dev-limit", type=int, default=250)
    parser.add_argument("--updates", type=int, default=150)
    parser.add_argument("--batch-words", type=int, default=200)
    parser.add_argument(
        "--runs", type=int, default=0, help="end after so many; 0: when all are done"
    )
    given = parser.parse_args()
    corpus = corpora.load(
        given.corpus, layers=given.layer, limit=given.limit, dev_limit=given.dev_limit
    )
    name = Path(given.corpus).name
    options = {"max_steps": given.updates, "eval_frequency": given.updates, "patience": 0}
    options |= {"batch_words": given.batch_words}
    policies = ["equal_norms", "uncertainty", "upgrad"]
    settings = factor_settings("ner", [0.0, 0.1, 10.0], given.updates, policies)
    scores, pairs = RESULTS / f"factors_{name}.csv", RESULTS / f"conflicts_{name}.csv"
    forgot = RESULTS / f"forgetting_{name}.csv"
    made = 0
    for seed in range(given.seeds):
        known = done(scores)
        missing = {k: v for k, v in settings.items()
                   if not ((known["setting"] == k) & (known["seed"] == seed)).any()}  # fmt: skip
        for row, log in compare_factors(
            corpus, missing, tasks=TASKS, seeds=[seed], options=options
        ):
            table = log.table().groupby("listener", sort=False)[["factor", "raw_norm", "share"]]
            for task, means in table.mean().iterrows():
                row |= {f"{task}.{column}": value for column, value in means.items()}
            add(scores, pd.DataFrame([{"corpus": name, **row}]))
            made += 1
            print(name, row["setting"], seed, f"{row['score']:.3f}", f"{row['seconds']:.0f} s")
            cosines = log.conflicts()
            grouped = cosines.assign(bin=(cosines["step"] - 1) // 10 * 10 + 5).groupby(
                ["bin", "first", "second"]
            )["cosine"]
            means = grouped.mean().reset_index().assign(setting=row["setting"], seed=seed)
            if row["setting"] in ("all × 1", "upgrad"):
                add(pairs, means)
            if made == given.runs:
                return
        if not (forgot.exists() and seed in set(pd.read_csv(forgot)["seed"])):
            found = forgetting(
                build_config(("tagger", "ner"), **options), corpus, first="tagger", second="ner",
                steps=given.updates, seed=seed, progress=False,
            )  # fmt: skip
            add(forgot, found.assign(corpus=name))
            made += 1
            if made == given.runs:
                return
    print("all runs are there")


if __name__ == "__main__":
    main()
