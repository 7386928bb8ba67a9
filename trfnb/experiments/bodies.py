"""The encoder's part of a config: one body for all tasks, or one inside each task."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trfnb import models

Block = dict[str, Any]
SpanChoice = Literal["doc", "sent"] | Mapping[str, tuple[int, int]]

SMALL = "tok2vec"
LARGE = "transformer"
SMALL_FACTORY = "trfnb_tok2vec"
LARGE_FACTORY = "trfnb_transformer"
SMALL_LISTENER = "trfnb.Tok2VecListener.v1"
LARGE_LISTENER = "trfnb.TransformerListener.v1"


@dataclass(frozen=True)
class Body:
    """What embeds the tokens, and how its config blocks read.

    Attributes:
        source: ``"tok2vec"`` for spaCy's hash-embedding CNN; ``"minilm"``, a local path or a hub
            name for a transformer.
        width: vector width of the small body; a transformer has its own.
        depth: convolution layers of the small body; each sees one more neighbour on both sides.
        embed_rows: rows of the small body's hash tables.
        layer: the hidden layer that tasks read, ``-1`` for the last.
        pooling: registered reduction from a token's wordpieces to its vector.
        get_spans: ``"doc"``, ``"sent"``, or ``{"strided": (window, stride)}`` in tokens.
        precision: of the transformer's forward pass, as ``trfnb.TransformerModel.v1`` takes it.
        tokenizer_config: keyword arguments of the HuggingFace tokenizer.
        transformer_config: keyword arguments of the HuggingFace model.
    """

    source: str
    width: int = 96
    depth: int = 4
    embed_rows: int = 2000
    layer: int = -1
    pooling: str = "reduce_mean.v1"
    get_spans: SpanChoice = "doc"
    precision: str = "fp32"
    tokenizer_config: Mapping[str, Any] = field(default_factory=dict)
    transformer_config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_transformer(self) -> bool:
        """Whether a HuggingFace encoder embeds the tokens."""
        return self.source != SMALL

    @property
    def name(self) -> str:
        """The shared component's name in the pipeline."""
        return LARGE if self.is_transformer else SMALL

    def component(self) -> Block:
        """Return the block of the shared component."""
        if self.is_transformer:
            model = {"@architectures": "trfnb.TransformerModel.v1", **self._encoder()}
            return {"factory": LARGE_FACTORY, "model": model}
        return {"factory": SMALL_FACTORY, "model": self._cnn()}

    def listener(self, grad_factor: float | str | Mapping[str, Any]) -> Block:
        """Return the layer that reads the shared component from inside a task's model."""
        if self.is_transformer:
            return {
                "@architectures": LARGE_LISTENER,
                "grad_factor": grad_factor,
                "pooling": {"@layers": self.pooling},
                "upstream": self.name,
                "layer": self.layer,
            }
        return {
            "@architectures": SMALL_LISTENER,
            "width": self.width,
            "grad_factor": grad_factor,
            "upstream": self.name,
        }

    def inside(self, grad_factor: float | str | Mapping[str, Any]) -> Block:
        """Return a body of the task's own, to stand where a listener would."""
        if not self.is_transformer:
            return self._cnn()
        return {
            "@architectures": "trfnb.Tok2VecTransformer.v1",
            **self._encoder(),
            "grad_factor": grad_factor,
            "pooling": {"@layers": self.pooling},
            "layer": self.layer,
        }

    def _encoder(self) -> Block:
        name = models.path(self.source) if self.source == "minilm" else self.source
        return {
            "name": str(name),
            "get_spans": span_block(self.get_spans),
            "tokenizer_config": dict(self.tokenizer_config),
            "transformer_config": dict(self.transformer_config),
            "precision": self.precision,
        }

    def _cnn(self) -> Block:
        return {
            "@architectures": "spacy.HashEmbedCNN.v2",
            "width": self.width,
            "depth": self.depth,
            "embed_size": self.embed_rows,
            "window_size": 1,
            "maxout_pieces": 3,
            "subword_features": True,
            "pretrained_vectors": None,
        }


def span_block(choice: SpanChoice) -> Block:
    """Return the config block of a span getter.

    Raises:
        ValueError: the choice names no span getter.
    """
    if isinstance(choice, str) and choice in ("doc", "sent"):
        return {"@span_getters": f"trfnb.{choice}_spans.v1"}
    if isinstance(choice, Mapping) and set(choice) == {"strided"}:
        window, stride = choice["strided"]
        return {"@span_getters": "trfnb.strided_spans.v1", "window": window, "stride": stride}
    raise ValueError(
        f"get_spans: expected 'doc', 'sent' or {{'strided': (window, stride)}}, got {choice!r}."
    )
