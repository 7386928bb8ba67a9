"""Words a second and dev loss of ``trfnb pretrain`` beside ``spacy pretrain``.

``python -m benchmarks.pretraining TEXT --out FILE.json``: the same tok2vec (spaCy's default,
width 96, depth 4), objective (characters, squared as spaCy computes it), optimiser, batches of
3,000 words and text; each candidate in a process of its own, reading and tokenising included. The
dev loss is half the squared error a hidden word, with the same hidden words for all.
"""

import argparse
import gzip
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np

TOK2VEC = {
    "@architectures": "spacy.HashEmbedCNN.v2",
    "width": 96,
    "depth": 4,
    "embed_size": 2000,
    "window_size": 1,
    "maxout_pieces": 3,
    "subword_features": True,
    "pretrained_vectors": None,
}
# Name -> settings of the loop and of the objective, and whether bytes get a softmax.
CANDIDATES = {
    "spacy pretrain": None,
    "trfnb pretrain": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("--words", type=int, default=500_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--candidates", nargs="*", default=list(CANDIDATES))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, Path(given.text), given.words, given.seed)))
        return
    with tempfile.TemporaryDirectory() as folder:
        text = prepared(Path(given.text), Path(folder), given.words)
        rows = []
        for seed in range(given.seeds):
            for name in given.candidates:
                rows.append(in_process(name, text, given.words, given.threads, seed))
                print(rows[-1], flush=True)
    if given.out:
        Path(given.out).write_text(json.dumps(rows, indent=1) + "\n")


def prepared(source: Path, folder: Path, words: int) -> Path:
    """Write JSON lines for training, and the 400 lines before them for the dev loss."""
    with gzip.open(source, "rt") if source.suffix == ".gz" else source.open() as file:
        lines = [line.strip() for line in islice(file, 400 + words // 20) if line.strip()]
    for name, part in (("dev", lines[:400]), ("train", lines[400:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in part))
    return folder / "train.jsonl"


def in_process(name: str, text: Path, words: int, threads: int, seed: int) -> dict[str, Any]:
    call = [sys.executable, "-m", "benchmarks.pretraining", str(text), "--one", name,
            "--words", str(words), "--seed", str(seed)]  # fmt: skip
    few = str(threads)
    env = {**os.environ, "OMP_NUM_THREADS": few, "OPENBLAS_NUM_THREADS": few}
    done = subprocess.run(call, env=env, capture_output=True, text=True, check=True)
    return {"candidate": name, "threads": threads, "seed": seed} | json.loads(
        done.stdout.strip().splitlines()[-1]
    )


def measure(name: str, text: Path, words: int, seed: int) -> dict[str, float]:
    """Train one candidate on about so many words."""
    from thinc.api import Config

    from trfnb import registration  # noqa: F401
    from trfnb.pretraining.loop import PretrainingRun

    settings = CANDIDATES[name]
    config = Config(
        {
            "nlp": {"lang": "en", "pipeline": ["tok2vec"]},
            "components": {"tok2vec": {"factory": "tok2vec", "model": TOK2VEC}},
            "paths": {"raw_text": str(text)},
            "pretraining": {"max_epochs": 1},
            "training": {"seed": seed},
            "pretraining_loop": {"dev_words": 0, **(settings or {})},
        }
    )
    run = PretrainingRun(config, text.parent)
    wall, cpu = time.perf_counter(), cpu_seconds()
    if settings is None:
        model, optimizer, done = by_spacy(run, words)
    else:
        model, optimizer, done = run.model, run.optimizer, 0
        for _, docs in run.stream.batches(run.progress.position, 1):
            run.update(docs)
            done += sum(map(len, docs))
            if done >= words:
                break
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    return {
        "words": done,
        "seconds": round(wall, 2),
        "words_per_second": round(done / wall),
        "words_per_cpu_second": round(done / cpu),
        "dev_loss": round(dev_loss(run.nlp, model, optimizer, text.with_name("dev.jsonl")), 4),
    }


def by_spacy(run: Any, words: float, seconds: float = math.inf) -> tuple[Any, Any, int]:
    """Train as ``spacy pretrain`` does, with its model, reader, batcher and update.

    Ends after so many words or CPU seconds; the text is read again where it ends before.
    """
    from spacy.schemas import ConfigSchemaPretrain
    from spacy.training.corpus import JsonlCorpus
    from spacy.training.pretrain import create_pretraining_model, ensure_docs, make_update
    from spacy.util import registry
    from thinc.api import fix_random_seed

    block = run.config.interpolate()["pretraining"].copy()
    block["objective"] = {
        "@architectures": "spacy.PretrainCharacters.v1",
        "maxout_pieces": 3,
        "hidden_size": 300,
        "n_characters": 4,
    }
    resolved = registry.resolve(block, schema=ConfigSchemaPretrain)
    fix_random_seed(run.seed)
    nlp = run.nlp
    nlp.config["initialize"]["init_tok2vec"] = None
    from thinc.api import Model, NumpyOps

    tok2vec = nlp.get_pipe("tok2vec").model
    for node in tok2vec.walk():
        node.ops = NumpyOps()
        for name in node.param_names:
            node.set_param(name, None)
    model: Model = create_pretraining_model(nlp, resolved)
    optimizer, objective, done = resolved["optimizer"], model.attrs["loss"], 0
    text = run.stream.text.path
    reader = JsonlCorpus(text, min_length=5, max_length=500)
    again = chain.from_iterable(reader(nlp) for _ in count())
    began = time.process_time()
    for batch in resolved["batcher"](again):
        docs = ensure_docs(batch)
        make_update(model, docs, optimizer, objective)
        done += sum(map(len, docs))
        if done >= words or time.process_time() - began >= seconds:
            break
    return model, optimizer, done


def dev_loss(nlp: Any, model: Any, optimizer: Any, path: Path) -> float:
    """Return half the squared error a hidden word; the same words are hidden each time."""
    import torch

    from trfnb.pretraining.layers import one_hot, reworded
    from trfnb.pretraining.masking import RandomMask, Replacement, corrupt
    from trfnb.pretraining.objectives import character_targets

    texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    docs = [nlp.make_doc(text) for text in texts]
    words, hidden = corrupt(docs, RandomMask(), Replacement(), np.random.default_rng(0))
    rows = np.flatnonzero(hidden)
    with model.use_params(optimizer.averages):
        read = [reworded(doc, one) for doc, one in zip(docs, words, strict=True)]
        vectors = np.concatenate(model.get_ref("tok2vec").predict(read))[rows]
        head = model.get_ref("output_layer")
        output = head.predict([vectors] if "list2array" in head.name else vectors)
    targets = character_targets(docs, words, rows)
    return float(one_hot(torch.from_numpy(output), torch.from_numpy(targets))) / len(rows)


def cpu_seconds() -> float:
    """Return the processor seconds of this process and its children."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


if __name__ == "__main__":
    main()
