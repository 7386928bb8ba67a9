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

from spacy.ml.featureextractor import FeatureExtractor
from spacy.ml.models.tok2vec import MultiHashEmbed
from spacy.ml.staticvectors import StaticVectors
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
    list2ragged,
    ragged2list,
    remap_ids_v2,
    with_array,
)
from thinc.types import Floats2d

from trfnb.vectors.blocks import VectorsError, corpus_words
from trfnb.vectors.store import fingerprint

Embedding = Model[list[Doc], list[Floats2d]]
Backprop = Callable[[list[Floats2d]], list[Doc]]
_ATTRS = ["NORM", "PREFIX", "SUFFIX", "SHAPE"]


class TableCheck:
    """The forward pass of `checked_vectors`.

    Words that were added since are no difference: spaCy's retokenizer adds one for every entity it
    merges. A table is hashed when it is first seen and when it changes, not at every batch.
    """

    _table: Any = None
    _data: Any = None
    _state: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process looks for itself.
        return {}

    def __call__(
        self, model: Embedding, docs: list[Doc], is_train: bool = False
    ) -> tuple[list[Floats2d], Backprop]:
        """Embed; raise `VectorsError` unless the table holds all that it held in training."""
        if docs and model.attrs["fingerprint"]:
            self._check(model, docs[0].vocab.vectors)
        return model.layers[0](docs, is_train)

    def _check(self, model: Embedding, table: Any) -> None:
        state = (len(table.key2row), getattr(table, "changes", 0))
        if self._table is table and self._data is table.data and self._state == state:
            return
        expected = model.attrs["fingerprint"]
        got = fingerprint(table, model.attrs["table_keys"])
        if got != expected:
            raise VectorsError(
                f"The layer {model.name!r} was trained with the vector table {expected[:12]}, the "
                f"vocabulary now has {got[:12]} ({table.shape[0]:,} x {table.shape[1]}, "
                f"{table.name!r}), or its vectors were changed. Load the table it was trained "
                "with, or train it again with this one."
            )
        self._table, self._data, self._state = table, table.data, state


@registry.architectures("trfnb.CheckedVectors.v1")
def checked_vectors(embed: Embedding) -> Embedding:
    """Let an embedding raise `VectorsError` when it is used with another table than in training.

    Args:
        embed: a layer that reads ``doc.vocab.vectors`` and does not check it, as spaCy's own.
    """
    return Model(
        "checked",
        TableCheck(),
        init=_init_checked,
        layers=[embed],
        dims={"nO": embed.maybe_get_dim("nO")},
        attrs={"fingerprint": "", "table_keys": None},
    )


def _init_checked(model: Embedding, X: Any = None, Y: Any = None) -> None:
    vectors: Any = X[0].vocab.vectors if X else None
    if vectors is not None and 0 in vectors.shape:
        raise VectorsError(
            f"The layer {model.name!r} needs a vector table, the vocabulary has none. Name one in "
            'the config: [initialize] vectors = "path", see `trfnb vectors convert`.'
        )
    model.layers[0].initialize(X=X, Y=Y)
    if model.layers[0].has_dim("nO"):
        model.set_dim("nO", model.layers[0].get_dim("nO"), force=True)
    if vectors is not None:
        model.attrs["fingerprint"] = fingerprint(vectors)
        model.attrs["table_keys"] = len(vectors.key2row)


@registry.architectures("trfnb.StaticVectors.v1")
def static_vectors(width: int) -> Embedding:
    """Static vectors alone, projected to ``width`` by spaCy's own layer, and checked.

    A word without a vector gets zeros.

    Args:
        width: of the output.
    """
    embed = _sized(width, StaticVectors(nO=width), ragged2list())
    static: Embedding = Model(
        "static", _static, init=_init_each, layers=[embed], dims={"nO": width}
    )
    return checked_vectors(static)


def _sized(width: int, *layers: Any) -> Embedding:
    layer: Embedding = chain(*layers)
    layer.set_dim("nO", width, force=True)
    return layer


def _static(model: Embedding, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Backprop]:
    outputs, backprop_known = model.layers[0](docs, is_train)
    known = []
    for doc in docs:
        vectors: Any = doc.vocab.vectors
        keys = doc.to_array(vectors.attr).reshape(-1).tolist()
        # A floret table knows every word.
        rows: Any = [vectors.mode != "default" or key in vectors.key2row for key in keys]
        known.append(model.ops.asarray(rows, dtype="float32").reshape((-1, 1)))

    def backprop(d_outputs: list[Floats2d]) -> list[Doc]:
        # spaCy's layer takes the table's last row for a word without one.
        return backprop_known([dY * rows for dY, rows in zip(d_outputs, known, strict=True)])

    return outputs, backprop


