"""What the component leaves on a doc: the setters, the storage of `trf_data`, token vectors."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from spacy.tokens import Doc, Span, Token
from thinc.api import reduce_mean, to_numpy
from thinc.types import Floats2d, Ragged

from ..flow.alignment import pool
from .data import FullTransformerBatch, TransformerData

AnnotationSetter = Callable[[Sequence[Doc], FullTransformerBatch], None]
Storage = Literal["keep", "cpu", "last", "none"]


def checked_storage(storage: str) -> Storage:
    """Return a storage policy.

    Raises:
        ValueError: there is none of that name.
    """
    if storage not in get_args(Storage):
        raise ValueError(
            f"storage expected one of {', '.join(get_args(Storage))}, got {storage!r}: 'keep' "
            "leaves trf_data on its device, where one kept doc holds its whole batch, 'cpu' copies "
            "it to main memory, 'last' copies the last layer alone, 'none' drops it once the "
            "listeners have read it."
        )
    return cast(Storage, storage)


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
    """
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
    alignment = data.align_for(doc)
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
    filled = rows[np.any(rows != 0, axis=1)]
    return filled.mean(0) if len(filled) else rows.sum(0)


def _cosine(one: Doc | Span | Token, other: Any) -> float:
    a, b = cast(Any, one.vector), other.vector
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else 0.0
