"""Pruning beside spaCy's `Vocab.prune_vectors`, in turns in one process, on a generated table.

python benchmarks/vectors_pruning.py --rows 100000 --keep 20000
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from spacy.vectors import Vectors
from spacy.vocab import Vocab

from trfnb.vectors import prune

RESULTS = Path(__file__).parent / "results" / "vectors_pruning.json"


def table(rows: int, width: int) -> Vocab:
    words = [f"word{i}" for i in range(rows)]
    vocab = Vocab(strings=words)
    data = np.random.default_rng(0).normal(0, 0.3, (rows, width)).astype("f4")
    vocab.vectors = Vectors(strings=vocab.strings, data=data, keys=words)
    return vocab


def mean_cosine(before: Vectors, after: Vectors, keep: int) -> float:
    """Recompute in float64 what the words that lost their rows have now."""
    keys = list(before.key2row)[keep:]
    old = np.asarray(before.data, dtype="f8")[[before.key2row[key] for key in keys]]
    new = np.asarray(after.data, dtype="f8")[[after.key2row[key] for key in keys]]
    old /= np.linalg.norm(old, axis=1, keepdims=True)
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    return float((old * new).sum(axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=300)
    parser.add_argument("--keep", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    results: dict[str, float] = {**vars(args), "cores": os.cpu_count() or 0}
    taken: dict[str, list[tuple[float, float]]] = {"trfnb": [], "spacy": []}
    for _ in range(args.repeats):
        vocab = table(args.rows, args.width)
        before = vocab.vectors
        for name in taken:
            wall, cpu = time.perf_counter(), time.process_time()
            if name == "trfnb":
                ours = prune(before, args.keep).vectors
            else:
                vocab.prune_vectors(args.keep)
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    for name, after in {"trfnb": ours, "spacy": vocab.vectors}.items():
        walls, cpus = zip(*taken[name], strict=True)
        results[f"{name}_seconds"] = min(walls)
        results[f"{name}_cpu_seconds"] = min(cpus)
        results[f"{name}_mean_cosine"] = mean_cosine(before, after, args.keep)
    for unit in ("seconds", "cpu_seconds"):
        results[f"ratio_{unit}"] = results[f"spacy_{unit}"] / results[f"trfnb_{unit}"]
    text = json.dumps(results, indent=1)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
