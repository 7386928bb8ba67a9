"""Conversion and pruning beside spaCy and gensim, in one run, on generated tables.

    python benchmarks/vectors_conversion.py --rows 100000 --peers
    python benchmarks/vectors_conversion.py --rows 1000000

Every candidate is a process of its own, timed from start to end; its peak memory is the system's.
gensim need not be in this environment: --gensim-path adds a directory to its process.
"""

import argparse
import json
import os
import resource
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
t = time.perf_counter(); pruned = prune(vectors, keep); ours = time.perf_counter() - t
vocab = Vocab(strings=list(vectors.strings))
vocab.vectors = Vectors(strings=vocab.strings, data=data, keys=list(vectors.key2row))
t = time.perf_counter(); remapped = vocab.prune_vectors(keep); theirs = time.perf_counter() - t
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
    parser.add_argument("--gensim-path", default="")
    parser.add_argument("--source", help="a table generated before")
    args = parser.parse_args()
    results: dict[str, float] = {"rows": args.rows, "width": WIDTH, "cores": os.cpu_count() or 0}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(args.source) if args.source else Path(folder) / "table.vec"
        if not args.source:
            generate(source, args.rows)
        results["text_megabytes"] = source.stat().st_size / 1e6
        out = str(Path(folder) / "out")
        code = "import sys; from trfnb.vectors import convert; convert(sys.argv[1], sys.argv[2])"
        seconds, peak, _ = timed([sys.executable, "-c", code, str(source), out])
        results |= {"convert_seconds": seconds, "convert_peak_megabytes": peak}
        if args.peers:
            theirs = str(Path(folder) / "spacy")
            command = [sys.executable, "-m", "spacy", "init", "vectors", "en", str(source), theirs]
            seconds, peak, _ = timed(command)
            results |= {"spacy_seconds": seconds, "spacy_peak_megabytes": peak}
            search = os.pathsep.join(filter(None, [args.gensim_path, os.environ.get("PYTHONPATH")]))
            command = [sys.executable, "-c", GENSIM, str(source), str(Path(folder) / "kv")]
            seconds, peak, _ = timed(command, PYTHONPATH=search)
            results |= {"gensim_seconds": seconds, "gensim_peak_megabytes": peak}
            for peer in ("spacy", "gensim"):
                results[f"{peer}_ratio"] = results[f"{peer}_seconds"] / results["convert_seconds"]
            _, _, output = timed([sys.executable, "-c", PRUNE, out, str(args.rows // 5)])
            results |= json.loads(output.splitlines()[-1])
    results["own_peak_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    name = f"vectors_conversion_{args.rows}.json"
    Path(__file__).with_name(name).write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
