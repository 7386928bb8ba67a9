"""Kill ``trfnb pretrain`` at random moments, resume it, and compare the weights.

``python -m benchmarks.pretraining_resume TEXT --kills 5 --out FILE.json``: one
uninterrupted run of the standard tok2vec, and one run for each kill (SIGKILL, then ``--resume``).
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.pretraining import TOK2VEC, prepared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--save-every", type=int, default=9)
    parser.add_argument("--out")
    given = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = prepared(Path(given.text), folder, 4000 * given.steps)
        command = call(folder, text, given.steps, given.save_every)
        began = time.perf_counter()
        subprocess.run([*command, str(folder / "whole")], check=True)
        whole, seconds = digest(folder / "whole"), time.perf_counter() - began
        rows = [{"killed_after": None, "seconds": round(seconds, 1), "sha256": whole}]
        for number in range(given.kills):
            rows.append(killed(command, folder / f"killed{number}", rng.random() * seconds))
            print(rows[-1], flush=True)
    for row in rows:
        row["equal"] = row["sha256"] == whole
    if given.out:
        Path(given.out).write_text(json.dumps(rows, indent=1) + "\n")
    if not all(row["equal"] for row in rows):
        sys.exit(f"different weights: {rows}")


def killed(command: list[str], out: Path, after: float) -> dict[str, object]:
    process = subprocess.Popen([*command, str(out)])
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    left = sorted(p.name for p in out.glob("checkpoint-*"))
    subprocess.run([*command, str(out), "--resume"], check=True)
    return {"killed_after": round(after, 2), "checkpoints_left": left, "sha256": digest(out)}


def call(folder: Path, text: Path, steps: int, save_every: int) -> list[str]:
    from thinc.api import Config

    config = {
        "nlp": {"lang": "en", "pipeline": ["tok2vec"]},
        "components": {"tok2vec": {"factory": "tok2vec", "model": TOK2VEC}},
        "paths": {"raw_text": str(text)},
        "pretraining": {"max_epochs": 1},
        "pretraining_loop": {"max_steps": steps, "save_every": save_every, "dev_words": 2000},
    }
    Config(config).to_disk(folder / "config.cfg")
    return [sys.executable, "-m", "trfnb", "pretrain", "--quiet", str(folder / "config.cfg")]


def digest(out: Path) -> str:
    return hashlib.sha256((out / "model-last.bin").read_bytes()).hexdigest()[:16]


if __name__ == "__main__":
    main()
