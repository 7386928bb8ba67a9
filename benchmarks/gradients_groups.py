"""Affinity by lookahead beside what pairs of tasks measurably gain from sharing an encoder.

    python benchmarks/gradients_groups.py newsroom 3

For every pair of tasks and every seed: the score of each in a pipeline of the two, minus its score
alone, with the same number of words; and the affinity of the one to the other from one joint
training. Writes both and their rank correlation to ``benchmarks/results``. Rows are added as they
come; runs that the file holds are not made again.
"""

import argparse
from itertools import combinations
from pathlib import Path

import pandas as pd

from trfnb import corpora
from trfnb.experiments import build_config, train
from trfnb.experiments.configs import HEADS
from trfnb.experiments.grouping import affinity, best_groups
from trfnb.experiments.measures import task_scores

RESULTS = Path(__file__).parent / "results"


def scores(corpus, given, tasks, seed):
    """Train the tasks on one encoder; return each one's score on dev."""
    config = build_config(
        tasks, given.encoder, batch_words=given.batch_words, learn_rate=given.rate
    )
    trained = train(config, corpus, budget=given.budget, seed=seed, test=False, progress=False)
    found = task_scores(trained.nlp, trained.dev_scores)
    return {task: found[HEADS[task].score] for task in tasks}


def measured(corpus, given, path):
    """Make the runs that the file lacks; return one row per run and task."""
    tasks = given.tasks
    sets = [(task,) for task in tasks] + list(combinations(tasks, 2))
    rows = pd.read_csv(path) if path.exists() else pd.DataFrame({"together": [], "seed": []})
    for seed in range(given.seeds):
        for together in sets:
            name = "+".join(together)
            if ((rows["together"] == name) & (rows["seed"] == seed)).any():
                continue
            found = scores(corpus, given, together, seed)
            more = [
                {"together": name, "seed": seed, "task": t, "score": s} for t, s in found.items()
            ]
            rows = pd.concat([rows, pd.DataFrame(more)], ignore_index=True)
            rows.to_csv(path, index=False, float_format="%.6g")
            print(name, seed, found, flush=True)
    return rows


def gains(rows):
    """Return one row per ordered pair: what ``of`` in the same pipeline gives to ``on``."""
    means = rows.groupby(["together", "task"])["score"].mean()
    found = []
    for name, task in means.index:
        partners = [one for one in name.split("+") if one != task]
        if partners:
            gain = means[name, task] - means[task, task]
            found.append({"of": partners[0], "on": task, "gain": gain})
    return pd.DataFrame(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("seeds", type=int)
    parser.add_argument("--layer", action="append", default=[])
    parser.add_argument("--encoder", default="tok2vec")
    parser.add_argument("--tasks", nargs="+", default=["tagger", "parser", "ner", "textcat"])
    parser.add_argument("--limit", type=int, default=800)
    parser.add_argument("--dev-limit", type=int, default=250)
    parser.add_argument("--batch-words", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.003)
    parser.add_argument("--budget", default="20000 words")
    given = parser.parse_args()
    corpus = corpora.load(
        given.corpus, layers=given.layer, limit=given.limit, dev_limit=given.dev_limit
    )
    name = f"{Path(given.corpus).name}_{given.encoder}"
    RESULTS.mkdir(exist_ok=True)
    rows = measured(corpus, given, RESULTS / f"groups_runs_{name}.csv")
    config = build_config(
        given.tasks, given.encoder, batch_words=given.batch_words, learn_rate=given.rate
    )
    looks = affinity(config, corpus, budget=given.budget, progress=False)
    means = looks.groupby(["of", "on"], as_index=False)["affinity"].mean()
    both = gains(rows).merge(means, on=["of", "on"])
    both.to_csv(RESULTS / f"groups_{name}.csv", index=False, float_format="%.5g")
    print(both.to_string())
    print("rank correlation:", both["gain"].rank().corr(both["affinity"].rank()))
    print("best two groups by affinity:", best_groups(looks, 2))


if __name__ == "__main__":
    main()
