"""One side of a comparison: reads requests as lines of JSON, answers in the same way.

Runs in the side's own environment, so it imports spaCy and that side alone:
``python worker.py SIDE FOLDER MODEL``.
"""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "sides"))
MODULES = {
    "trfnb": "trfnb_side",
    "trfnb-passive": "trfnb_side",
    "huggingface": "huggingface_side",
    "openvino": "openvino_side",
    "onnxruntime": "onnxruntime_side",
    "spacy-transformers": "spacy_transformers_side",
    "spacy-curated-transformers": "spacy_curated_transformers_side",
}


class Clock:
    """Wall seconds, and CPU seconds: these stay true on a machine that others use too."""

    def __init__(self):
        self.start = time.perf_counter(), time.process_time()

    def read(self):
        """Return both since the clock was made."""
        if device() != "cpu":
            import torch

            torch.cuda.synchronize()
        wall, cpu = self.start
        return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


class Worker:
    """Pipelines by setting, kept between requests."""

    def __init__(self, side, folder, path):
        self.side = importlib.import_module(MODULES[side])
        self.folder, self.path, self.name = Path(folder), path, side
        self.texts = json.loads((self.folder / "texts.json").read_text())
        self.built = {}
        self.training = {}

    def choices(self):
        """Return the settings to tune over, and the one it ships with."""
        return {"choices": self.side.CHOICES, "default": self.side.DEFAULT}

    def open(self, precision, choice, book=False):
        """Build a pipeline for inference, once."""
        key = precision, choice, book
        if key not in self.built:
            nlp = self.side.build(self.path, precision, choice)
            if hasattr(nlp, "initialize"):
                from spacy.tokens import Doc
                from spacy.training import Example

                words = self.texts["sentences"][0]
                doc = Doc(nlp.vocab, words=words)
                nlp.initialize(lambda: [Example(doc, doc.copy())])
                if book:
                    self.side.for_a_book(nlp)
            self.built[key] = nlp
        return self.built[key]

    def embed(self, kind, precision, choice=None, part=1.0, batch=None, save=False):
        """Embed texts of a kind and return the seconds.

        ``save`` writes their token vectors, ``save="states"`` the states of their wordpieces,
        which is what sides without docs write.
        The docs come in batches of spaCy's own size, unless another is given.
        """
        nlp = self.open(precision, choice, kind == "book")
        texts = self.texts[kind]
        if kind == "book":
            texts = [texts[0][: int(len(texts[0]) * part)]]
        else:
            texts = texts[: max(int(len(texts) * part), 1)]
        words = sum(map(len, texts))
        if hasattr(nlp, "embed"):
            clock = Clock()
            states = nlp.embed(texts)
            taken = clock.read()
            if save:
                self.keep(states, kind, precision)
            return {**taken, "words": words}
        from spacy.tokens import Doc
        from thinc.api import to_numpy

        docs = [Doc(nlp.vocab, words=words) for words in texts]
        clock = Clock()
        for _ in nlp.pipe(docs, batch_size=batch):
            pass
        taken = clock.read()
        if save:
            read = self.side.states if save == "states" else self.side.vectors
            self.keep([to_numpy(read(doc)) for doc in docs], kind, precision)
        return {**taken, "words": words}

    def keep(self, found, kind, precision):
        """Write what was found for each text, to be compared with another side's."""
        import numpy as np

        np.save(self.folder / f"{self.name}-{kind}-{precision}.npy", np.concatenate(found))

    def losses(self, precision="fp32", choice=None, batch_words=1000):
        """Return the first losses without dropout, to be compared before timing."""
        from common import first_losses, trainable

        nlp = self.side.build(self.path, precision, choice, train=True, dropout=False)
        return first_losses(nlp, trainable(nlp, self.folder / "train.spacy", batch_words)[0])

    def train(self, precision="fp32", choice=None, batch_words=1000, batches=1):
        """Train on some batches, going on where the last request ended; return the seconds."""
        from common import LEARN_RATE, train, trainable

        key = precision, choice
        if key not in self.training:
            nlp = self.side.build(self.path, precision, choice, train=True)
            found = trainable(nlp, self.folder / "train.spacy", batch_words)
            self.training[key] = nlp, found, self.side.optimizer(LEARN_RATE), [0]
        nlp, found, optimizer, place = self.training[key]
        taken = [found[(place[0] + i) % len(found)] for i in range(batches)]
        place[0] += batches
        words = sum(len(example) for batch in taken for example in batch)
        clock = Clock()
        losses = {name: float(value) for name, value in train(nlp, taken, optimizer).items()}
        return {**clock.read(), "words": words, "losses": losses}

    def listen(self, listeners):
        """Run a training step of a body with some listeners that only pass gradients back."""
        from common import listening

        if ("listen", listeners) not in self.training:
            self.training["listen", listeners] = listening(self.side, self.path, listeners)
        return self.training["listen", listeners](self.texts["sentences"], Clock())

    def save(self, precision="fp32", choice=None):
        """Save a pipeline for the start-up test."""
        nlp = self.open(precision, choice)
        nlp.to_disk(self.folder / f"saved-{self.name}")
        return {}

    def peak(self):
        """Return the most memory this process has held, in MB."""
        return {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def start_up(folder, side, words):
    """Load a saved pipeline and read one text; return seconds from ``spacy.load`` on."""
    import spacy

    imported = time.perf_counter()
    if side == "trfnb":
        import trfnb  # noqa: F401
    nlp = spacy.load(Path(folder) / f"saved-{side}")
    nlp(" ".join(words))
    return {"seconds": time.perf_counter() - imported}


def device():
    """Return where the encoder and the task models are to run."""
    return os.environ.get("TRFNB_DEVICE", "cpu")


def main():
    """Answer requests until the input ends."""
    side, folder, path = sys.argv[1:4]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    if len(sys.argv) > 4:
        texts = json.loads((Path(folder) / "texts.json").read_text())
        print(json.dumps(start_up(folder, side, texts["sentences"][0])), file=out, flush=True)
        return
    if device() != "cpu" and side not in ("huggingface", "openvino", "onnxruntime"):
        from thinc.api import require_gpu, use_pytorch_for_gpu_memory

        require_gpu()
        use_pytorch_for_gpu_memory()
    worker = Worker(side, folder, path)
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(worker, request.pop("do"))(**request)
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
