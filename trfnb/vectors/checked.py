"""Any embedding, with the fingerprint of the table that it was initialised with."""

from collections.abc import Callable
from typing import Any

from spacy.tokens import Doc
from spacy.util import registry
from thinc.api import Model
from thinc.types import Floats2d

from trfnb.vectors.fingerprints import check_fingerprint, fingerprint

Embedding = Model[list[Doc], list[Floats2d]]


def same_table() -> Callable[[Model[Any, Any], list[Doc]], None]:
    """Return a check that raises where Docs bring another table than a layer's fingerprint tells.

    A table is hashed when it is first seen, not at every batch.
    """
    seen: dict[str, Any] = {"vectors": None, "data": None}

    def check(model: Model[Any, Any], docs: list[Doc]) -> None:
        if not docs or not model.attrs["fingerprint"]:
            return
        vectors = docs[0].vocab.vectors
        if seen["vectors"] is not vectors or seen["data"] is not vectors.data:
            check_fingerprint(vectors, model.attrs["fingerprint"], f"The layer {model.name!r}")
            seen["vectors"], seen["data"] = vectors, vectors.data

    return check


def checked(embed: Embedding) -> Embedding:
    """Let an embedding raise `VectorsError` when it is used with another table than in training.

    Args:
        embed: a layer that reads ``doc.vocab.vectors`` and does not check it, as spaCy's own.
    """
    check = same_table()

    def forward(
        model: Embedding, docs: list[Doc], is_train: bool
    ) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
        check(model, docs)
        return model.layers[0](docs, is_train)

    def init(model: Embedding, X: Any = None, Y: Any = None) -> None:
        model.layers[0].initialize(X=X, Y=Y)
        if model.layers[0].has_dim("nO"):
            model.set_dim("nO", model.layers[0].get_dim("nO"), force=True)
        if X:
            model.attrs["fingerprint"] = fingerprint(X[0].vocab.vectors)

    dims: dict[str, int | None] = {"nO": embed.get_dim("nO") if embed.has_dim("nO") else None}
    return Model(
        "checked", forward, init=init, layers=[embed], dims=dims, attrs={"fingerprint": ""}
    )


@registry.architectures("trfnb.CheckedVectors.v1")
def configure_checked(embed: Embedding) -> Embedding:
    """Put any other embedding behind a check of its vector table."""
    return checked(embed)
