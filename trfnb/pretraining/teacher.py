"""Distillation: learn a transformer's contextual token vectors.

The layer is trained to give what the teacher's layer gives, through a linear map (as FitNets,
Romero et al., 2015, https://arxiv.org/abs/1412.6550, and TinyBERT, Jiao et al., 2020,
https://arxiv.org/abs/1909.10351, learn hidden states).
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Linear, Model, reduce_mean
from thinc.util import to_numpy

from trfnb import models
from trfnb.flow.runtime import Precision
from trfnb.flow.runtime import Runtime
from trfnb.flow.spans import get_doc_spans
from trfnb.flow.encoder import EncoderShim
from trfnb.pipe.model import token_vector_model, transformer_model
from trfnb.pipe.registries import registry
from trfnb.pretraining.heads import DISTANCES, objective_model
from trfnb.pretraining.masking import Hidden, words_of

# Docs -> one (tokens, width) array for each.
Ask = Callable[[list[Doc]], Any]


@registry.architectures("trfnb.PretrainDistillation.v1")
@dataclass(frozen=True)
class PretrainDistillation:
    """Predict a transformer's vector of every word.

    Attributes:
        teacher: ``"minilm"``, a local path or a hub name.
        layer: The teacher's layer; 0 is the embeddings' output, -1 the last.
        cache: A folder that keeps its vectors, 2 bytes a number; None asks it again each time.
        loss: Distance between a prediction and the teacher's vector.
        precision: Of the teacher's arithmetic.
    """

    teacher: str = "minilm"
    layer: int = -1
    cache: Path | None = None
    loss: Literal["cosine", "L2", "vmf"] = "cosine"
    precision: Precision = "fp32"

    def __call__(self, vocab: Vocab, tok2vec: Model) -> Model:
        """Put a head on a layer."""
        source = models.path(self.teacher) if self.teacher == "minilm" else self.teacher
        shared = transformer_model(EncoderShim(source), get_doc_spans, Runtime(self.precision))
        # A token's vector is the mean of its wordpieces'.
        model = token_vector_model(shared, reduce_mean(), layer=self.layer)
        model.initialize()
        ask: Ask = model.predict
        if self.cache is not None:
            name = f"{self.teacher} layer {self.layer} {self.precision}"
            ask = CachedTeacher(ask, name, Path(self.cache))
        head: Any = Linear(nO=model.get_dim("nO"))
        targets = partial(teacher_targets, ask)
        return objective_model(vocab, tok2vec, head, all_words, targets, DISTANCES[self.loss])


class CachedTeacher:
    """A teacher that is asked once for each text; its answers are kept in an SQLite file.

    Args:
        ask: The teacher.
        name: Of the teacher. Answers of others in the same folder are left alone.
        folder: Where to keep the answers, in half precision.
    """

    def __init__(self, ask: Ask, name: str, folder: Path) -> None:
        self.ask, self.name = ask, name
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "vectors.sqlite"
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS kept (text BLOB PRIMARY KEY, vectors BLOB)")

    def __call__(self, docs: Sequence[Doc]) -> list[NDArray[Any]]:
        """Return one (tokens, width) array for each doc."""
        keys = [self._key(doc) for doc in docs]
        with closing(sqlite3.connect(self.path)) as db, db:
            select = "SELECT vectors FROM kept WHERE text = ?"
            rows = {key: db.execute(select, (key,)).fetchone() for key in keys}
            found = {key: row[0] for key, row in rows.items() if row}
            new = {key: doc for key, doc in zip(keys, docs, strict=True) if key not in found}
            if new:
                vectors = self.ask(list(new.values()))
                asked = [to_numpy(one).astype(np.float16).tobytes() for one in vectors]
                found |= dict(zip(new, asked, strict=True))
                rows_new = [(key, found[key]) for key in new]
                db.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?)", rows_new)
        flat = [np.frombuffer(found[key], np.float16) for key in keys]
        return [one.reshape(len(doc), -1) for one, doc in zip(flat, docs, strict=True)]

    def _key(self, doc: Doc) -> bytes:
        given: Any = [self.name, words_of(doc), doc.to_array("SPACY").tolist()]
        return hashlib.sha256(json.dumps(given).encode()).digest()


def all_words(docs: Sequence[Doc], rng: np.random.Generator) -> tuple[list[list[str]], Hidden]:
    """Hide nothing and look at all words."""
    words = [words_of(doc) for doc in docs]
    return words, np.ones(sum(map(len, words)), dtype=bool)


def teacher_targets(
    ask: Ask, docs: Sequence[Doc], seen: list[list[str]], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return (rows, width) vectors of a teacher."""
    return np.concatenate([to_numpy(one) for one in ask(list(docs))]).astype("f")[rows]
