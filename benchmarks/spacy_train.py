"""The library's own loop beside ``spacy train``: the same printed config, the same scores?

Without arguments: newsroom, tok2vec and MiniLM, three seeds.

    python -m benchmarks.spacy_train
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import srsly

from trfnb import corpora
from trfnb.corpora import Corpus
from trfnb.experiments.configs import build_config
from trfnb.experiments.training import train
from trfnb.statistics import differences

RESULTS = Path(__file__).parent / "results" / "spacy_train.csv"
SCORES = ["tag_acc", "dep_las", "ents_f"]
SIZES = {"tok2vec": {"limit": 1000, "max_steps": 150}, "minilm": {"limit": 300, "max_steps": 60}}


def by_command(config_path: Path, corpus: Corpus, folder: Path) -> dict[str, float]:
    """Run ``spacy train`` on a config file and return the scores it saved with the best model."""
    train_path, dev_path = corpus.save(folder / "corpus")
    command = [sys.executable, "-m", "spacy", "train", str(config_path), "-o", str(folder / "out"),
               "--paths.train", str(train_path), "--paths.dev", str(dev_path)]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    meta = srsly.read_json(folder / "out" / "model-best" / "meta.json")
    return {name: meta["performance"][name] for name in SCORES}


def main() -> None:
    """Train each encoder both ways with each seed and write and print the paired differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", default="newsroom")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    rows = []
    for encoder, size in SIZES.items():
        corpus = corpora.load(given.corpus, limit=size["limit"], dev_limit=300)
        for seed in range(given.seeds):
            config = build_config(
                ("tagger", "parser", "ner"), encoder, seed=seed, max_steps=size["max_steps"],
                eval_frequency=size["max_steps"] // 2, batch_words=150,
            )  # fmt: skip
            ours = train(config, corpus, progress=False).scores
            with tempfile.TemporaryDirectory() as folder:
                config.to_disk(Path(folder) / "config.cfg")
                theirs = by_command(Path(folder) / "config.cfg", corpus, Path(folder))
            for loop, scores in (("trfnb", ours), ("spacy train", theirs)):
                rows.append({"encoder": encoder, "seed": seed, "loop": loop}
                            | {name: scores[name] for name in SCORES})  # fmt: skip
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    RESULTS.parent.mkdir(exist_ok=True)
    table.to_csv(RESULTS, index=False, float_format="%.5f")
    for encoder, runs in table.groupby("encoder"):
        print(f"\n{encoder}")
        print(differences(runs, SCORES, of="trfnb", against="spacy train", by="loop").round(4))


if __name__ == "__main__":
    main()
