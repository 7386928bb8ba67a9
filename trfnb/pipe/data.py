"""The transformer's output: for a batch, and each doc's share of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
import srsly
from spacy.tokens import Doc, Span
from thinc.api import get_array_module, to_numpy
from thinc.types import Floats2d, Floats3d, FloatsXd, Ragged

from ..flow.tokens import Tokens, realigned
from ..flow.wordpieces import Wordpieces


class _Layers:
    """What a batch and a doc have in common: hidden states by layer number."""

    rows: dict[int, Floats2d]
    n_layers: int

    def layer_index(self, layer: int) -> int:
        """Turn -1, -2, … into layer numbers counted from the embeddings' output, 0."""
        return layer if layer >= 0 else self.n_layers + 1 + layer

    def layer(self, layer: int = -1) -> Floats2d:
        """Return the hidden states of a layer, (wordpieces, width).

        Raises:
            ValueError: the layer was not kept.
        """
        index = self.layer_index(layer)
        if index not in self.rows:
            kept = ", ".join(str(i) for i in sorted(self.rows))
            raise ValueError(
                f"Layer {layer} of {self.n_layers} was not kept; kept: {kept or 'none'}. Ask for "
                "it on the model ([components.transformer.model] layers) or on a listener (layer)."
            )
        return self.rows[index]


@dataclass(eq=False)
class TransformerData(_Layers):
    """The transformer's output for one doc.

    Attributes:
        wordpieces: The doc's wordpieces, span after span.
        rows: Layer number -> (wordpieces, width) hidden states, a view of the batch's array.
        row_align: For each token the numbers of its rows.
        n_layers: Layers of the model, so that -1 finds the last.
        attentions: For each span (layers, heads, wordpieces, wordpieces), if asked for.
        readers: Listeners that have yet to read this; None where it is kept after them.
        source: Name of the component that computed this; empty where none did.
        others: What other transformers of the pipeline computed, by name.
        computed_for: The tokens that this was computed for (see `flow.tokens`), where known.
    """

    wordpieces: Wordpieces
    rows: dict[int, Floats2d]
    row_align: Ragged
    n_layers: int
    attentions: list[Floats3d] | None = None
    readers: int | None = None
    source: str = ""
    others: "dict[str, TransformerData]" = field(default_factory=dict)
    computed_for: Tokens | None = None

    def align_for(self, doc: Doc) -> Ragged | None:
        """Return the rows of each token that a doc has now; None where they cannot be told.

        Tokens that were merged since have the rows of all their parts.
        """
        return realigned(self.row_align, self.computed_for, doc)

    def of(self, component: str) -> "TransformerData | None":
        """Return what a component computed; ``"*"`` stands for the last that did."""
        if component in ("*", self.source) or not self.source:
            return self
        return self.others.get(component)

    def without(self, dropped: "TransformerData") -> "TransformerData | None":
        """Return what a doc keeps once one component's output is dropped."""
        if self is not dropped:
            self.others = {name: one for name, one in self.others.items() if one is not dropped}
            return self
        if not self.others:
            return None
        *earlier, (_, last) = self.others.items()
        last.others = dict(earlier)
        return last

    @classmethod
    def empty(cls) -> Self:
        """Return the data of a doc that nothing was computed for."""
        none: Any = np.zeros(0, dtype="int64")
        rows: Any = np.zeros((0, 0), dtype="float32")
        pieces = Wordpieces(none, none.reshape(0, 2), none, none)
        return cls(pieces, {0: rows}, Ragged(none, none), 0)

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
    def model_output(self) -> Any:
        """The last layer as HuggingFace's `BaseModelOutput`."""
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=self.last_hidden_state)  # type: ignore[arg-type]

    @property
    def align(self) -> Ragged:
        """For each token its positions in ``tensors[-1].reshape((-1, width))``."""
        positions = get_array_module(self.row_align.dataXd).asarray(self._positions)
        return Ragged(positions[self.row_align.dataXd], self.row_align.lengths)

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

    def on_cpu(self) -> "TransformerData":
        """Return a copy in main memory that holds on to nothing else of its batch."""
        return TransformerData(
            self.wordpieces,
            {layer: cast(Floats2d, np.array(to_numpy(rows))) for layer, rows in self.rows.items()},
            Ragged(to_numpy(self.row_align.dataXd), to_numpy(self.row_align.lengths)),
            self.n_layers,
            [to_numpy(one) for one in self.attentions] if self.attentions else None,
            self.readers,
            computed_for=self.computed_for,
        )

    def only_last(self) -> "TransformerData":
        """Return the same without the lower layers."""
        last = {self.n_layers: self.layer(-1)}
        return TransformerData(
            self.wordpieces,
            last,
            self.row_align,
            self.n_layers,
            None,
            self.readers,
            computed_for=self.computed_for,
        )


