"""What pretraining gives a tagger and an entity recogniser: one row per encoder and seed.

``python -m benchmarks.pretraining_downstream CORPUS [--layers LAYER] --weights NAME=PATH … --out
CSV``. ``none`` is always compared. A row that is there is not made again. Weights are the files of
`pretraining_encoders`; with ``--encoder minilm`` they are directories of a transformer, and
``none`` is MiniLM as it comes.
"""

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
from spacy.language import DEFAULT_CONFIG_PRETRAIN_PATH
from spacy.util import load_config

from trfnb import corpora
from trfnb.experiments.configs import build_config
from trfnb.experiments.training import train
from trfnb.statistics import differences, intervals

COLUMNS = ("weights", "seed", "sentences", "tag_acc", "ents_f", "best_step", "seconds")


def main() -> None:
    given = _arguments()
    out = Path(given.out)
    done = set()
    if out.exists():
        with out.open(newline="") as file:
            done = {(row["weights"], int(row["seed"])) for row in csv.DictReader(file)}
    else:
        out.write_text(",".join(COLUMNS) + "\n")
    weights = dict(pair.split("=", 1) for pair in given.weights)
    for seed in range(given.seeds):
        corpus = corpora.load(
            given.corpus,
            layers=given.layers,
            limit=given.sentences,
            dev_limit=given.dev_sentences or None,
            seed=seed,
        )
        for name, path in {"none": "", **weights}.items():
            if (name, seed) in done:
                continue
            began = time.perf_counter()
            run = train(_config(given.encoder, path, seed, given.steps), corpus, progress=False)
            scores = [run.scores["tag_acc"], run.scores["ents_f"] or 0.0]
            row = [name, seed, given.sentences, *scores, run.best_step]
            with out.open("a", newline="") as file:
                csv.writer(file).writerow([*row, round(time.perf_counter() - began, 1)])
    lines = ",\n".join(" " + json.dumps(row) for row in summarise(out))
    out.with_suffix(".json").write_text(f"[\n{lines}\n]\n")


def summarise(out: Path) -> list[dict[str, Any]]:
    """Return a row per encoder and score: its mean, and its gains over none and over spaCy's."""
    runs = pd.read_csv(out)
    # Only seeds that all have.
    names = runs["weights"].unique()
    counts = runs.groupby("seed")["weights"].nunique()
    runs = runs[runs["seed"].isin(counts[counts == len(names)].index)]
    rows = []
    for name in names:
        for metric in ("tag_acc", "ents_f"):
            mean = intervals(runs[runs["weights"] == name], "weights", metric).iloc[0]
            row = {"weights": name, "metric": metric, "seeds": int(mean["n"])}
            row |= {key: round(float(mean[key]), 4) for key in ("mean", "low", "high")}
            for other in ("none", "spacy"):
                if name not in ("none", other) and other in names:
                    gain = differences(runs, metric, of=name, against=other, by="weights").iloc[0]
                    numbers = [round(float(gain[key]), 4) for key in ("mean", "low", "high")]
                    row[f"gain_over_{other}"] = [*numbers, gain["shows"]]
            rows.append(row)
    return rows


def _config(encoder: str, weights: str, seed: int, steps: int) -> object:
    large = encoder != "tok2vec"
    config = build_config(
        ["tagger", "ner"],
        weights if large and weights else encoder,
        "shared",
        seed=seed,
        precision="auto",
        max_steps=steps,
        eval_frequency=max(steps // 5, 1),
        patience=0,
        batch_words=150 if large else 500,
    )
    if weights and not large:
        config = load_config(DEFAULT_CONFIG_PRETRAIN_PATH).merge(config)
        config["initialize"]["init_tok2vec"] = weights
    return config


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("--layers", nargs="*", default=[])
    parser.add_argument("--weights", nargs="*", default=[], metavar="NAME=PATH")
    parser.add_argument("--encoder", choices=["tok2vec", "minilm"], default="tok2vec")
    parser.add_argument("--sentences", type=int, default=500)
    parser.add_argument("--dev-sentences", type=int, default=0, help="0 is all")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
