"""What the component leaves on a doc: the setters, the storage of `trf_data`, token vectors."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, cast, get_args

import numpy as np
from spacy.tokens import Doc
from thinc.api import reduce_mean, to_numpy
from thinc.types import Floats2d

from ..flow.pooling import pool
from .data import FullTransformerBatch, TransformerData

AnnotationSetter = Callable[[Sequence[Doc], FullTransformerBatch], None]
Storage = Literal["keep", "cpu", "last", "none"]


def install_extension() -> None:
    """Make sure that docs have the attribute `doc._.trf_data`."""
    if not Doc.has_extension("trf_data"):
        Doc.set_extension("trf_data", default=None)


def checked_storage(storage: str) -> Storage:
    """Return a storage policy.

    Raises:
        ValueError: there is none of that name.
    """
    if storage not in get_args(Storage):
        raise ValueError(
            f"storage expected one of {', '.join(get_args(Storage))}, got {storage!r}: 'keep' "
            "leaves trf_data on its device, 'cpu' copies it to main memory, 'last' keeps the last "
            "layer alone, 'none' drops it once the listeners have read it."
        )
    return cast(Storage, storage)


def store(
    docs: Iterable[Doc],
    data: Iterable[TransformerData],
    storage: Storage,
    readers: int,
    source: str = "",
) -> None:
    """Leave each doc's share on `doc._.trf_data`.

    Args:
        docs: The docs of a batch.
        data: Their shares, in the same order.
        storage: ``"none"`` drops a share after `readers` listeners have read it.
        readers: How many listeners will read it.
        source: The component's name; what others of the pipeline left stays in ``.others``.
    """
    for doc, one in zip(docs, data, strict=True):
        if storage == "cpu":
            one = one.on_cpu()
        elif storage == "last":
            one = one.only_last()
        elif storage == "none":
            # Listeners are not asked about empty docs. A doc that comes twice is read twice.
            pending = _unread(doc, source)
            one.readers = readers + pending if len(doc) else 0
        before = doc._.trf_data
        if isinstance(before, TransformerData):  # spacy-transformers leaves one of its own there
            others = {**before.others, before.source: before}
            one.others = {name: its for name, its in others.items() if name not in ("", source)}
            before.others = {}
        one.source = source
        doc._.trf_data = one.without(one) if one.readers == 0 else one


def _unread(doc: Doc, source: str) -> int:
    """Return how many listeners have yet to read what a component left on a doc before."""
    before = doc._.trf_data
    one = before.of(source) if isinstance(before, TransformerData) else None
    return one.readers or 0 if one is not None and one.source == source else 0


def null_annotation_setter(docs: Sequence[Doc], trf_data: FullTransformerBatch) -> None:
    """Set nothing beyond `doc._.trf_data`."""


def tensor_setter(layer: int = -1) -> AnnotationSetter:
    """Make a setter that leaves token vectors (tokens, width) in `doc.tensor`."""

    def set_tensor(docs: Sequence[Doc], trf_data: FullTransformerBatch) -> None:
        for doc, data in zip(docs, trf_data.doc_data, strict=True):
            doc.tensor = cast(Any, _vectors(data, layer))

    return set_tensor


def vector_setter(layer: int = -1) -> AnnotationSetter:
    """Make a setter that gives docs, spans and tokens vectors, so that `similarity` compares them.

    A doc's or a span's vector is the mean of its tokens' vectors; tokens without a wordpiece do
    not count.
    """

    def set_vector(docs: Sequence[Doc], trf_data: FullTransformerBatch) -> None:
        for doc, data in zip(docs, trf_data.doc_data, strict=True):
            doc.tensor = cast(Any, _vectors(data, layer))
            doc.user_hooks["vector"] = lambda doc: _mean(doc.tensor)
            doc.user_hooks["has_vector"] = lambda doc: bool(len(doc))
            doc.user_span_hooks["vector"] = lambda s: _mean(s.doc.tensor[s.start : s.end])
            doc.user_span_hooks["has_vector"] = lambda span: bool(len(span))
            doc.user_token_hooks["vector"] = lambda token: token.doc.tensor[token.i]
            doc.user_token_hooks["has_vector"] = lambda token: True
            for hooks in (doc.user_hooks, doc.user_span_hooks, doc.user_token_hooks):
                hooks["similarity"] = _cosine

    return set_vector


def layers_setter(layers: Sequence[int], name: str = "trf_layers") -> AnnotationSetter:
    """Make a setter that leaves chosen layers' token vectors in `doc._`.

    Args:
        layers: Numbers of layers that the model keeps; 0 is the embeddings' output.
        name: The extension attribute: a dict of layer -> (tokens, width).
    """

    def set_layers(docs: Sequence[Doc], trf_data: FullTransformerBatch) -> None:
        if not Doc.has_extension(name):
            Doc.set_extension(name, default=None)
        for doc, data in zip(docs, trf_data.doc_data, strict=True):
            doc._.set(name, {layer: _vectors(data, layer) for layer in layers})

    return set_layers


def attentions_setter(name: str = "trf_attentions") -> AnnotationSetter:
    """Make a setter that leaves each doc's attentions in `doc._`.

    The model must be asked for them (`attentions = true`). The attribute holds, for each span,
    (layers, heads, wordpieces, wordpieces).
    """

    def set_attentions(docs: Sequence[Doc], trf_data: FullTransformerBatch) -> None:
        if not Doc.has_extension(name):
            Doc.set_extension(name, default=None)
        if trf_data.attentions is None:
            raise ValueError(
                "The attentions setter expected attentions, but the model keeps none. Set "
                "[components.transformer.model] attentions = true."
            )
        for doc, data in zip(docs, trf_data.doc_data, strict=True):
            doc._.set(name, [to_numpy(one) for one in data.attentions or []])

    return set_attentions


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
    alignment = data.align_for(doc)
    if alignment is None:
        raise ValueError(
            f"token_vectors expected the {len(data.row_align.lengths)} tokens that the transformer "
            f"{data.source!r} ran on, but {doc.text[:40]!r} now has {len(doc)}, which are others. "
            "Run the transformer again, or change tokens before it: nlp.add_pipe(…, before=…)."
        )
    vectors, _ = pool(reduce_mean(), data.layer(layer), alignment, is_train=False)
    return cast(Floats2d, to_numpy(vectors))


def _vectors(data: TransformerData, layer: int) -> Floats2d:
    vectors, _ = pool(reduce_mean(), data.layer(layer), data.row_align, is_train=False)
    return cast(Floats2d, to_numpy(vectors))


def _mean(vectors: Any) -> Any:
    filled = vectors[np.any(vectors != 0, axis=1)]
    return filled.mean(0) if len(filled) else vectors.sum(0)


def _cosine(one: Doc, other: Doc) -> float:
    a, b = cast(Any, one.vector), cast(Any, other.vector)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else 0.0
