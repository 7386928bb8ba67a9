"""Embedding layers on static vectors, each from Docs to one (tokens, width) array a Doc.

All of them may stand as ``embed`` in any component's ``tok2vec``. What they learn is saved with
the component; the static table is saved with the vocabulary, and a fingerprint tells if it is
another one.
"""

from collections.abc import Callable
from typing import Any

from spacy.ml.featureextractor import FeatureExtractor
from spacy.ml.models.tok2vec import MultiHashEmbed
from spacy.tokens import Doc
from spacy.util import registry
from thinc.api import (
    Embed,
    HashEmbed,
    Maxout,
    Model,
    chain,
    concatenate,
    glorot_uniform_init,
    list2ragged,
    ragged2list,
    remap_ids_v2,
    with_array,
)
from thinc.types import Floats2d

from trfnb.vectors.keymap import map_from
from trfnb.vectors.lookup import Embedding, Unknown, static_rows
from trfnb.vectors.tuned import tuned_rows


def project(nO: int | None = None, nI: int | None = None) -> Model[Floats2d, Floats2d]:
    """Multiply by a learned matrix; rows of zeros stay zeros, as there is no bias."""

    def forward(
        model: Model[Floats2d, Floats2d], X: Floats2d, is_train: bool
    ) -> tuple[Floats2d, Callable[[Floats2d], Floats2d]]:
        W: Any = model.get_param("W")

        def backprop(dY: Floats2d) -> Floats2d:
            model.inc_grad("W", model.ops.gemm(dY, X, trans1=True))
            return model.ops.gemm(dY, W)

        return model.ops.gemm(X, W, trans2=True), backprop

    def init(model: Model[Floats2d, Floats2d], X: Any = None, Y: Any = None) -> None:
        if X is not None:
            model.set_dim("nI", X.shape[1], force=True)
        shape = (model.get_dim("nO"), model.get_dim("nI"))
        model.set_param("W", glorot_uniform_init(model.ops, shape))

    return Model("project", forward, init=init, params={"W": None}, dims={"nO": nO, "nI": nI})


def static_vectors(width: int, unknown: Unknown = "zeros", **subwords: int) -> Embedding:
    """Project static vectors to ``width`` by a learned matrix; see `static_rows`."""
    layer: Embedding = chain(static_rows(unknown, **subwords), with_array(project(nO=width)))
    layer.set_dim("nO", width, force=True)
    return layer


def learned_vectors(
    width: int, rows: int, *, corpus: str | None = None, attr: str = "ORTH"
) -> Embedding:
    """Embed the frequent words of a corpus in a learned table; all others share its first row.

    Args:
        width: of a row.
        rows: how many, the shared one included.
        corpus: counts words when the layer is initialised: a name or a path for
            `trfnb.corpora.load`; by default the Docs it is initialised with, which spaCy gives few.
        attr: ORTH, LOWER or NORM.
    """
    remap = remap_ids_v2(mapping_table=None, default=0, column=0)
    table: Any = chain(remap, Embed(nO=width, nV=rows, column=0))
    layer: Embedding = chain(
        FeatureExtractor([attr]), list2ragged(), with_array(table), ragged2list()
    )
    build = layer.init

    def init(model: Embedding, X: Any = None, Y: Any = None) -> None:
        if X:
            remap.attrs["mapping_table"] = map_from(corpus, X, X[0].vocab, rows, attr=attr)
        if build is not None:
            build(model, X=X, Y=Y)

    layer.init = init
    layer.set_dim("nO", width, force=True)
    return layer


