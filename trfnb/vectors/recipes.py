"""Put one of the embeddings into a pipeline's config, by name."""

from collections.abc import Mapping
from typing import Any

from thinc.api import Config

import trfnb.vectors.embed
import trfnb.vectors.store  # noqa: F401  the blocks below name what these register
from trfnb.vectors.report import VectorsError

_ATTRS = ["NORM", "PREFIX", "SUFFIX", "SHAPE"]
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
_COUNT_WORDS = ("added", "tuned")


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
        config: with a component ``tok2vec``, such as `trfnb.experiments.pipelines.build_config`
            makes; it is left as it is.
        embedding: a name of `EMBEDDINGS`; ``"none"`` learns hashed vectors alone.
        table: the vector table's directory; not needed by ``"none"``.
        corpus: for the embeddings with a key map, counts the words (a name or a path).
        depth: layers of the encoder behind the embedding.

    Raises:
        VectorsError: an unknown name, no table where one is needed, or no ``tok2vec`` to change.
    """
    wrong = []
    if embedding not in EMBEDDINGS:
        wrong.append(f"embedding: expected one of {', '.join(EMBEDDINGS)}, got {embedding!r}")
    if embedding != "none" and table is None:
        wrong.append("table: expected a vector table's directory, got none")
    if "tok2vec" not in config.get("components", {}):
        wrong.append("config: expected a component 'tok2vec'")
    if wrong:
        raise VectorsError("Cannot set the embedding: " + "; ".join(wrong) + ".")
    changed = config.copy()
    block = changed["components"]["tok2vec"]
    width = block["model"].get("width", 96)
    embed = {**EMBEDDINGS[embedding], "width": width}
    if embedding in _COUNT_WORDS:
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
