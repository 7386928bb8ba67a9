"""From Docs to rows of their vocabulary's static table, with a policy for words it lacks."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from spacy.attrs import ORTH
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from trfnb.vectors.checked import same_table
from trfnb.vectors.fingerprints import fingerprint
from trfnb.vectors.report import VectorsError
from trfnb.vectors.subwords import bucket_table, compose_from_buckets

Unknown = Literal["zeros", "mean", "lower", "learned", "subwords"]
UNKNOWN = ("zeros", "mean", "lower", "learned", "subwords")
Rows = list[Floats2d]
Embedding = Model[list[Doc], list[Floats2d]]
_SAMPLE = 20_000


def static_rows(
    unknown: Unknown = "zeros", *, buckets: int = 5000, minn: int = 3, maxn: int = 5
) -> Model[list[Doc], Rows]:
    """Look tokens up in ``doc.vocab.vectors``; no gradient reaches the table.

    The table's fingerprint is kept with the layer: used with another table it raises.

    Args:
        unknown: what a word without a vector gets: ``"zeros"``; the table's ``"mean"``; the vector
            of its ``"lower"``-cased form, else zeros; one vector ``"learned"`` for all of them; or
            a vector of its ``"subwords"``: the mean over its character n-grams of the vectors of
            known words with the same n-gram (Zhao, Mudgal and Liang, 2018, averaged, not learned).
        buckets: rows that n-grams are hashed to.
        minn: shortest n-gram in characters.
        maxn: longest n-gram in characters.

    Returns:
        A layer from Docs to one (tokens, table width) array each.
    """
    if unknown not in UNKNOWN:
        raise VectorsError(f"Expected unknown among {', '.join(UNKNOWN)}, got {unknown!r}.")
    params: dict[str, Any] = {}
    if unknown in ("mean", "learned"):
        params["unknown"] = None
    if unknown == "subwords":
        params["buckets"] = None
    return Model(
        "static_rows",
        _forward_checked(),
        init=_init,
        params=params,
        dims={"nO": None},
        attrs={
            "unknown": unknown,
            "fingerprint": "",
            "buckets": buckets,
            "minn": minn,
            "maxn": maxn,
        },
    )


def _forward_checked() -> Callable[..., Any]:
    check = same_table()

    def forward(
        model: Model[list[Doc], Rows], docs: list[Doc], is_train: bool
    ) -> tuple[Rows, Callable[[Rows], list[Doc]]]:
        check(model, docs)
        return _forward(model, docs)

    return forward


def _forward(
    model: Model[list[Doc], Rows], docs: list[Doc]
) -> tuple[Rows, Callable[[Rows], list[Doc]]]:
    ops: Any = model.ops
    lengths = [len(doc) for doc in docs]
    if not sum(lengths):
        width = model.get_dim("nO")
        return [ops.alloc2f(0, width) for _ in docs], lambda d_rows: []
    vocab = docs[0].vocab
    attr = getattr(vocab.vectors, "attr", ORTH)
    keys = np.concatenate([doc.to_array(attr).reshape(-1) for doc in docs])
    types, inverse = np.unique(keys, return_inverse=True)
    table, missing = type_rows(vocab, types, ops)
    if missing.any():
        table[ops.asarray(missing)] = _stand_ins(model, vocab, types[missing])
    rows = ops.unflatten(table[ops.asarray(inverse)], ops.asarray1i(lengths))
    absent = ops.asarray(missing[inverse])

    def backprop(d_rows: Rows) -> list[Doc]:
        if model.attrs["unknown"] == "learned":
            d_all = ops.xp.concatenate(d_rows)
            model.inc_grad("unknown", d_all[absent].sum(axis=0))
        return []

    return rows, backprop


def type_rows(vocab: Any, types: Any, ops: Any) -> tuple[Floats2d, Any]:
    """Return one float32 row a key of ``vocab.vectors``, and which keys have none (zeros)."""
    vectors = vocab.vectors
    if not hasattr(vectors, "find") or vectors.mode == "floret":
        table = ops.asarray2f(vectors.get_batch(types.tolist()))
        return table, np.zeros(len(types), dtype=bool)
    found = np.array([vectors.key2row.get(key, -1) for key in types.tolist()], dtype=np.int64)
    table = ops.asarray2f(vectors.data[ops.asarray(np.maximum(found, 0))])
    missing = found < 0
    table = ops.xp.array(table)
    table[ops.asarray(missing)] = 0
    return table, missing


def _stand_ins(model: Model[list[Doc], Rows], vocab: Any, types: Any) -> Any:
    ops: Any = model.ops
    policy = model.attrs["unknown"]
    if policy in ("mean", "learned"):
        return model.get_param("unknown")
    if policy == "lower":
        lowered = [vocab.strings.add(vocab.strings[key].lower()) for key in types.tolist()]
        return type_rows(vocab, np.array(lowered, dtype=np.uint64), model.ops)[0]
    if policy == "subwords":
        words = [vocab.strings[key] for key in types.tolist()]
        buckets = model.ops.to_numpy(model.get_param("buckets"))
        minn, maxn = model.attrs["minn"], model.attrs["maxn"]
        return ops.asarray2f(compose_from_buckets(buckets, words, minn=minn, maxn=maxn))
    return 0


def _init(
    model: Model[list[Doc], Rows], X: list[Doc] | None = None, Y: Rows | None = None
) -> Model[list[Doc], Rows]:
    if not X:
        raise VectorsError(
            f"The layer {model.name!r} needs Docs to be initialised: they bring the table."
        )
    ops: Any = model.ops
    vectors = X[0].vocab.vectors
    if not vectors.shape[1] or not vectors.shape[0]:
        raise VectorsError(
            f"The layer {model.name!r} needs a vector table, the vocabulary has none. Name one in "
            'the config: [initialize] vectors = "path", see `trfnb vectors convert`.'
        )
    model.set_dim("nO", vectors.shape[1], force=True)
    model.attrs["fingerprint"] = fingerprint(vectors)
    policy = model.attrs["unknown"]
    if policy == "learned":
        model.set_param("unknown", ops.alloc1f(vectors.shape[1]))
    if policy == "mean":
        some = np.linspace(0, vectors.shape[0] - 1, min(vectors.shape[0], _SAMPLE)).astype(np.int64)
        mean = ops.asarray2f(vectors.data[ops.asarray(some)]).mean(axis=0)
        model.set_param("unknown", mean)
    if policy == "subwords":
        table = bucket_table(
            vectors, model.attrs["buckets"], minn=model.attrs["minn"], maxn=model.attrs["maxn"]
        )
        model.set_param("buckets", ops.asarray2f(table))
    return model
