"""The transformer's output: for a batch, each doc's share of it, and what of it stays on docs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self, cast, get_args

import numpy as np
import srsly
from spacy.tokens import Doc, Span, Token
from thinc.api import get_array_module, reduce_mean, to_numpy
from thinc.types import Floats2d, Floats4d, FloatsXd, Ragged

from ..flow.alignment import Tokens, pool, realigned, tokens_of
from ..flow.encoder import layer_number
from ..flow.wordpieces import Wordpieces

Storage = Literal["keep", "cpu", "last", "none"]
_KEY = "__trfnb_transformer_data__"


class ModelOutput(NamedTuple):
    """Hidden states in blocks, under HuggingFace's names.

    Attributes:
        last_hidden_state: (spans, longest span, width).
        hidden_states: The same of every layer, where all were kept.
        attentions: For each layer (spans, heads, longest span, longest span), if asked for.
    """

    last_hidden_state: FloatsXd
    hidden_states: tuple[FloatsXd, ...] | None
    attentions: tuple[FloatsXd, ...] | None

    @property
    def pooler_output(self) -> Any:
        """Not there; the error says what to write."""
        raise AttributeError(
            "model_output expected to be asked for last_hidden_state, got pooler_output, which "
            "is not computed. Apply the model's own: nlp.get_pipe('transformer').model"
            ".transformer.pooler(torch.from_numpy(doc._.trf_data.last_hidden_state)), or take "
            "the mean of trfnb.token_vectors(doc)."
        )


@dataclass(eq=False, kw_only=True)
class _Output:
    """What a batch and a doc have in common: hidden states by layer number."""

    wordpieces: Wordpieces
    rows: dict[int, Floats2d]
    n_layers: int
    attentions: list[Floats4d] | None = None

    def layer(self, layer: int = -1) -> Floats2d:
        """Return the hidden states of a layer, (wordpieces, width).

        Raises:
            ValueError: the layer was not kept, or there is no such layer.
        """
        index = layer_number(layer, self.n_layers)
        if index not in self.rows:
            raise ValueError(
                f"Layer {layer} of {self.n_layers} was not kept; kept: {sorted(self.rows)}. Ask "
                "for it on the model ([components.transformer.model] layers) or on a listener "
                "(layer)."
            )
        return self.rows[index]

    @property
    def width(self) -> int:
        """Numbers of a hidden state."""
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
    def tokens(self) -> dict[str, Any]:
        """The wordpieces as spacy-transformers names them: texts, ids, attention mask."""
        return {
            "input_texts": self.wordpieces.strings,
            "input_ids": self.wordpieces.input_ids,
            "attention_mask": self.wordpieces.attention_mask,
        }

    @property
    def model_output(self) -> ModelOutput:
        """The last layer; all layers and attentions, if kept."""
        every, attentions = len(self.rows) == self.n_layers + 1, None
        if self.attentions:
            xp, longest = get_array_module(self.attentions[0]), self.wordpieces.lengths.max()
            gaps = [(0, int(longest) - one.shape[-1]) for one in self.attentions]
            pairs = zip(self.attentions, gaps, strict=True)
            padded = [xp.pad(one, ((0, 0), (0, 0), gap, gap)) for one, gap in pairs]
            attentions = tuple(xp.stack(padded, axis=1))
        return ModelOutput(
            self.last_hidden_state, tuple(self.tensors) if every else None, attentions
        )

    def _padded(self, rows: Floats2d) -> FloatsXd:
        mask, xp = self.wordpieces.attention_mask, get_array_module(rows)
        padded = xp.zeros((*mask.shape, rows.shape[1]), dtype="float32")
        padded[xp.asarray(mask)] = rows
        return padded


@dataclass(eq=False, kw_only=True)
class TransformerData(_Output):
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
        computed_for: The tokens that this was computed for (see `flow.alignment`).
    """

    row_align: Ragged
    computed_for: Tokens
    readers: int | None = None
    source: str = ""
    others: "dict[str, TransformerData]" = field(default_factory=dict)

    def of(self, component: str) -> "TransformerData | None":
        """Return what a component computed; ``"*"`` stands for the last that did."""
        is_own = component in ("*", self.source) or not self.source
        return self if is_own else self.others.get(component)

    def without(self, dropped: "TransformerData") -> "TransformerData | None":
        """Return what a doc keeps once one component's output is dropped."""
        kept = [one for one in (*self.others.values(), self) if one is not dropped]
        if not kept:
            return None
        kept[-1].others = {one.source: one for one in kept[:-1]}
        return kept[-1]

    @property
    def align(self) -> Ragged:
        """For each token its positions in ``tensors[-1].reshape((-1, width))``."""
        positions = np.flatnonzero(self.wordpieces.attention_mask)
        xp = get_array_module(self.row_align.dataXd)
        return Ragged(xp.asarray(positions)[self.row_align.dataXd], self.row_align.lengths)

    def on_cpu(self) -> "TransformerData":
        """Return a copy in main memory that holds on to nothing else of its batch."""
        attentions = self.attentions and [cast(Floats4d, to_numpy(one)) for one in self.attentions]
        return self._copied(self.rows, attentions, lambda array: np.array(to_numpy(array)))

    def only_last(self) -> "TransformerData":
        """Return a copy of the last layer alone, which holds on to nothing else of its batch."""
        return self._copied({self.n_layers: self.layer(-1)}, None, lambda array: array.copy())

    def _copied(
        self,
        rows: dict[int, Floats2d],
        attentions: list[Floats4d] | None,
        copy: Callable[[Any], Any],
    ) -> "TransformerData":
        return replace(
            self,
            wordpieces=self.wordpieces.copy(),
            rows={layer: copy(one) for layer, one in rows.items()},
            row_align=Ragged(copy(self.row_align.dataXd), copy(self.row_align.lengths)),
            attentions=attentions,
        )


