"""Conversion and pruning beside spaCy and gensim, in one run, on generated tables.

    python benchmarks/vectors_conversion.py --rows 100000 --peers
    python benchmarks/vectors_conversion.py --rows 1000000

Every candidate is a process of its own, timed from start to end; its peak memory is the system's.
Candidates take turns, and each one's fastest of the repeats counts.
gensim need not be in this environment: --gensim-path adds a directory to its process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WIDTH = 300
PRUNE = """
import json, sys, time
import numpy as np
from spacy.vocab import Vocab
from spacy.vectors import Vectors
from trfnb.vectors import load, prune
keep = int(sys.argv[2])
vectors = load(sys.argv[1])
data = np.array(vectors.data)
prune(Vectors(data=data[:2000], keys=list(range(1000, 3000))), 1000)
ours = theirs = float("inf")
for _ in range(int(sys.argv[3])):
    t = time.perf_counter(); pruned = prune(vectors, keep)
    ours = min(ours, time.perf_counter() - t)
    vocab = Vocab(strings=list(vectors.strings))
    vocab.vectors = Vectors(strings=vocab.strings, data=data.copy(), keys=list(vectors.key2row))
    t = time.perf_counter(); vocab.prune_vectors(keep)
    theirs = min(theirs, time.perf_counter() - t)
table = vocab.vectors
def exact(found):
    unit = data / np.linalg.norm(data, axis=1, keepdims=True)
    new = np.stack([np.asarray(found[k]) for k in vectors.key2row])
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    cosines = (unit[list(vectors.key2row.values())] * new).sum(1, dtype=np.float64)
    return float(cosines[keep:].mean())
print(json.dumps({"prune_seconds": ours, "prune_spacy_seconds": theirs,
    "prune_ratio": theirs / ours, "prune_mean_cosine": exact(pruned.vectors),
    "prune_spacy_mean_cosine": exact(table)}))
"""
CONVERT = """
import sys
from trfnb.vectors import convert
convert(sys.argv[1], sys.argv[2], overwrite=True)
"""
GENSIM = """
import sys
from gensim.models import KeyedVectors
KeyedVectors.load_word2vec_format(sys.argv[1]).save(sys.argv[2])
"""


def generate(path: Path, rows: int) -> None:
    """Write a fastText-like table: five decimals, a header."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write(f"{rows} {WIDTH}\n")
        for start in range(0, rows, 2000):
            part = rng.normal(0, 0.3, (min(2000, rows - start), WIDTH)).tolist()
            lines = (" ".join(map("{:.5f}".format, row)) for row in part)
            file.write("".join(f"word{start + i} {line}\n" for i, line in enumerate(lines)))


def timed(command: list[str], **environment: str) -> tuple[float, float, str]:
    """Run a command: seconds, peak megabytes of its largest process, output."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[:6]} failed")
    return time.perf_counter() - begun, usage.ru_maxrss / 1024, output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gensim-path", default="")
    parser.add_argument("--source", help="a table generated before")
    args = parser.parse_args()
    results: dict[str, float] = {"rows": args.rows, "width": WIDTH, "cores": os.cpu_count() or 0}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(args.source) if args.source else Path(folder) / "table.vec"
        if not args.source:
            generate(source, args.rows)
        results["text_megabytes"] = source.stat().st_size / 1e6
        results["repeats"] = args.repeats
        out = str(Path(folder) / "out")
        commands = {"convert": [sys.executable, "-c", CONVERT, str(source), out]}
        if args.peers:
            theirs, keyed = str(Path(folder) / "spacy"), str(Path(folder) / "keyed")
            spacys = [sys.executable, "-m", "spacy", "init", "vectors", "en", str(source), theirs]
            commands["spacy"] = spacys
            commands["gensim"] = [sys.executable, "-c", GENSIM, str(source), keyed]
        search = os.pathsep.join(filter(None, [args.gensim_path, os.environ.get("PYTHONPATH")]))
        for _ in range(args.repeats):
            for name, command in commands.items():
                seconds, peak, _output = timed(command, PYTHONPATH=search)
                best = results.get(f"{name}_seconds", float("inf"))
                results[f"{name}_seconds"] = min(seconds, best)
                results[f"{name}_peak_megabytes"] = peak
        if args.peers:
            for peer in ("spacy", "gensim"):
                results[f"{peer}_ratio"] = results[f"{peer}_seconds"] / results["convert_seconds"]
            keep = str(args.rows // 5)
            _, _, output = timed([sys.executable, "-c", PRUNE, out, keep, str(args.repeats)])
            results |= json.loads(output.splitlines()[-1])
    name = f"vectors_conversion_{args.rows}.json"
    Path(__file__).with_name(name).write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
