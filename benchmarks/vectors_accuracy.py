"""Tagging and names on UD EWT + UNER by embedding and training size; each result is saved at once.

A second call goes on where the first stopped:
    python benchmarks/vectors_accuracy.py --treebank UD_EWT --names UNER_EWT \
        --table md=PATH --table floret=PATH --table distilled=PATH
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import spacy
from spacy.training.batchers import minibatch_by_words
from thinc.api import compounding, fix_random_seed

import trfnb.vectors.embed
import trfnb.vectors.store  # noqa: F401
from trfnb import corpora

WIDTH, DEPTH = 96, 2
# Fewer passes over more sentences; the same for every embedding.
EPOCHS = {500: 10, 2000: 5, 0: 1}
HASHED = {"@architectures": "spacy.MultiHashEmbed.v2", "include_static_vectors": False,
          "attrs": ["NORM", "PREFIX", "SUFFIX", "SHAPE"],
          "rows": [5000, 2500, 2500, 2500]}  # fmt: skip
EMBEDDINGS = {
    "none": (None, HASHED),
    "static": ("md", {"@architectures": "trfnb.StaticVectors.v1"}),
    "added": ("md", {"@architectures": "trfnb.AddedVectors.v1", "rows": 2000}),
    "concatenated": ("md", {"@architectures": "trfnb.ConcatenatedVectors.v1"}),
    "tuned": ("md", {"@architectures": "trfnb.TunedVectors.v1", "rows": 10000}),
    "subwords": ("md", {"@architectures": "trfnb.SubwordVectors.v1"}),
    "concatenated floret": ("floret", {"@architectures": "trfnb.ConcatenatedVectors.v1"}),
    "concatenated distilled": ("distilled", {"@architectures": "trfnb.ConcatenatedVectors.v1"}),
    "static distilled": ("distilled", {"@architectures": "trfnb.StaticVectors.v1"}),
}
COUNTING = {"added", "tuned"}


def pipeline(embed: dict, table: str | None) -> spacy.Language:
    encode = {"@architectures": "spacy.MaxoutWindowEncoder.v2", "width": WIDTH, "depth": DEPTH,
              "window_size": 1, "maxout_pieces": 3}  # fmt: skip
    tok2vec = {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": {**embed, "width": WIDTH},
        "encode": encode,
    }
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": WIDTH}
    nlp = spacy.blank("en", config={"nlp": {"vectors": {"@vectors": "trfnb.Vectors.v1"}}})
    nlp.add_pipe("tok2vec", config={"model": tok2vec})
    nlp.add_pipe(
        "tagger", config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}}
    )
    nlp.add_pipe("ner", config={"model": {
        "@architectures": "spacy.TransitionBasedParser.v2", "state_type": "ner",
        "extra_state_tokens": False, "hidden_width": 64, "maxout_pieces": 2, "use_upper": True,
        "tok2vec": listener}})  # fmt: skip
    nlp.config["initialize"]["vectors"] = table
    return nlp


def run(name: str, size: int, seed: int, tables: dict[str, str], args: argparse.Namespace) -> dict:
    fix_random_seed(seed)
    table, embed = EMBEDDINGS[name]
    begun = time.perf_counter()
    corpus = corpora.load(
        args.treebank, layers=[args.names], limit=size or None, dev_limit=1000, seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        if name in COUNTING:
            corpus.save(folder)
            embed = {**embed, "corpus": folder}
        nlp = pipeline(embed, tables[table] if table else None)
        train = list(corpus.examples("train", nlp.vocab))
        optimizer = nlp.initialize(lambda: train)
    train = list(corpus.examples("train", nlp.vocab))
    words = compounding(200, 1000, 1.001)
    shuffle = random.Random(seed)
    for _ in range(EPOCHS[size]):
        shuffle.shuffle(train)
        for batch in minibatch_by_words(train, size=words):
            nlp.update(batch, sgd=optimizer, drop=0.1)
    trained = time.perf_counter() - begun
    scores = nlp.evaluate(list(corpus.examples("dev", nlp.vocab)))
    return {"embedding": name, "table": table, "sentences": len(train), "size": size, "seed": seed,
            "epochs": EPOCHS[size], "tag_acc": scores["tag_acc"], "ents_f": scores["ents_f"],
            "train_seconds": trained}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--treebank", required=True)
    parser.add_argument("--names", required=True)
    parser.add_argument("--table", action="append", default=[], help="NAME=PATH")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs="*", default=[500, 2000, 0], help="0 is all")
    parser.add_argument("--embeddings", nargs="*", default=list(EMBEDDINGS), choices=EMBEDDINGS)
    parser.add_argument("--out", default=str(Path(__file__).with_name("vectors_accuracy.json")))
    args = parser.parse_args()
    tables = dict(entry.split("=", 1) for entry in args.table)
    out = Path(args.out)
    results = json.loads(out.read_text()) if out.exists() else []
    done = {(r["embedding"], r["size"], r["seed"]) for r in results}
    for seed in args.seeds:
        for size in args.sizes:
            for name in args.embeddings:
                table = EMBEDDINGS[name][0]
                if (name, size, seed) in done or (table and table not in tables):
                    continue
                results.append(run(name, size, seed, tables, args))
                out.with_suffix(".partial").write_text(json.dumps(results, indent=1))
                out.with_suffix(".partial").replace(out)
                print(json.dumps(results[-1]), flush=True)


if __name__ == "__main__":
    main()
