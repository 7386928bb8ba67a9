"""Conversion beside spaCy and gensim, in one run, on generated tables.

    python benchmarks/vectors_conversion.py --rows 100000 --peers --gensim-python PEER/bin/python
    python benchmarks/vectors_conversion.py --rows 1000000

Every candidate is a process of its own, timed from start to end, its peak memory and processor
time the system's. Candidates take turns, and each one's fastest of the repeats counts. ``first`` is
a conversion on a machine that has seen none: it also makes the empty pipeline that carries a table,
which later ones find in the user's cache.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
WIDTH = 300
GENSIM = """
import sys
from gensim.models import KeyedVectors
KeyedVectors.load_word2vec_format(sys.argv[1])
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


def timed(command: list[str], **environment: str) -> tuple[dict[str, float], str]:
    """Run a command: wall and processor seconds, peak megabytes of its largest process, output."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[:6]} failed")
    spent = {
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_megabytes": usage.ru_maxrss / 1024,
    }
    return spent, output


def candidates(source: Path, folder: Path, peers: bool, gensim_python: str) -> dict[str, list[str]]:
    ours = [sys.executable, "-m", "trfnb", "vectors", "convert", "--overwrite"]
    ours += [str(source), str(folder / "out")]
    if not peers:
        return {"convert": ours}
    spacys = [sys.executable, "-m", "spacy", "init", "vectors", "en"]
    return {
        "first": ours,
        "convert": ours,
        "spacy": [*spacys, str(source), str(folder / "spacy")],
        "gensim": [gensim_python, "-c", GENSIM, str(source)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gensim-python", default=sys.executable)
    parser.add_argument("--source", help="a table generated before")
    args = parser.parse_args()
    results: dict[str, float] = {"rows": args.rows, "width": WIDTH, "cores": os.cpu_count() or 0}
    results["repeats"] = args.repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = Path(args.source) if args.source else folder / "table.vec"
        if not args.source:
            generate(source, args.rows)
        results["text_megabytes"] = source.stat().st_size / 1e6
        commands = candidates(source, folder, args.peers, args.gensim_python)
        for _ in range(args.repeats):
            # Empty before each "first"; "convert" comes next and finds what that one left.
            shutil.rmtree(folder / "cache", ignore_errors=True)
            for candidate, command in commands.items():
                spent, _output = timed(command, XDG_CACHE_HOME=str(folder / "cache"))
                for what, value in spent.items():
                    pick = max if what == "peak_megabytes" else min
                    key = f"{candidate}_{what}"
                    results[key] = pick(value, results.get(key, value))
        if args.peers:
            for peer in ("spacy", "gensim"):
                for ours in ("first", "convert"):
                    ratio = results[f"{peer}_seconds"] / results[f"{ours}_seconds"]
                    results[f"{ours}_times_faster_than_{peer}"] = ratio
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({key: round(value, 4) for key, value in results.items()}, indent=1)
    (RESULTS / f"vectors_conversion_{args.rows}.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