def added(*layers: Embedding) -> Embedding:
    """Add the outputs of embeddings of one width."""

    def forward(
        model: Embedding, docs: list[Doc], is_train: bool
    ) -> tuple[list[Floats2d], Callable[[list[Floats2d]], list[Doc]]]:
        outputs, callbacks = zip(*(layer(docs, is_train) for layer in model.layers), strict=True)
        summed = [sum(parts[1:], start=parts[0]) for parts in zip(*outputs, strict=True)]

        def backprop(d_summed: list[Floats2d]) -> list[Doc]:
            for callback in callbacks:
                callback([model.ops.xp.array(d) for d in d_summed])
            return []

        return summed, backprop

    def init(model: Embedding, X: Any = None, Y: Any = None) -> None:
        for layer in model.layers:
            layer.initialize(X=X)

    width = layers[0].get_dim("nO") if layers[0].has_dim("nO") else None
    dims: dict[str, int | None] = {"nO": width}
    return Model("added", forward, init=init, layers=list(layers), dims=dims)


@registry.architectures("trfnb.StaticVectors.v1")
def configure_static(width: int, unknown: Unknown = "zeros") -> Embedding:
    """Static vectors alone, projected to ``width``."""
    return static_vectors(width, unknown)


@registry.architectures("trfnb.AddedVectors.v1")
def configure_added(
    width: int,
    rows: int = 2000,
    corpus: str | None = None,
    attr: str = "ORTH",
    unknown: Unknown = "zeros",
) -> Embedding:
    """Static vectors plus a small learned table of the corpus's frequent words."""
    learned = learned_vectors(width, rows, corpus=corpus, attr=attr)
    return added(static_vectors(width, unknown), learned)


@registry.architectures("trfnb.ConcatenatedVectors.v1")
def configure_concatenated(
    width: int,
    attrs: list[str] | None = None,
    rows: list[int] | None = None,
    unknown: Unknown = "zeros",
) -> Embedding:
    """Static vectors beside hashed learned ones of word and shape, mixed by a Maxout layer."""
    attrs = attrs if attrs is not None else ["NORM", "PREFIX", "SUFFIX", "SHAPE"]
    rows = rows if rows is not None else [5000] + [2500] * (len(attrs) - 1)
    tables: list[Any] = [HashEmbed(width, n, column=i, seed=8 + i) for i, n in enumerate(rows)]
    hashed: Any = tables[0] if len(tables) == 1 else concatenate(*tables)
    learned: Embedding = chain(
        FeatureExtractor(attrs), list2ragged(), with_array(hashed), ragged2list()
    )
    joined: Any = concatenate(static_vectors(width, unknown), learned)
    mix = Maxout(width, width * (1 + len(tables)), nP=3, dropout=0.0, normalize=True)
    layer: Embedding = chain(joined, with_array(mix))
    layer.set_dim("nO", width, force=True)
    return layer


@registry.architectures("trfnb.SubwordVectors.v1")
def configure_subwords(width: int, buckets: int = 5000, minn: int = 3, maxn: int = 5) -> Embedding:
    """Static vectors; a word without one is composed of its character n-grams."""
    return static_vectors(width, "subwords", buckets=buckets, minn=minn, maxn=maxn)


@registry.architectures("trfnb.MultiHashEmbed.v1")
def configure_multi_hash(
    width: int,
    rows: int = 7000,
    also_embed_subwords: bool = True,
    also_use_static_vectors: bool = False,
) -> Embedding:
    """SpaCy's MultiHashEmbed with the arguments of its early documentation."""
    attrs = ["NORM", "PREFIX", "SUFFIX", "SHAPE"] if also_embed_subwords else ["NORM"]
    sizes = [rows] + [rows // 2] * (len(attrs) - 1)
    return MultiHashEmbed(width, attrs, sizes, also_use_static_vectors)


@registry.architectures("trfnb.TunedVectors.v1")
def configure_tuned(
    width: int, rows: int = 10_000, corpus: str | None = None, unknown: Unknown = "zeros"
) -> Embedding:
    """Static vectors, of which the corpus's frequent words get copies that training changes."""
    layer: Embedding = chain(
        tuned_rows(rows, corpus=corpus, unknown=unknown), with_array(project(nO=width))
    )
    layer.set_dim("nO", width, force=True)
    return layer
