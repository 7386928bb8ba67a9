"""What the component leaves on a doc, and how to read it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
from spacy.tokens import Doc, Span
from thinc.api import get_array_module, reduce_mean, to_numpy
from thinc.types import Floats2d, FloatsXd, Ragged

from ..flow.pooling import pool
from ..flow.wordpieces import Wordpieces

AnnotationSetter = Callable[[Sequence[Doc], "FullTransformerBatch"], None]


def _layer(rows: dict[int, Floats2d], n_layers: int, layer: int) -> Floats2d:
    index = layer if layer >= 0 else n_layers + 1 + layer
    if index not in rows:
        kept = ", ".join(str(i) for i in sorted(rows))
        raise ValueError(
            f"Layer {layer} of {n_layers} was not kept; kept: {kept}. Ask for it on the model "
            "([components.transformer.model] layers) or on a listener (layer)."
        )
    return rows[index]


@dataclass(eq=False)
class TransformerData:
    """The transformer's output for one doc.

    Attributes:
        wordpieces: The doc's wordpieces, span after span.
        rows: Layer number -> (wordpieces, width) hidden states, a view of the batch's array.
        row_align: For each token the numbers of its rows.
        n_layers: Layers of the model, so that -1 finds the last.
    """

    wordpieces: Wordpieces
    rows: dict[int, Floats2d]
    row_align: Ragged
    n_layers: int

    @classmethod
    def empty(cls) -> Self:
        """Return the data of a doc that nothing was computed for."""
        none: Any = np.zeros(0, dtype="int64")
        rows: Any = np.zeros((0, 0), dtype="float32")
        pieces = Wordpieces(none, none.reshape(0, 2), none, none)
        return cls(pieces, {0: rows}, Ragged(none, none), 0)

    def layer(self, layer: int = -1) -> Floats2d:
        """Return the hidden states of a layer, (wordpieces, width)."""
        return _layer(self.rows, self.n_layers, layer)

    @property
    def width(self) -> int:
        """Numbers a hidden state."""
        return next(iter(self.rows.values())).shape[1]

    @property
    def tensors(self) -> list[FloatsXd]:
        """The kept layers, lowest first, each (spans, longest span, width), zero-filled."""
        return [self._padded(self.rows[layer]) for layer in sorted(self.rows)]

    @property
    def last_hidden_state(self) -> FloatsXd:
        """The last layer as (spans, longest span, width)."""
        return self._padded(self.layer(-1))

    @property
    def align(self) -> Ragged:
        """For each token its positions in ``tensors[-1].reshape((-1, width))``."""
        return Ragged(self._positions[self.row_align.dataXd], self.row_align.lengths)

    @cached_property
    def _positions(self) -> Any:
        """Where each row lies in a padded block."""
        lengths = self.wordpieces.lengths
        longest = int(lengths.max(initial=0))
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return np.repeat(np.arange(len(lengths)) * longest, lengths) + within

    def _padded(self, rows: Floats2d) -> FloatsXd:
        lengths = self.wordpieces.lengths
        shape = (len(lengths), int(lengths.max(initial=0)), rows.shape[1])
        if len(rows) == shape[0] * shape[1]:
            return cast(FloatsXd, rows.reshape(shape))
        padded = get_array_module(rows).zeros((shape[0] * shape[1], shape[2]), dtype="float32")
        padded[self._positions] = rows
        return cast(FloatsXd, padded.reshape(shape))


@dataclass(eq=False)
class FullTransformerBatch:
    """The transformer's output for a batch of docs.

    Attributes:
        spans: The spans that were read, for each doc.
        wordpieces: Their wordpieces, span after span.
        rows: Layer number -> (wordpieces, width) hidden states.
        align: For each token of all docs the numbers of its rows.
        n_layers: Layers of the model, so that -1 finds the last.
    """

    spans: list[list[Span]]
    wordpieces: Wordpieces
    rows: dict[int, Floats2d]
    align: Ragged
    n_layers: int
    n_tokens: list[int] = field(default_factory=list)

    def layer_index(self, layer: int) -> int:
        """Turn -1, -2, … into layer numbers counted from the embeddings' output, 0."""
        return layer if layer >= 0 else self.n_layers + 1 + layer

    def layer(self, layer: int = -1) -> Floats2d:
        """Return the hidden states of a layer, (wordpieces, width)."""
        return _layer(self.rows, self.n_layers, layer)

    @cached_property
    def doc_data(self) -> list[TransformerData]:
        """Each doc's share, as views."""
        data = []
        pieces, align = self.wordpieces, self.align
        piece_ends = np.concatenate([[0], np.cumsum(pieces.lengths)])
        align_ends = np.concatenate([[0], np.cumsum(to_numpy(align.lengths))])
        span = token = 0
        for doc_spans, n_tokens in zip(self.spans, self.n_tokens, strict=True):
            first, last = piece_ends[span], piece_ends[span + len(doc_spans)]
            tokens = align.lengths[token : token + n_tokens]
            indices = align.dataXd[align_ends[token] : align_ends[token + n_tokens]]
            own = slice(span, span + len(doc_spans))
            data.append(
                TransformerData(
                    Wordpieces(
                        pieces.ids[first:last],
                        pieces.offsets[first:last],
                        pieces.lengths[own],
                        pieces.truncated[own],
                    ),
                    {layer: rows[first:last] for layer, rows in self.rows.items()},
                    Ragged(indices - first, tokens),
                    self.n_layers,
                )
            )
            span += len(doc_spans)
            token += n_tokens
        return data


def null_annotation_setter(docs: Sequence[Doc], trf_data: FullTransformerBatch) -> None:
    """Set nothing beyond `doc._.trf_data`."""


def install_extension() -> None:
    """Make sure that docs have the attribute `doc._.trf_data`."""
    if not Doc.has_extension("trf_data"):
        Doc.set_extension("trf_data", default=None)


def token_vectors(doc: Doc, layer: int = -1) -> Floats2d:
    """Return one vector a token: the mean of the token's wordpiece rows.

    Args:
        doc: A doc that a transformer component has processed.
        layer: 0 is the embeddings' output, -1 the last layer; it must have been kept.

    Returns:
        float32 (tokens, width) in main memory; zeros where a token has no wordpiece.

    Raises:
        ValueError: the doc has no transformer output, or the layer was not kept.
    """
    data = doc._.trf_data if Doc.has_extension("trf_data") else None
    if data is None:
        raise ValueError(
            f"token_vectors expected a doc with transformer output, but {doc.text[:40]!r} has "
            "none. Process it with a pipeline that has a transformer component."
        )
    if not len(doc):
        return cast(Floats2d, np.zeros((0, data.width), dtype="float32"))
    vectors, _ = pool(reduce_mean(), data.layer(layer), data.row_align, is_train=False)
    return cast(Floats2d, to_numpy(vectors))