@dataclass(eq=False, kw_only=True)
class FullTransformerBatch(_Output):
    """The transformer's output for a batch of docs.

    Attributes:
        spans: The spans that were read, for each doc.
        wordpieces: Their wordpieces, span after span.
        rows: Layer number -> (wordpieces, width) hidden states.
        align: For each token of all docs the numbers of its rows.
        n_layers: Layers of the model, so that -1 finds the last.
        computed_for: Each doc's tokens (see `flow.alignment`).
        attentions: For each span (layers, heads, wordpieces, wordpieces), if asked for.
    """

    spans: list[list[Span]]
    align: Ragged
    computed_for: list[Tokens]

    @classmethod
    def of_vectors(cls, docs: Sequence[Doc], vectors: Sequence[Floats2d]) -> Self:
        """Make the output of a custom model that has one vector a token and no wordpieces.

        Args:
            docs: The batch.
            vectors: For each doc (tokens, width).
        """
        lengths = np.asarray([len(doc) for doc in docs], dtype="int64")
        shapes = [np.shape(one) for one in vectors]
        expected = [(n, *shape[1:2]) for n, shape in zip(lengths, shapes, strict=False)]
        if len(shapes) != len(docs) or shapes != expected or len({s[1:] for s in shapes}) > 1:
            raise ValueError(
                f"of_vectors expected for each doc an array (tokens, width), with tokens = "
                f"{lengths.tolist()} and one width for all, got the shapes {shapes}."
            )
        xp = get_array_module(vectors[0] if shapes else lengths)
        n = int(lengths.sum())
        places = [(token.idx, token.idx + len(token)) for doc in docs for token in doc]
        offsets = np.asarray(places, dtype="int64").reshape(-1, 2)
        return cls(
            spans=[[doc[:]] for doc in docs],
            wordpieces=Wordpieces(np.zeros(n, "int64"), offsets, lengths, np.zeros_like(lengths)),
            rows={0: xp.concatenate([*vectors]) if shapes else xp.zeros((0, 0), "float32")},
            align=Ragged(xp.arange(n, dtype="int32"), xp.ones(n, dtype="int32")),
            n_layers=0,
            computed_for=[tokens_of(doc) for doc in docs],
        )

    @cached_property
    def doc_data(self) -> list[TransformerData]:
        """Each doc's share, as views."""
        data = []
        pieces, align = self.wordpieces, self.align
        piece_ends = np.concatenate([[0], np.cumsum(pieces.lengths)])
        align_ends = np.concatenate([[0], np.cumsum(to_numpy(align.lengths))])
        span = token = 0
        for doc_spans, tokens in zip(self.spans, self.computed_for, strict=True):
            until, end = span + len(doc_spans), token + len(tokens)
            first, last = piece_ends[span], piece_ends[until]
            indices = align.dataXd[align_ends[token] : align_ends[end]]
            data.append(
                TransformerData(
                    wordpieces=pieces.part(span, until),
                    rows={layer: rows[first:last] for layer, rows in self.rows.items()},
                    row_align=Ragged(indices - first, align.lengths[token:end]),
                    computed_for=tokens,
                    n_layers=self.n_layers,
                    attentions=self.attentions and self.attentions[span:until],
                )
            )
            span, token = until, end
        return data


# Called with each batch of docs and its output.
AnnotationSetter = Callable[[Sequence[Doc], FullTransformerBatch], None]


def store(
    docs: Iterable[Doc],
    data: Iterable[TransformerData],
    storage: Storage,
    readers: int,
    source: str,
) -> None:
    """Leave each doc's share on `doc._.trf_data`.

    Args:
        docs: The docs of a batch.
        data: Their shares, in the same order.
        storage: ``"keep"`` leaves views of the batch's arrays, so that one kept doc holds its whole
            batch; ``"cpu"`` and ``"last"`` copy; ``"none"`` drops a share after `readers` listeners
            have read it.
        readers: How many listeners will read it.
        source: The component's name; what others of the pipeline left stays in ``.others``.

    Raises:
        ValueError: there is no such storage policy.
    """
    if storage not in get_args(Storage):
        raise ValueError(
            f"storage expected one of {', '.join(get_args(Storage))}, got {storage!r}: 'keep' "
            "leaves trf_data on its device, where one kept doc holds its whole batch, 'cpu' copies "
            "it to main memory, 'last' copies the last layer alone, 'none' drops it once the "
            "listeners have read it."
        )
    for doc, one in zip(docs, data, strict=True):
        before, others = doc._.trf_data, {}
        if isinstance(before, TransformerData):  # spacy-transformers leaves one of its own there
            others = {**before.others, before.source: before}
            before.others = {}
        own = others.pop(source, None)
        if storage == "cpu":
            one = one.on_cpu()
        elif storage == "last":
            one = one.only_last()
        elif storage == "none":
            # Listeners are not asked about empty docs. A doc that comes twice is read twice.
            unread = 0 if own is None else own.readers or 0
            one.readers = readers + unread if len(doc) else 0
        one.source, one.others = source, others
        doc._.trf_data = one.without(one) if one.readers == 0 else one


