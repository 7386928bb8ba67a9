"""Pretrain a tok2vec by each objective for the same time: what `pretraining_downstream` compares.

``python -m benchmarks.pretraining_encoders TEXT FOLDER --seconds 600 --vectors TABLE [NAME …]``
leaves FOLDER/NAME/model-last.bin and FOLDER/encoders.csv. TEXT is raw text, one record a line. Each
encoder is pretrained with one thread, and its time is that of the processor: two calls with other
names may run side by side on two cores.
"""

import argparse
import csv
import json
import os
import time
from pathlib import Path
from typing import Any

# One thread an encoder: set before numpy and torch are loaded.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

from benchmarks.pretraining import by_spacy
from trfnb.experiments.configs import build_config
from trfnb.pretraining import pretraining_config
from trfnb.pretraining.loop import PretrainingRun
from trfnb.pretraining.weights import export

SPACY = "spacy"
MINILM = "wordpieces"
OBJECTIVES: dict[str, Any] = {
    SPACY: {"@architectures": "trfnb.PretrainCharacters.v1", "loss": "squared"},
    "characters, squared": {"@architectures": "trfnb.PretrainCharacters.v1", "loss": "squared"},
    "characters": "characters",
    "vectors": {"@architectures": "trfnb.PretrainVectors.v1"},
    "words": "words",
    "replaced": "replaced",
    "distillation": "distillation",
    MINILM: {"@architectures": "trfnb.PretrainWordpieces.v1"},
}
COLUMNS = ("weights", "seconds", "words", "steps")


def main() -> None:
    given = _arguments()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in given.names:
        seconds, words, steps = pretrained(name, given)
        table = given.folder / "encoders.csv"
        begun = table.exists()
        with table.open("a", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([] if begun else [COLUMNS])
            writer.writerow([name, round(seconds, 1), words, steps])


def pretrained(name: str, given: argparse.Namespace) -> tuple[float, int, int]:
    """Pretrain one encoder, and return its CPU seconds, words and updates."""
    out = given.folder / name
    objective = OBJECTIVES[name]
    large = name == MINILM
    config = build_config(["tagger", "ner"], "minilm" if large else "tok2vec", precision="auto")
    if name == "vectors":
        config["initialize"]["vectors"] = str(given.vectors)
    config = pretraining_config(
        config,
        given.text,
        objective,
        component="transformer" if large else "tok2vec",
        batch_words=1000 if large else 3000,
        dev_words=0,
    )
    if large:
        config["pretraining"]["optimizer"]["learn_rate"] = 5e-5
    if name == SPACY:
        return by_the_peer(config, given.text, out, given.seconds)
    out.mkdir()
    began = time.process_time()
    run = PretrainingRun(config, out)
    for _, docs in run.stream.batches(run.progress.position, run.max_epochs):
        run.update(docs)
        if time.process_time() - began >= given.seconds:
            break
    export(run.model, run.optimizer, out / "model-last.bin")
    return time.process_time() - began, run.progress.words, run.progress.step


def by_the_peer(config: Any, text: Path, out: Path, seconds: float) -> tuple[float, int, int]:
    """Pretrain as spaCy does, from the same first weights and on the same text."""
    out.mkdir()
    # spaCy's reader takes JSON lines alone, and the path from the stream.
    lines = text.read_text(encoding="utf8").splitlines()
    records = out / "text.jsonl"
    records.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines if line.strip()))
    config["paths"]["raw_text"] = str(records)
    began = time.process_time()
    model, optimizer, words = by_spacy(PretrainingRun(config, out), float("inf"), seconds)
    with model.use_params(optimizer.averages):
        (out / "model-last.bin").write_bytes(model.get_ref("tok2vec").to_bytes())
    return time.process_time() - began, words, words // 3000


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=list(OBJECTIVES), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=600, help="of the processor, an encoder")
    parser.add_argument("--vectors", type=Path, help="table of the objective of static vectors")
    return parser.parse_args()


if __name__ == "__main__":
    main()
