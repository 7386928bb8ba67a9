"""What is pretrained, as a function from words to the vectors of chosen words.

Every body that maps Docs to one array a Doc works. One whose embedding looks at single words and
whose encoder is a window over them is computed faster: each different word of a batch is embedded
once, and the windows only where a loss looks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from trfnb.pretraining.windows import Rows, WindowEncoder, encode_rows

Backprop = Callable[[Floats2d], None]


class Body(Protocol):
    """Vectors of chosen words of a batch, and what takes their gradient."""

    def __call__(
        self, docs: Sequence[Doc], words: Sequence[Sequence[str]], rows: Rows, is_train: bool
    ) -> tuple[Floats2d, Backprop]:
        """Return (rows, width).

        Args:
            docs: Give vocabulary and spaces.
            words: What to read in place of each doc's words.
            rows: Sorted positions in all words, one doc after another.
            is_train: Whether dropout applies.
        """
        ...


@dataclass(frozen=True)
class PlainBody:
    """Any body: computed everywhere, read at the rows."""

    model: Model[list[Doc], list[Floats2d]]

    def __call__(
        self, docs: Sequence[Doc], words: Sequence[Sequence[str]], rows: Rows, is_train: bool
    ) -> tuple[Floats2d, Backprop]:
        """Compute all vectors and pick."""
        read = [reworded(doc, one) for doc, one in zip(docs, words, strict=True)]
        vectors, backprop = self.model(read, is_train)
        ops = self.model.ops
        flat: Any = ops.flatten(vectors)
        lengths = ops.asarray1i([len(doc) for doc in read])

        def backprop_rows(d_rows: Floats2d) -> None:
            d_flat: Any = ops.alloc2f(*flat.shape)
            d_flat[rows] = d_rows
            backprop(ops.unflatten(d_flat, lengths))

        return flat[rows], backprop_rows


@dataclass(frozen=True)
class WindowBody:
    """Embeds each different word once, and encodes windows around the rows alone."""

    embed: Model[list[Doc], list[Floats2d]]
    encoder: WindowEncoder

    def __call__(
        self, docs: Sequence[Doc], words: Sequence[Sequence[str]], rows: Rows, is_train: bool
    ) -> tuple[Floats2d, Backprop]:
        """Compute what the rows depend on."""
        pad, number = self.encoder.pad, dict[str, int]()
        places, which, at = [], [], pad
        for one in words:
            which.extend([number.setdefault(word, len(number)) for word in one])
            places.append(np.arange(at, at + len(one)))
            at += len(one) + pad
        place = np.concatenate(places) if places else np.zeros(0, dtype=np.int64)
        types = np.array(which, dtype=np.int64)
        unique = [Doc(doc.vocab, words=list(number)) for doc in docs[:1]]
        tables, backprop_table = self.embed(unique, is_train)
        table: Any = tables[0]
        X: Any = np.zeros((at, table.shape[1]), dtype="f")
        X[place] = table[types]
        vectors, backprop_encoder = encode_rows(self.encoder, X, place[rows], is_train)

        def backprop(d_rows: Floats2d) -> None:
            d_table: Any = self.embed.ops.alloc2f(*table.shape)
            d_words: Any = backprop_encoder(d_rows)
            ops: Any = self.embed.ops
            d_each = np.ascontiguousarray(d_words[place])
            ops.scatter_add(d_table, types.astype("i"), d_each)
            backprop_table([d_table])

        return vectors, backprop


def reworded(doc: Doc, words: Sequence[str]) -> Doc:
    """Return a Doc with other words and the same spaces."""
    return Doc(doc.vocab, words=list(words), spaces=[bool(token.whitespace_) for token in doc])