@registry.architectures("trfnb.AddedVectors.v1")
def added_vectors(
    width: int,
    rows: int = 2000,
    corpus: str | None = None,
    attr: str = "ORTH",
) -> Embedding:
    """Static vectors plus a small learned table of the corpus's frequent words.

    Args:
        width: of a row.
        rows: of the learned table; the first is shared by all words that have none of their own.
        corpus: counts words when the layer is initialised: a name or a path for
            `trfnb.corpora.load`; by default the Docs it is initialised with, which spaCy gives few.
        attr: ORTH, LOWER or NORM.
    """
    table: Any = chain(remap_ids_v2(default=0, column=0), Embed(nO=width, nV=rows, column=0))
    learned = _sized(
        width, FeatureExtractor([attr]), list2ragged(), with_array(table), ragged2list()
    )
    learned.init = partial(_init_learned, learned.init, corpus, rows, attr)
    return added(static_vectors(width), learned)


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
        words = corpus_words(X if corpus is None else corpus)
        remap.attrs["mapping_table"] = key_map(words, X[0].vocab, rows, attr=attr)
    build(model, X=X, Y=Y)


def added(*layers: Embedding) -> Embedding:
    """Add the outputs of embeddings of one width."""
    return Model(
        "added",
        _added,
        init=_init_each,
        layers=list(layers),
        dims={"nO": layers[0].maybe_get_dim("nO")},
    )


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
def concatenated_vectors(width: int) -> Embedding:
    """Static vectors beside hashed learned ones of word and shape, mixed by a Maxout layer."""
    rows = [5000, 2500, 2500, 2500]
    mix = Maxout(width, width * (1 + len(rows)), nP=3, dropout=0.0, normalize=True)
    both: Any = concatenate(static_vectors(width), _hashed(width, _ATTRS, rows))
    return _sized(width, both, with_array(mix))


@registry.architectures("trfnb.WordFeatures.v1")
def word_features(
    tok2vec: Embedding, width: int = 32, attrs: list[str] | None = None, rows: int = 2000
) -> Embedding:
    """An encoder's vectors beside hashed, learned ones of each word's form.

    An uncased encoder does not see capitals, and its wordpieces hide suffixes; a task model that
    gets both beside the encoder's vectors learns from fewer sentences.

    Args:
        tok2vec: a listener, or any layer from Docs to one array per Doc.
        width: of each attribute's vector; the output is so much wider for each.
        attrs: NORM, PREFIX, SUFFIX and SHAPE by default.
        rows: of each attribute's table.
    """
    attrs = attrs if attrs is not None else _ATTRS
    return concatenate(tok2vec, _hashed(width, attrs, [rows] * len(attrs)))


def _hashed(width: int, attrs: list[str], rows: list[int]) -> Embedding:
    tables: list[Any] = [HashEmbed(width, n, column=i, seed=8 + i) for i, n in enumerate(rows)]
    table: Any = tables[0] if len(tables) == 1 else concatenate(*tables)
    features: Any = FeatureExtractor(attrs)
    return _sized(width * len(tables), features, list2ragged(), with_array(table), ragged2list())


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


def key_map(counts: Counter[str], vocab: Vocab, rows: int, *, attr: str = "ORTH") -> dict[int, int]:
    """Number the most frequent words' keys from 1; row 0 is left for all others.

    Args:
        counts: how often each word occurs.
        vocab: its string store hashes the words.
        rows: rows of the learned table, the first included.
        attr: ORTH, LOWER or NORM.
    """
    by_key = Counter[int]()
    for word, count in counts.items():
        by_key[int(getattr(vocab[word], attr.lower()))] += count
    frequent = by_key.most_common(max(rows - 1, 0))
    return {key: row for row, (key, _) in enumerate(frequent, start=1)}


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
        corpus: counts the words of the learned table of ``"added"`` (a name or a path).
        depth: layers of the encoder behind the embedding.

    Raises:
        VectorsError: an unknown name, no table where one is needed, or no ``tok2vec`` to change.
    """
    components = config.get("components", {})
    problems = {
        f"embedding: expected one of {', '.join(EMBEDDINGS)}, got {embedding!r}": embedding
        not in EMBEDDINGS,
        "table: expected a vector table's directory, got none": table is None
        and embedding != "none",
        "config: expected a component 'tok2vec'": "tok2vec" not in components,
    }
    wrong = [problem for problem, there in problems.items() if there]
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
    if embedding == "added":
        embed["corpus"] = corpus
    block["model"] = {
        "@architectures": "spacy.Tok2Vec.v2",
        "embed": embed,
        "encode": {
            "@architectures": "spacy.MaxoutWindowEncoder.v2",
            "width": width,
            "depth": depth,
            "window_size": 1,
            "maxout_pieces": 3,
        },
    }
    changed["nlp"]["vectors"] = {"@vectors": "trfnb.Vectors.v1"}
    changed.setdefault("initialize", {})["vectors"] = None if embedding == "none" else table
    return changed