def null_annotation_setter(docs: Sequence[Doc], trf_data: FullTransformerBatch) -> None:
    """Set nothing beyond `doc._.trf_data`."""


@dataclass(frozen=True)
class TensorSetter:
    """Leaves token vectors (tokens, width) of a layer in `doc.tensor`."""

    layer: int = -1

    def __call__(self, docs: Sequence[Doc], trf_data: FullTransformerBatch) -> None:
        """Set each doc's tensor."""
        for doc, data in zip(docs, trf_data.doc_data, strict=True):
            doc.tensor = cast(Any, _pooled(data, self.layer, data.row_align))


@dataclass(frozen=True)
class VectorSetter(TensorSetter):
    """Gives docs, spans and tokens vectors, so that `similarity` compares them.

    A doc's or a span's vector is the mean of its tokens' vectors; tokens without a wordpiece do
    not count.
    """

    def __call__(self, docs: Sequence[Doc], trf_data: FullTransformerBatch) -> None:
        """Set each doc's tensor, and the hooks that read it."""
        super().__call__(docs, trf_data)
        for doc in docs:
            for hooks in (doc.user_hooks, doc.user_span_hooks, doc.user_token_hooks):
                hooks |= {"vector": _vector, "has_vector": bool, "similarity": _cosine}


def token_vectors(doc: Doc, layer: int = -1) -> Floats2d:
    """Return one vector a token: the mean of the token's wordpiece rows.

    Args:
        doc: A doc that a transformer component has processed.
        layer: 0 is the embeddings' output, -1 the last layer; it must have been kept.

    Returns:
        float32 (tokens, width) in main memory; zeros where a token has no wordpiece.

    Raises:
        ValueError: the doc has no transformer output, its tokens were split or replaced since, or
            the layer was not kept.
    """
    data = doc._.trf_data if Doc.has_extension("trf_data") else None
    if data is None:
        raise ValueError(
            f"token_vectors expected a doc with transformer output, but {doc.text[:40]!r} has "
            "none. Process it with a pipeline that has a transformer component whose storage is "
            "not 'none'."
        )
    alignment = realigned(data.row_align, data.computed_for, doc)
    if alignment is None:
        raise ValueError(
            f"token_vectors expected the {len(data.row_align.lengths)} tokens that the transformer "
            f"{data.source!r} ran on, but {doc.text[:40]!r} now has {len(doc)}, which are others. "
            "Run the transformer again, or change tokens before it: nlp.add_pipe(…, before=…)."
        )
    return _pooled(data, layer, alignment)


def _pooled(data: TransformerData, layer: int, alignment: Ragged) -> Floats2d:
    vectors, _ = pool(reduce_mean(), data.layer(layer), alignment, is_train=False)
    return cast(Floats2d, to_numpy(vectors))


def _vector(one: Doc | Span | Token) -> Any:
    tensor: Any = one.tensor
    rows = tensor.reshape(-1, tensor.shape[-1])
    return rows.sum(0) / max(1, int(rows.any(axis=1).sum()))


def _cosine(one: Doc | Span | Token, other: Any) -> float:
    a, b = cast(Any, one.vector), other.vector
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else 0.0


@srsly.msgpack_encoders("trfnb_transformer_data")
def _encode(obj: Any, chain: Callable[[Any], Any] | None = None) -> Any:
    if isinstance(obj, TransformerData):
        own = obj.on_cpu()
        align = [own.row_align.dataXd, own.row_align.lengths]
        plain = {"wordpieces": own.wordpieces.__getstate__(), "row_align": align}
        return {_KEY: vars(own) | plain}
    return obj if chain is None else chain(obj)


@srsly.msgpack_decoders("trfnb_transformer_data")
def _decode(obj: Any, chain: Callable[[Any], Any] | None = None) -> Any:
    if _KEY in obj:
        # Copies, because what msgpack returns cannot be written to, which Thinc's kernels want.
        saved, pieces = dict(obj[_KEY]), obj[_KEY]["wordpieces"]
        arrays = {name: np.array(pieces[name]) for name in pieces.keys() - {"write"}}
        saved["wordpieces"] = Wordpieces(**arrays, write=list(pieces["write"]))
        saved["rows"] = {layer: np.array(rows) for layer, rows in saved["rows"].items()}
        saved["row_align"] = Ragged(*(cast(Any, np.array(one)) for one in saved["row_align"]))
        return TransformerData(**saved)
    return obj if chain is None else chain(obj)
