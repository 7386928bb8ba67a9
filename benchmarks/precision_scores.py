"""What training in half precision does to scores: MiniLM in fp32 and in bf16, paired by seed.

    python -m benchmarks.precision_scores UD_EWT --layer UNER_EWT

Tagger, parser and entity recogniser on one shared MiniLM; each precision gets the same sentences,
first weights and number of updates, and is scored by its last weights. How far apart two seeds of
one precision are is the noise to compare with.
"""

import argparse
import csv
from itertools import product
from pathlib import Path

import pandas as pd

from trfnb import corpora
from trfnb.experiments.configs import build_config
from trfnb.experiments.training import train
from trfnb.statistics import differences, intervals

RESULTS = Path(__file__).parent / "results" / "precision_scores.csv"
SCORES = ["tag_acc", "dep_las", "ents_f"]
FIELDS = ("precision", "seed", "sentences", "updates", *SCORES)


def run(precision: str, seed: int, given: argparse.Namespace) -> list[object]:
    corpus = corpora.load(given.treebank, layers=given.layer, limit=given.sentences, seed=seed)
    config = build_config(
        ("tagger", "parser", "ner"), "minilm", seed=seed, precision=precision, batch_words=300,
        max_steps=given.updates, eval_frequency=given.updates, patience=0,
    )  # fmt: skip
    scores = train(config, corpus, progress=False).scores
    numbers = [f"{scores[name]:.5f}" for name in SCORES]
    return [precision, seed, len(corpus.train), given.updates, *numbers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("treebank")
    parser.add_argument("--layer", action="append", default=[])
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--updates", type=int, default=110)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if not given.out.exists():
        given.out.write_text(",".join(FIELDS) + "\n")
    done = {(row.precision, row.seed) for row in pd.read_csv(given.out).itertuples()}
    for seed, precision in product(given.seeds, ("fp32", "bf16")):
        if (precision, seed) not in done:
            with given.out.open("a", newline="") as file:
                csv.writer(file).writerow(run(precision, seed, given))
    table = pd.read_csv(given.out)
    print(intervals(table, "precision", SCORES).round(4).to_string())
    print(
        differences(table, SCORES, of="bf16", against="fp32", by="precision").round(4).to_string()
    )


if __name__ == "__main__":
    main()
