"""Learn a transformer's contextual token vectors.

The body is trained to give what the teacher's layer gives, through a linear map (as FitNets,
Romero et al., 2015, https://arxiv.org/abs/1412.6550, and TinyBERT, Jiao et al., 2020,
https://arxiv.org/abs/1909.10351, learn hidden states).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Linear, Model, reduce_mean

from trfnb import models
from trfnb.flow.encoder import EncoderShim
from trfnb.flow.engines import Precision, Runtime
from trfnb.flow.spans import get_doc_spans
from trfnb.pipe.model import token_vector_model, transformer_model
from trfnb.pipe.registries import registry
from trfnb.pretraining.corruption import texts
from trfnb.pretraining.losses import vector_loss
from trfnb.pretraining.objective import Objective, objective_model
from trfnb.pretraining.task import Targets, Task
from trfnb.pretraining.teacher import CachedTeacher


class Transformer:
    """A transformer's layer as a teacher: a token's vector is the mean of its wordpieces'."""

    def __init__(self, name: str, layer: int = -1, precision: Precision = "fp32") -> None:
        source = models.path(name) if name == "minilm" else name
        shared = transformer_model(EncoderShim(source), get_doc_spans, Runtime(precision))
        self._model = token_vector_model(shared, reduce_mean(), layer=layer)
        self._model.initialize()
        self.width = int(self._model.get_dim("nO"))
        self.name = f"{name} layer {layer} {precision}"

    def __call__(self, docs: Sequence[Doc]) -> list[NDArray[np.float32]]:
        """Return one (tokens, width) array a doc."""
        vectors: Any = self._model.predict(list(docs))
        return [np.asarray(one.get() if hasattr(one, "get") else one) for one in vectors]


def all_words(docs: Sequence[Doc], rng: np.random.Generator) -> Task:
    """Hide nothing and look everywhere."""
    words = [texts(doc) for doc in docs]
    return Task(words, np.ones(sum(map(len, words)), dtype=bool))


def teacher_targets(teacher: Any) -> Targets:
    """Return what asks a teacher for (rows, width)."""

    def targets(
        docs: Sequence[Doc], words: list[list[str]], rows: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        found: NDArray[np.float32] = np.concatenate(teacher(docs)).astype("f")[rows]
        return found

    return targets


@registry.architectures("trfnb.PretrainDistillation.v1")
def PretrainDistillation(  # noqa: N802
    teacher: str = "minilm",
    layer: int = -1,
    cache: Path | None = None,
    loss: Literal["cosine", "L2", "vmf"] = "cosine",
    precision: Precision = "fp32",
) -> Objective:
    """Build the objective of a transformer's token vectors.

    Args:
        teacher: ``"minilm"``, a local path or a hub name.
        layer: The teacher's layer; 0 is the embeddings' output, -1 the last.
        cache: A folder that keeps its vectors, 2 bytes a number; None asks it again each time.
        loss: Distance between a prediction and the teacher's vector.
        precision: Of the teacher's arithmetic.
    """
    distance = vector_loss(loss)

    def build(vocab: Vocab, tok2vec: Model) -> Model:
        asked: Any = Transformer(teacher, layer, precision)
        if cache is not None:
            asked = CachedTeacher(asked, Path(cache))
        head: Any = Linear(nO=asked.width)
        return objective_model(vocab, tok2vec, head, all_words, teacher_targets(asked), distance)

    return build
