"""The same numbers as spacy-transformers 1.4.0? `python -m benchmarks.parity.compare --help`.

Token vectors with each span getter, the losses of ten training steps from a pipeline that was
initialised there, and the predictions of a pipeline that was trained there.
"""

import argparse
import json
import logging
import subprocess
from pathlib import Path

import numpy as np
import spacy
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from thinc.api import Adam

import trfnb
from benchmarks.parity import peer
from trfnb import corpora, models


def prepare(work: Path, corpus: str, layers: list[str]) -> None:
    """Write the docs that both sides read."""
    work.mkdir(parents=True, exist_ok=True)
    nlp = spacy.blank("en")
    loaded = corpora.load(corpus, layers=tuple(layers))
    docs: dict[str, list[Doc]] = {}
    dev = loaded.examples("dev", nlp.vocab)
    for i, (sentence, example) in enumerate(zip(loaded.dev, dev, strict=True)):
        example.reference.user_data.clear()
        docs.setdefault(sentence.doc_id or str(i // 10), []).append(example.reference)
    DocBin(docs=[Doc.from_docs(one) for one in docs.values()]).to_disk(work / "docs.spacy")
    train = [example.reference for example in loaded.examples("train", nlp.vocab)[:800]]
    DocBin(docs=train).to_disk(work / "train.spacy")
    (work / "texts.json").write_text(json.dumps([eg.reference.text for eg in dev[:500]]))


def vectors(work: Path, path: str) -> dict[str, float]:
    """Return the largest difference of any token vector, for each span getter."""
    found = {}
    for getter in peer.GETTERS:
        nlp = spacy.blank("en")
        component = nlp.add_pipe("transformer", config={"model": peer.model(path, getter)})
        nlp.initialize()
        docs = list(DocBin().from_disk(work / "docs.spacy").get_docs(nlp.vocab))
        ours = np.concatenate([trfnb.token_vectors(doc) for doc in component.pipe(docs)])
        found[getter] = float(np.abs(ours - np.load(work / f"{getter}.npy")).max())
    return found


def losses(work: Path) -> dict[str, float]:
    """Return the largest relative difference of ten steps' losses, for each component."""
    nlp = spacy.load(work / "initialised")
    gold = list(DocBin().from_disk(work / "train.spacy").get_docs(nlp.vocab))
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in gold]
    theirs = json.loads((work / "losses.json").read_text())
    optimizer = Adam(5e-4, L2=0.01, grad_clip=1.0)
    ours = list(peer.train(nlp, examples, peer.STEPS, optimizer))
    return {
        name: max(
            abs(a[name] - b[name]) / max(abs(b[name]), 1e-9)
            for a, b in zip(ours, theirs, strict=True)
        )
        for name in theirs[0]
    }


def predictions(work: Path) -> tuple[int, int]:
    """Return how many texts have the same annotations, of how many."""
    nlp = spacy.load(work / "trained")
    theirs = json.loads((work / "predictions.json").read_text())
    ours = [doc.to_json() for doc in nlp.pipe([one["text"] for one in theirs])]
    return sum(a == b for a, b in zip(ours, theirs, strict=True)), len(theirs)


def main() -> None:
    """Run the peer in its own environment, then compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="a folder for what both sides exchange")
    parser.add_argument("corpus", help="a corpus with documents, such as UD EWT")
    parser.add_argument("--layers", nargs="*", default=[], help="more layers of annotation")
    parser.add_argument("--python", help="spacy-transformers' Python; without it, reuse WORK")
    args = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    path = models.path("minilm")
    if args.python:
        prepare(args.work, args.corpus, args.layers)
        subprocess.run([args.python, peer.__file__, str(args.work), path], check=True)
    same, of = predictions(args.work)
    found = {
        "largest difference of a token vector": vectors(args.work, path),
        "largest relative difference of a loss in ten steps": losses(args.work),
        "texts with the same predictions": [same, of],
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
