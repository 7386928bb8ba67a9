"""Tagging and names by embedding, vector table and training size; a row is added as it comes.

    python benchmarks/vectors_accuracy.py UD_EWT --layer UNER_EWT \
        --table words=PATH --table subwords=PATH --table distilled=PATH

The embeddings are those of notebook 04. ``words`` is a table of a vector a word, ``subwords`` a
floret table; the distilled one stands beside the learned features. Runs that the CSV file holds
are not made again. Every run of a size makes the same number of updates and is scored once, by
its last weights on the whole dev split: nothing is chosen by the scores.
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from trfnb import corpora
from trfnb.experiments.configs import build_config
from trfnb.experiments.training import train
from trfnb.vectors.embed import with_embedding

RESULTS = Path(__file__).parent / "results" / "vectors_accuracy.csv"
# Words that a run is trained on, repetitions counted, at each size (0 is all sentences).
WORDS = {500: 80_000, 2000: 160_000, 0: 240_000}
BATCH = 300
DEPTH = 2
# (embedding, table), the most wanted first.
MAIN = [
    ("none", ""),
    ("static", "words"),
    ("added", "words"),
    ("concatenated", "words"),
    ("distilled", "distilled"),
    ("concatenated", "subwords"),
    ("static", "subwords"),
]
MORE = [("added", "subwords"), ("static", "distilled")]
FIELDS = ("embedding", "table", "size", "seed", "sentences", "updates", "words", "tag_acc",
          "ents_p", "ents_r", "ents_f", "seconds")  # fmt: skip


def run(
    embedding: str, table: str, size: int, seed: int, args: argparse.Namespace
) -> dict[str, object]:
    begun = time.perf_counter()
    corpus = corpora.load(args.treebank, layers=args.layer, limit=size or None, seed=seed)
    updates = WORDS[size] // BATCH
    config = build_config(
        ["tagger", "ner"], "tok2vec", seed=seed, batch_words=BATCH,
        max_steps=updates, eval_frequency=updates, patience=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        corpus.save(folder)
        path = dict(args.table).get(table)
        config = with_embedding(config, embedding, path, corpus=folder, depth=DEPTH)
        trained = train(config, corpus, progress=False)
    numbers = {name: f"{trained.scores[name]:.6f}" for name in FIELDS if name in trained.scores}
    return {"embedding": embedding, "table": table, "size": size, "seed": seed,
            "sentences": len(corpus.train), "updates": updates,
            "words": int(trained.history["words"].sum()), **numbers,
            "seconds": f"{time.perf_counter() - begun:.1f}"}  # fmt: skip


def plan(seeds: list[int], sizes: list[int]) -> Iterator[tuple[str, str, int, int]]:
    """Small sizes of every seed first, then all sentences; what is wanted most first in each."""
    small = [size for size in sizes if size]
    for pairs in (MAIN, MORE):
        for group in (small, [0] if 0 in sizes else []):
            for seed in seeds:
                for size in group:
                    yield from ((*pair, size, seed) for pair in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("treebank")
    parser.add_argument("--layer", action="append", default=[])
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        type=lambda entry: tuple(entry.split("=", 1)),
        help="NAME=PATH",
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs="*", default=[500, 2000, 0], help="0 is all")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    names = {"", *dict(args.table)}
    done = set()
    if args.out.exists():
        with args.out.open(newline="") as file:
            done = {(r["embedding"], r["table"], int(r["size"]), int(r["seed"]))
                    for r in csv.DictReader(file)}  # fmt: skip
    for key in plan(args.seeds, args.sizes):
        if key in done or key[1] not in names:
            continue
        row = run(*key, args)
        new = not args.out.exists()
        with args.out.open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
