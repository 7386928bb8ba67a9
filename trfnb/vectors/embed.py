"""Embedding layers on static vectors, each from Docs to one (tokens, width) array per Doc.

All of them may stand as ``embed`` in any component's ``tok2vec``. What they learn is saved with
the component; the static table is saved with the vocabulary, and a fingerprint tells if it is
another one. State is kept in plain classes and a layer's attributes, so that every layer pickles.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from spacy.ml.featureextractor import FeatureExtractor
from spacy.ml.models.tok2vec import MultiHashEmbed
from spacy.tokens import Doc
from spacy.util import registry
from spacy.vocab import Vocab
from thinc.api import (
    Config,
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

from trfnb.vectors.blocks import VectorsError
from trfnb.vectors.conversion import corpus_words
from trfnb.vectors.store import (
    Backprop,
    Embedding,
    TableCheck,
    Unknown,
    remember_table,
    static_rows,
)

_ATTRS = ["NORM", "PREFIX", "SUFFIX", "SHAPE"]
_KEY_ATTRS = {"ORTH": "orth", "LOWER": "lower", "NORM": "norm"}


def project(nO: int | None = None, nI: int | None = None) -> Model[Floats2d, Floats2d]:
    """Multiply by a learned matrix; rows of zeros stay zeros, as there is no bias."""
    return Model(
        "project", _project, init=_init_project, params={"W": None}, dims={"nO": nO, "nI": nI}
    )


def _project(
    model: Model[Floats2d, Floats2d], X: Floats2d, is_train: bool
) -> tuple[Floats2d, Callable[[Floats2d], Floats2d]]:
    W: Any = model.get_param("W")

    def backprop(dY: Floats2d) -> Floats2d:
        model.inc_grad("W", model.ops.gemm(dY, X, trans1=True))
        return model.ops.gemm(dY, W)

    return model.ops.gemm(X, W, trans2=True), backprop


def _init_project(model: Model[Floats2d, Floats2d], X: Any = None, Y: Any = None) -> None:
    if X is not None:
        model.set_dim("nI", X.shape[1], force=True)
    shape = (model.get_dim("nO"), model.get_dim("nI"))
    model.set_param("W", glorot_uniform_init(model.ops, shape))


@registry.architectures("trfnb.StaticVectors.v1")
def static_vectors(width: int, unknown: Unknown = "zeros") -> Embedding:
    """Static vectors alone, projected to ``width``; see `static_rows`."""
    return _sized(width, static_rows(unknown), with_array(project(nO=width)))


def _sized(width: int, *layers: Any) -> Embedding:
    layer: Embedding = chain(*layers)
    layer.set_dim("nO", width, force=True)
    return layer


@registry.architectures("trfnb.SubwordVectors.v1")
def subword_vectors(width: int, buckets: int = 5000, minn: int = 3, maxn: int = 5) -> Embedding:
    """Static vectors; a word without one is composed of its character n-grams."""
    rows = static_rows("subwords", buckets=buckets, minn=minn, maxn=maxn)
    return _sized(width, rows, with_array(project(nO=width)))


@registry.architectures("trfnb.AddedVectors.v1")
def added_vectors(
    width: int,
    rows: int = 2000,
    corpus: str | None = None,
    attr: str = "ORTH",
    unknown: Unknown = "zeros",
) -> Embedding:
    """Static vectors plus a small learned table of the corpus's frequent words.

    Args:
        width: of a row.
        rows: of the learned table; the first is shared by all words that have none of their own.
        corpus: counts words when the layer is initialised: a name or a path for
            `trfnb.corpora.load`; by default the Docs it is initialised with, which spaCy gives few.
        attr: ORTH, LOWER or NORM.
        unknown: see `static_rows`.
    """
    remap = remap_ids_v2(mapping_table=None, default=0, column=0)
    table: Any = chain(remap, Embed(nO=width, nV=rows, column=0))
    layers: tuple[Any, ...] = (
        FeatureExtractor([attr]),
        list2ragged(),
        with_array(table),
        ragged2list(),
    )
    learned = _sized(width, *layers)
    learned.init = partial(_init_learned, learned.init, corpus, rows, attr)
    return added(static_vectors(width, unknown), learned)


def _init_learned(
    build: Any,
    corpus: str | None,
    rows: int,
    attr: str,
    model: Embedding,
    X: Any = None,
    Y: Any = None,
) -> None:
    if X:
        (remap,) = [node for node in model.walk() if "mapping_table" in node.attrs]
        words = corpus_words(corpus if corpus is not None else X)
        remap.attrs["mapping_table"] = key_map(words, X[0].vocab, rows, attr=attr)
    build(model, X=X, Y=Y)


def added(*layers: Embedding) -> Embedding:
    """Add the outputs of embeddings of one width."""
    dims: dict[str, int | None] = {
        "nO": layers[0].get_dim("nO") if layers[0].has_dim("nO") else None
    }
    return Model("added", _added, init=_init_each, layers=list(layers), dims=dims)


def _added(model: Embedding, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Backprop]:
    outputs, callbacks = zip(*(layer(docs, is_train) for layer in model.layers), strict=True)

    def backprop(d_summed: list[Floats2d]) -> list[Doc]:
        for callback in callbacks:
            callback([model.ops.xp.array(d) for d in d_summed])
        return []

    return [sum(parts[1:], start=parts[0]) for parts in zip(*outputs, strict=True)], backprop


def _init_each(model: Embedding, X: Any = None, Y: Any = None) -> None:
    for layer in model.layers:
        layer.initialize(X=X)


@registry.architectures("trfnb.ConcatenatedVectors.v1")
def concatenated_vectors(
    width: int,
    attrs: list[str] | None = None,
    rows: list[int] | None = None,
    unknown: Unknown = "zeros",
) -> Embedding:
    """Static vectors beside hashed learned ones of word and shape, mixed by a Maxout layer."""
    attrs = attrs if attrs is not None else _ATTRS
    rows = rows if rows is not None else [5000] + [2500] * (len(attrs) - 1)
    tables: list[Any] = [HashEmbed(width, n, column=i, seed=8 + i) for i, n in enumerate(rows)]
    hashed: Any = tables[0] if len(tables) == 1 else concatenate(*tables)
    learned: Any = chain(FeatureExtractor(attrs), list2ragged(), with_array(hashed), ragged2list())
    mix = Maxout(width, width * (1 + len(tables)), nP=3, dropout=0.0, normalize=True)
    return _sized(width, concatenate(static_vectors(width, unknown), learned), with_array(mix))


@registry.architectures("trfnb.MultiHashEmbed.v1")
def multi_hash_embed(
    width: int,
    rows: int = 7000,
    also_embed_subwords: bool = True,
    also_use_static_vectors: bool = False,
) -> Embedding:
    """SpaCy's MultiHashEmbed with the arguments of its early documentation."""
    attrs = _ATTRS if also_embed_subwords else _ATTRS[:1]
    return MultiHashEmbed(
        width, attrs, [rows, *[rows // 2] * (len(attrs) - 1)], also_use_static_vectors
    )


@registry.architectures("trfnb.TunedVectors.v1")
def tuned_vectors(
    width: int, rows: int = 10_000, corpus: str | None = None, unknown: Unknown = "zeros"
) -> Embedding:
    """Static vectors, of which the corpus's frequent words get copies that training changes.

    Args:
        width: of the output.
        rows: words with a copy, at most.
        corpus: counts words when the layer is initialised, see `added_vectors`.
        unknown: see `static_rows`; what words in neither table get, and what copies start from
            where the static table lacks the word.
    """
    attrs: dict[str, Any] = {"key2row": {}, "rows": rows, "corpus": corpus}
    tuned: Embedding = Model(
        "tuned_rows", _tuned, init=_init_tuned, params={"E": None}, dims={"nO": None},
        layers=[static_rows(unknown)], attrs=attrs,
    )  # fmt: skip
    return _sized(width, tuned, with_array(project(nO=width)))


def _tuned(model: Embedding, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Backprop]:
    frozen, backprop_static = model.layers[0](docs, is_train)
    ops: Any = model.ops
    E, table = model.get_param("E"), model.attrs["key2row"]
    own = [np.array([table.get(token.orth, -1) for token in doc], dtype="i") for doc in docs]
    outputs = [ops.xp.array(X) for X in frozen]
    for Y, rows in zip(outputs, own, strict=True):
        Y[ops.asarray(rows >= 0)] = E[ops.asarray(rows[rows >= 0])]

    def backprop(d_outputs: list[Floats2d]) -> list[Doc]:
        dE = ops.alloc2f(*E.shape)
        d_frozen = [ops.xp.array(dY) for dY in d_outputs]
        for dX, rows in zip(d_frozen, own, strict=True):
            mine = ops.asarray(rows >= 0)
            ops.scatter_add(dE, ops.asarray(rows[rows >= 0]), ops.as_contig(dX[mine]))
            dX[mine] = 0
        model.inc_grad("E", dE)
        return backprop_static(d_frozen)

    return outputs, backprop


def _init_tuned(model: Embedding, X: Any = None, Y: Any = None) -> None:
    _init_each(model, X)
    model.set_dim("nO", model.layers[0].get_dim("nO"), force=True)
    vocab, corpus = X[0].vocab, model.attrs["corpus"]
    found = key_map(
        corpus_words(corpus if corpus is not None else X), vocab, model.attrs["rows"] + 1
    )
    model.attrs["key2row"] = {key: row - 1 for key, row in found.items()}
    words = Doc(vocab, words=[vocab.strings[key] for key in found])
    model.set_param("E", model.ops.xp.array(model.layers[0].predict([words])[0]))


class _Checked(TableCheck):
    """The forward pass of `checked_vectors`."""

    def __call__(
        self, model: Embedding, docs: list[Doc], is_train: bool = False
    ) -> tuple[list[Floats2d], Backprop]:
        super().__call__(model, docs)
        return model.layers[0](docs, is_train)


@registry.architectures("trfnb.CheckedVectors.v1")
def checked_vectors(embed: Embedding) -> Embedding:
    """Let an embedding raise `VectorsError` when it is used with another table than in training.

    Args:
        embed: a layer that reads ``doc.vocab.vectors`` and does not check it, as spaCy's own.
    """
    dims: dict[str, int | None] = {"nO": embed.get_dim("nO") if embed.has_dim("nO") else None}
    return Model(
        "checked", _Checked(), init=_init_checked, layers=[embed], dims=dims,
        attrs={"fingerprint": ""},
    )  # fmt: skip


def _init_checked(model: Embedding, X: Any = None, Y: Any = None) -> None:
    embed = model.layers[0]
    embed.initialize(X=X, Y=Y)
    if embed.has_dim("nO"):
        model.set_dim("nO", embed.get_dim("nO"), force=True)
    if X:
        remember_table(model, X[0].vocab.vectors)


def key_map(counts: Counter[str], vocab: Vocab, rows: int, *, attr: str = "ORTH") -> dict[int, int]:
    """Number the most frequent words' keys from 1; row 0 is left for all others.

    Args:
        counts: how often each word occurs.
        vocab: its string store hashes the words.
        rows: rows of the learned table, the first included.
        attr: ORTH, LOWER or NORM.
    """
    if attr not in _KEY_ATTRS:
        raise VectorsError(f"Expected attr among {', '.join(_KEY_ATTRS)}, got {attr!r}.")
    by_key: Counter[int] = Counter()
    for word, count in counts.items():
        by_key[int(getattr(vocab[word], _KEY_ATTRS[attr]))] += count
    frequent = [key for key, _ in by_key.most_common(max(rows - 1, 0))]
    return {key: row for row, key in enumerate(frequent, start=1)}


@registry.misc("trfnb.key2row.v1")
def key2row(corpus: str | None = None, rows: int = 2000, attr: str = "ORTH") -> dict[int, int]:
    """Build a key map inside a config, for layers of your own that take one.

    A pipeline's config is resolved again when the pipeline is loaded, perhaps where the corpus is
    not: the map is then empty, and the one saved with the layer takes its place.
    """
    if corpus is None or (("/" in corpus or "." in corpus) and not Path(corpus).exists()):
        return {}
    return key_map(corpus_words(corpus), Vocab(), rows, attr=attr)


EMBEDDINGS: Mapping[str, Mapping[str, Any]] = {
    "none": {
        "@architectures": "spacy.MultiHashEmbed.v2",
        "attrs": _ATTRS,
        "rows": [5000, 2500, 2500, 2500],
        "include_static_vectors": False,
    },
    "static": {"@architectures": "trfnb.StaticVectors.v1"},
    "added": {"@architectures": "trfnb.AddedVectors.v1", "rows": 2000},
    "concatenated": {"@architectures": "trfnb.ConcatenatedVectors.v1"},
    "tuned": {"@architectures": "trfnb.TunedVectors.v1", "rows": 10000},
    "subwords": {"@architectures": "trfnb.SubwordVectors.v1"},
    # Side by side too: what differs is the table, see `trfnb.vectors.distill`.
    "distilled": {"@architectures": "trfnb.ConcatenatedVectors.v1"},
}


def with_embedding(
    config: Config,
    embedding: str,
    table: str | None = None,
    *,
    corpus: str | None = None,
    depth: int = 2,
) -> Config:
    """Return a config whose ``tok2vec`` component embeds by the name given.

    Args:
        config: with a component ``tok2vec``, such as `trfnb.experiments.build_config` makes; it is
            left as it is.
        embedding: a name of `EMBEDDINGS`; ``"none"`` learns hashed vectors alone.
        table: the vector table's directory; not needed by ``"none"``.
        corpus: for the embeddings with a key map, counts the words (a name or a path).
        depth: layers of the encoder behind the embedding.

    Raises:
        VectorsError: an unknown name, no table where one is needed, or no ``tok2vec`` to change.
    """
    wrong = []
    components = config.get("components", {})
    if embedding not in EMBEDDINGS:
        wrong.append(f"embedding: expected one of {', '.join(EMBEDDINGS)}, got {embedding!r}")
    if embedding != "none" and table is None:
        wrong.append("table: expected a vector table's directory, got none")
    if "tok2vec" not in components:
        wrong.append("config: expected a component 'tok2vec'")
    if wrong:
        raise VectorsError("Cannot set the embedding: " + "; ".join(wrong) + ".")
    if any("transformer" in str(block.get("factory")) for block in components.values()):
        warnings.warn(
            "The config also has a transformer: what listens to it does not see the vector table.",
            stacklevel=2,
        )
    changed = config.copy()
    block = changed["components"]["tok2vec"]
    width = block["model"].get("width", 96)
    embed = {**EMBEDDINGS[embedding], "width": width}
    if embedding in ("added", "tuned"):
        embed["corpus"] = corpus
    encode = {
        "@architectures": "spacy.MaxoutWindowEncoder.v2",
        "width": width,
        "depth": depth,
        "window_size": 1,
        "maxout_pieces": 3,
    }
    block["model"] = {"@architectures": "spacy.Tok2Vec.v2", "embed": embed, "encode": encode}
    changed["nlp"]["vectors"] = {"@vectors": "trfnb.Vectors.v1"}
    changed.setdefault("initialize", {})["vectors"] = None if embedding == "none" else table
    return changed