@dataclass(eq=False)
class FullTransformerBatch(_Layers):
    """The transformer's output for a batch of docs.

    Attributes:
        spans: The spans that were read, for each doc.
        wordpieces: Their wordpieces, span after span.
        rows: Layer number -> (wordpieces, width) hidden states.
        align: For each token of all docs the numbers of its rows.
        n_layers: Layers of the model, so that -1 finds the last.
        n_tokens: Tokens of each doc.
        attentions: For each span (layers, heads, wordpieces, wordpieces), if asked for.
    """

    spans: list[list[Span]]
    wordpieces: Wordpieces
    rows: dict[int, Floats2d]
    align: Ragged
    n_layers: int
    n_tokens: list[int] = field(default_factory=list)
    attentions: list[Floats3d] | None = None

    @classmethod
    def of_vectors(cls, docs: Sequence[Doc], vectors: Sequence[Floats2d]) -> Self:
        """Make the output of a custom model that has one vector a token and no wordpieces.

        Args:
            docs: The batch.
            vectors: For each doc (tokens, width).
        """
        lengths = np.asarray([len(doc) for doc in docs], dtype="int64")
        shapes = [getattr(one, "shape", None) for one in vectors]
        widths = {shape[1] for shape in shapes if shape is not None and len(shape) == 2}
        if [s[:1] if s else None for s in shapes] != [(n,) for n in lengths] or len(widths) > 1:
            raise ValueError(
                f"of_vectors expected for each doc an array (tokens, width), with tokens = "
                f"{lengths.tolist()} and one width for all, got the shapes {shapes}."
            )
        xp = get_array_module(vectors[0] if len(vectors) else lengths)
        n = int(lengths.sum())
        starts = [token.idx for doc in docs for token in doc]
        ends = [token.idx + len(token) for doc in docs for token in doc]
        offsets = np.asarray([starts, ends], dtype="int64").reshape(2, -1).T
        pieces = Wordpieces(np.zeros(n, "int64"), offsets, lengths, np.zeros_like(lengths))
        align = Ragged(xp.arange(n, dtype="int32"), xp.ones(n, dtype="int32"))
        rows = {0: xp.concatenate(list(vectors)) if len(vectors) else xp.zeros((0, 0), "float32")}
        return cls([[doc[:]] for doc in docs], pieces, rows, align, 0, lengths.tolist())

    @cached_property
    def doc_data(self) -> list[TransformerData]:
        """Each doc's share, as views."""
        data = []
        pieces, align = self.wordpieces, self.align
        piece_ends = np.concatenate([[0], np.cumsum(pieces.lengths)])
        align_ends = np.concatenate([[0], np.cumsum(to_numpy(align.lengths))])
        span = token = 0
        for doc_spans, n_tokens in zip(self.spans, self.n_tokens, strict=True):
            until = span + len(doc_spans)
            first, last = piece_ends[span], piece_ends[until]
            tokens = align.lengths[token : token + n_tokens]
            indices = align.dataXd[align_ends[token] : align_ends[token + n_tokens]]
            data.append(
                TransformerData(
                    pieces.part(span, until),
                    {layer: rows[first:last] for layer, rows in self.rows.items()},
                    Ragged(indices - first, tokens),
                    self.n_layers,
                    self.attentions[span:until] if self.attentions else None,
                )
            )
            span, token = until, token + n_tokens
        return data


@srsly.msgpack_encoders("trfnb_transformer_data")
def _encode(obj: Any, chain: Callable[[Any], Any] | None = None) -> Any:
    """Write a doc's output into `Doc.to_bytes`, e.g. on its way between processes."""
    if isinstance(obj, TransformerData):
        data, pieces = obj.on_cpu(), obj.wordpieces
        names = ("ids", "offsets", "lengths", "truncated")
        return {
            "__trfnb_transformer_data__": {
                **{name: getattr(pieces, name) for name in names},
                "strings": [text for one in pieces.strings for text in one],
                "layers": sorted(data.rows),
                "rows": [data.rows[layer] for layer in sorted(data.rows)],
                "align": [data.row_align.dataXd, data.row_align.lengths],
                "n_layers": data.n_layers,
                "readers": data.readers,
                "attentions": data.attentions,
                "source": obj.source,
                "others": obj.others,
                "computed_for": obj.computed_for,
            }
        }
    return obj if chain is None else chain(obj)


@srsly.msgpack_decoders("trfnb_transformer_data")
def _decode(obj: Any, chain: Callable[[Any], Any] | None = None) -> Any:
    if "__trfnb_transformer_data__" in obj:
        saved = obj["__trfnb_transformer_data__"]
        strings = list(saved["strings"])
        # Copies, because what msgpack returns cannot be written to, which Thinc's kernels want.
        ids, offsets = np.array(saved["ids"]), np.array(saved["offsets"])
        lengths, truncated = np.array(saved["lengths"]), np.array(saved["truncated"])
        layers = zip(saved["layers"], saved["rows"], strict=True)
        return TransformerData(
            Wordpieces(ids, offsets, lengths, truncated, lambda ids: strings),
            {layer: cast(Floats2d, np.array(rows)) for layer, rows in layers},
            Ragged(*(cast(Any, np.array(one)) for one in saved["align"])),
            saved["n_layers"],
            saved.get("attentions"),
            saved["readers"],
            saved.get("source", ""),
            saved.get("others", {}),
            saved.get("computed_for"),
        )
    return obj if chain is None else chain(obj)
