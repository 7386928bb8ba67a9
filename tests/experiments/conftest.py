"""A corpus of made-up sentences, small enough to train on in a second."""

import random
from dataclasses import dataclass

import pytest
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.vocab import Vocab

NAMES = ["Ada", "Grace", "Alan", "Edsger"]
PLACES = ["Oslo", "Lima", "Cairo", "Perth"]
VERBS = {"left": "news", "won": "sport", "sold": "money", "scored": "sport", "taxed": "money"}
NOUNS = ["ships", "games", "banks", "plans"]


@dataclass(frozen=True)
class TinyCorpus:
    sizes: dict[str, int]

    def docs(self, split: str, vocab: Vocab) -> list[Doc]:
        rng = random.Random(split)
        return [self._sentence(rng, vocab) for _ in range(self.sizes[split])]

    def examples(self, split: str, vocab: Vocab) -> list[Example]:
        return [
            Example(Doc(vocab, words=[t.text for t in doc], spaces=[True] * len(doc)), doc)
            for doc in self.docs(split, vocab)
        ]

    def save(self, directory):
        paths = []
        for split in ("train", "dev"):
            paths.append(directory / f"{split}.spacy")
            DocBin(docs=self.docs(split, Vocab()), store_user_data=True).to_disk(paths[-1])
        return tuple(paths)

    @staticmethod
    def _sentence(rng: random.Random, vocab: Vocab) -> Doc:
        verb = rng.choice(list(VERBS))
        words = [rng.choice(NAMES), verb, rng.choice(NOUNS), "in", rng.choice(PLACES), "."]
        doc = Doc(
            vocab,
            words=words,
            spaces=[True] * len(words),
            tags=["NNP", "VBD", "NNS", "IN", "NNP", "."],
            heads=[1, 1, 1, 1, 3, 1],
            deps=["nsubj", "ROOT", "obj", "prep", "pobj", "punct"],
            sent_starts=[True] + [False] * 5,
        )
        doc.ents = [Span(doc, 0, 1, "PERSON"), Span(doc, 4, 5, "GPE")]
        doc.cats = {label: float(label == VERBS[verb]) for label in ("news", "sport", "money")}
        return doc


@pytest.fixture(scope="session")
def corpus() -> TinyCorpus:
    return TinyCorpus({"train": 60, "dev": 20})
