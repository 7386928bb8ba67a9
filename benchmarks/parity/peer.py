"""What spacy-transformers computes, written down for `compare.py`.

Runs in spacy-transformers' own virtual environment: `python peer.py WORK MODEL`. WORK holds
`docs.spacy` and `train.spacy`, which `compare.py` put there.
"""

import json
import sys
from pathlib import Path

import numpy as np
import spacy
from spacy.tokens import DocBin
from spacy.training import Example
from thinc.api import Adam, fix_random_seed, reduce_mean
from thinc.types import Ragged

GETTERS = {
    "doc_spans": {"@span_getters": "spacy-transformers.doc_spans.v1"},
    "sent_spans": {"@span_getters": "spacy-transformers.sent_spans.v1"},
    "strided_spans": {
        "@span_getters": "spacy-transformers.strided_spans.v1",
        "window": 128,
        "stride": 96,
    },
}
STEPS, BATCH = 10, 16


def model(path, getter):
    """Return the settings of a transformer without dropout."""
    return {
        "@architectures": "spacy-transformers.TransformerModel.v3",
        "name": path,
        "get_spans": GETTERS[getter],
        "tokenizer_config": {"use_fast": True},
        "transformer_config": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    }


def listener(grad_factor):
    """Return the settings of a listener."""
    return {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "grad_factor": grad_factor,
        "pooling": {"@layers": "reduce_mean.v1"},
    }


def token_vectors(doc):
    """Return one vector a token, by spacy-transformers' own alignment."""
    data = doc._.trf_data
    rows = data.model_output.last_hidden_state.reshape(-1, data.width)
    picked = Ragged(rows[data.align.dataXd.ravel()], data.align.lengths)
    return reduce_mean().predict(picked)


def train(nlp, examples, steps, optimizer):
    """Update as `spacy train` does; yield each step's losses.

    The parser's update draws where to cut its sequences, and spacy-transformers draws a number in
    its forward pass: every component starts from the same seed.
    """
    for step in range(steps):
        start = step * BATCH % (len(examples) - BATCH)
        losses = {}
        batch = [Example(eg.x.copy(), eg.y) for eg in examples[start : start + BATCH]]
        for _, pipe in nlp.pipeline:
            fix_random_seed(step)
            pipe.update(batch, sgd=None, losses=losses, drop=0.0)
        for _, pipe in nlp.pipeline:
            pipe.finish_update(optimizer)
        yield {name: float(value) for name, value in losses.items()}


def main(work, path):
    """Write vectors, an initialised pipeline, its losses, a trained pipeline, predictions."""
    nlp = spacy.blank("en")
    docs = list(DocBin().from_disk(work / "docs.spacy").get_docs(nlp.vocab))
    for getter in GETTERS:
        nlp = spacy.blank("en")
        component = nlp.add_pipe("transformer", config={"model": model(path, getter)})
        nlp.initialize()
        vectors = [token_vectors(doc) for doc in component.pipe([doc.copy() for doc in docs])]
        np.save(work / f"{getter}.npy", np.concatenate(vectors))
        print(getter, flush=True)
    nlp = spacy.blank("en")
    nlp.add_pipe("transformer", config={"model": model(path, "doc_spans")})
    for name, factor in (("tagger", 1.0), ("parser", 1.0), ("ner", 0.5)):
        nlp.add_pipe(name, config={"model": {"tok2vec": listener(factor)}})
    gold = list(DocBin().from_disk(work / "train.spacy").get_docs(nlp.vocab))
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in gold]
    fix_random_seed(0)
    nlp.initialize(lambda: examples)
    nlp.to_disk(work / "initialised")
    optimizer = Adam(5e-4, L2=0.01, grad_clip=1.0)
    (work / "losses.json").write_text(json.dumps(list(train(nlp, examples, STEPS, optimizer))))
    list(train(nlp, examples, 60, optimizer))
    nlp.to_disk(work / "trained")
    texts = json.loads((work / "texts.json").read_text())
    predictions = [doc.to_json() for doc in nlp.pipe(texts)]
    (work / "predictions.json").write_text(json.dumps(predictions))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
