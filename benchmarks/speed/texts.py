"""The texts that every side reads: the same words, cut into tweets, sentences, documents, a book.

Nothing of a corpus is written into the project: the texts lie in a temporary folder.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import spacy
from spacy.tokens import Doc, DocBin

from trfnb import corpora
from trfnb.corpora import Sentence

KINDS = ("tweets", "sentences", "documents")
CUT, TWEET = 128, 12


def write(folder: Path, source: str, words: int, book: int, train_words: int) -> dict[str, Any]:
    """Write ``texts.json`` and ``train.spacy``; return how many words and texts there are.

    Args:
        folder: where to.
        source: a corpus by name or path.
        words: of each kind, at least.
        book: words of the one long document; short corpora repeat themselves.
        train_words: of the training documents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    corpus = corpora.load(source)
    held_out, whole = _kinds(corpus.dev), _kinds([*corpus.dev, *corpus.train])
    # The held-out split as it is, where it is large enough: a draw from training texts too would
    # change how long and how even they are.
    texts = {
        kind: _enough(some if sum(map(len, some)) >= words else whole[kind], words)
        for kind, some in held_out.items()
    }
    long = [word for one in whole["documents"] for word in one]
    texts["book"] = [(long * -(-book // max(len(long), 1)))[:book]]
    (folder / "texts.json").write_text(json.dumps(texts))
    return {kind: {"texts": len(some), "words": sum(map(len, some))} for kind, some in texts.items()
           } | {"train": _write_train(folder, corpus, train_words)}  # fmt: skip


def _kinds(pool: Sequence[Sentence]) -> dict[str, list[list[str]]]:
    documents: dict[str, list[str]] = {}
    for i, one in enumerate(pool):
        documents.setdefault(one.doc_id or str(i // 10), []).extend(one.words)
    sentences = [list(one.words) for one in pool]
    return {
        "tweets": [one for one in sentences if len(one) <= TWEET],
        "sentences": sentences,
        "documents": [
            one[i : i + CUT] for one in documents.values() for i in range(0, len(one), CUT)
        ],
    }


def _write_train(folder: Path, corpus: corpora.Corpus, words: int) -> dict[str, int]:
    nlp = spacy.blank("en")
    docs: list[Doc] = []
    total = 0
    for example in corpus.examples("train", nlp.vocab):
        doc = example.reference
        if "ner" not in corpus.tasks:
            doc.set_ents([doc[i : i + 1] for i in ()])
        doc.user_data.clear()
        docs.append(doc)
        total += len(doc)
        if total >= words:
            break
    DocBin(docs=docs).to_disk(folder / "train.spacy")
    return {"texts": len(docs), "words": total}


def _enough(texts: Sequence[list[str]], words: int) -> list[list[str]]:
    """Draw texts until they hold enough words."""
    texts = list(texts)
    random.Random(0).shuffle(texts)
    chosen, total = [], 0
    for one in texts:
        chosen.append(one)
        total += len(one)
        if total >= words:
            break
    return chosen
