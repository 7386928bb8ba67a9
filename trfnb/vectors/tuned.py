"""Static vectors of which some words have copies that training changes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from trfnb.vectors.keymap import map_from
from trfnb.vectors.lookup import Embedding, Unknown, static_rows


def tuned_rows(rows: int, *, corpus: str | None = None, unknown: Unknown = "zeros") -> Embedding:
    """Look tokens up in a learned table that starts as static vectors; others stay static.

    Args:
        rows: words with a row of their own, at most.
        corpus: counts words when the layer is initialised, see `keymap.map_from`.
        unknown: see `static_rows`; what words in neither table get, and those of the corpus that
            the static table lacks start from.
    """
    static = static_rows(unknown)
    attrs: dict[str, Any] = {"key2row": {}, "rows": rows}

    def forward(
        model: Embedding, docs: list[Doc], is_train: bool
    ) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
        frozen, backprop_static = model.layers[0](docs, is_train)
        own = [_own_rows(model, doc) for doc in docs]
        ops: Any = model.ops
        E: Any = model.get_param("E")
        outputs = []
        for X, rows_of in zip(frozen, own, strict=True):
            mine = ops.asarray(rows_of >= 0)
            Y = ops.xp.array(X)
            Y[mine] = E[ops.asarray(rows_of[rows_of >= 0])]
            outputs.append(Y)

        def backprop(d_outputs: list[Floats2d]) -> list[Doc]:
            dE = ops.alloc2f(*E.shape)
            d_frozen = []
            for dY, rows_of in zip(d_outputs, own, strict=True):
                mine = ops.asarray(rows_of >= 0)
                index = ops.asarray(rows_of[rows_of >= 0].astype(np.int32))
                ops.scatter_add(dE, index, ops.as_contig(dY[mine]))
                dX = ops.xp.array(dY)
                dX[mine] = 0
                d_frozen.append(dX)
            model.inc_grad("E", dE)
            backprop_static(d_frozen)
            return []

        return outputs, backprop

    def init(model: Embedding, X: Any = None, Y: Any = None) -> None:
        model.layers[0].initialize(X=X)
        model.set_dim("nO", model.layers[0].get_dim("nO"), force=True)
        vocab = X[0].vocab
        found = map_from(corpus, X, vocab, model.attrs["rows"] + 1)
        model.attrs["key2row"] = {key: row - 1 for key, row in found.items()}
        keys = np.array(list(found), dtype=np.uint64)
        words = Doc(vocab, words=[vocab.strings[key] for key in keys.tolist()])
        model.set_param("E", model.ops.xp.array(model.layers[0].predict([words])[0]))

    return Model(
        "tuned_rows",
        forward,
        init=init,
        params={"E": None},
        dims={"nO": None},
        layers=[static],
        attrs=attrs,
    )


def _own_rows(model: Embedding, doc: Doc) -> Any:
    table = model.attrs["key2row"]
    return np.array([table.get(token.orth, -1) for token in doc], dtype=np.int64)
