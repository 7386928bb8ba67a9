"""A corpus of made-up sentences, small enough to train on in a second."""

import random
from dataclasses import dataclass

import numpy
import spacy
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.vocab import Vocab

from trfnb.experiments.weights import arrays

NAMES = ["Ada", "Grace", "Alan", "Edsger"]
PLACES = ["Oslo", "Lima", "Cairo", "Perth"]
VERBS = {"left": "news", "won": "sport", "sold": "money", "scored": "sport", "taxed": "money"}
NOUNS = ["ships", "games", "banks", "plans"]
SMALL = {"width": 24, "depth": 2, "embed_rows": 100, "batch_words": 60}


@dataclass(frozen=True)
class TinyCorpus:
    """Sixty words make a batch of ten sentences; a size of 0 for test means no test split."""

    train: int = 60
    dev: int = 20
    test: int = 0

    def docs(self, split: str, vocab: Vocab) -> list[Doc]:
        rng = random.Random(split)
        return [self._sentence(rng, vocab) for _ in range(getattr(self, split))]

    def examples(self, split: str, vocab: Vocab) -> list[Example]:
        return [
            Example(Doc(vocab, words=[t.text for t in doc], spaces=[True] * len(doc)), doc)
            for doc in self.docs(split, vocab)
        ]

    def save(self, directory):
        """Write the splits as .spacy files; the paths of train and dev."""
        for split in ("train", "dev", "test"):
            if docs := self.docs(split, Vocab()):
                DocBin(docs=docs, store_user_data=True).to_disk(directory / f"{split}.spacy")
        return directory / "train.spacy", directory / "dev.spacy"

    @staticmethod
    def _sentence(rng: random.Random, vocab: Vocab) -> Doc:
        verb = rng.choice(list(VERBS))
        words = [rng.choice(NAMES), verb, rng.choice(NOUNS), "in", rng.choice(PLACES), "."]
        doc = Doc(
            vocab,
            words=words,
            spaces=[True] * len(words),
            tags=["NNP", "VBD", "NNS", "IN", "NNP", "."],
            pos=["PROPN", "VERB", "NOUN", "ADP", "PROPN", "PUNCT"],
            morphs=["", "Tense=Past", "Number=Plur", "", "", ""],
            lemmas=[word.rstrip("s") for word in words],
            heads=[1, 1, 1, 1, 3, 1],
            deps=["nsubj", "ROOT", "obj", "prep", "pobj", "punct"],
            sent_starts=[True] + [False] * 5,
        )
        doc.ents = [Span(doc, 0, 1, "PERSON"), Span(doc, 4, 5, "GPE")]
        doc.spans["parts"] = [Span(doc, 0, 1, "WHO"), Span(doc, 3, 5, "WHERE")]
        doc.cats = {label: float(label == VERBS[verb]) for label in ("news", "sport", "money")}
        return doc


def weights_of(nlp):
    """Copy every weight, by its key, as a NumPy array."""
    return {
        key: numpy.asarray(value.detach() if hasattr(value, "detach") else value).copy()
        for key, value in arrays(nlp)
    }


def users_config(**components):
    """Write a config as a user would: spaCy's own tok2vec, and components that listen to it."""
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec")
    for name, settings in components.items():
        nlp.add_pipe(name, config=settings)
    config = nlp.config.copy()
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96, "upstream": "*"}
    for name in components:
        config["components"][name]["model"]["tok2vec"] = dict(listener)
    return config
