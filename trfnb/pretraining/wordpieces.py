"""Predict hidden wordpieces: a transformer goes on learning its language, on one's own texts.

BERT's objective (Devlin et al., 2019, https://arxiv.org/abs/1810.04805), continued on the domain's
text as in "Don't stop pretraining" (Gururangan et al., 2020, https://arxiv.org/abs/2004.10964).
The output layer starts from the embeddings of the wordpieces, since most encoders come without
one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Gelu, LayerNorm, Model, Softmax_v2, chain
from thinc.types import Floats2d

from trfnb.flow.encoder import EncoderInput, EncoderShim
from trfnb.flow.wordpieces import encode, max_wordpieces
from trfnb.pipe.model import TokenVectors
from trfnb.pipe.registries import registry
from trfnb.pretraining.corruption import Replacement, step_rng
from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.losses import categorical
from trfnb.pretraining.masking import Strategy, whole_word_mask
from trfnb.pretraining.objective import Objective, Prediction, batch_loss
from trfnb.pretraining.products import accelerate
from trfnb.pretraining.wordpiece_masks import hide_wordpieces


def _forward(
    strategy: Strategy,
    replacement: Replacement,
    model: Model[list[Doc], Prediction],
    docs: Sequence[Doc],
    is_train: bool,
) -> tuple[Prediction, Callable[[Floats2d], list[Doc]]]:
    encoder, head = model.attrs["encoder"], model.layers[1]
    shim: EncoderShim = encoder.shims[0]
    number, of = model.attrs["share"]
    limit = max_wordpieces(shim.tokenizer, shim.config)
    whole = encode(shim.tokenizer, [doc.text for doc in docs], limit)
    mask_id = int(shim.tokenizer.mask_token_id)
    ids, hidden = hide_wordpieces(whole, strategy, replacement, mask_id, step_rng())
    own = np.repeat(np.arange(len(docs)) % of == number, whole.lengths)
    rows = np.flatnonzero(hidden[own])
    total = int(hidden.sum())
    if not len(rows):
        return Prediction(None, None, total), lambda d_output: []
    lengths = whole.lengths[number::of]
    mine = replace(
        whole,
        ids=ids[own],
        offsets=whole.offsets[own],
        lengths=lengths,
        truncated=whole.truncated[number::of],
    )
    states, backprop_encoder = encoder(EncoderInput(mine), is_train)
    layer = shim.layer_index(-1)
    vectors = states.rows[layer]
    output, backprop_head = head(vectors[rows], is_train)

    def backprop(d_output: Floats2d) -> list[Doc]:
        d_vectors: Any = model.ops.alloc2f(*vectors.shape)
        d_vectors[rows] = backprop_head(d_output)
        backprop_encoder({layer: d_vectors})
        return []

    return Prediction(output, whole.ids[own][rows][:, None], total), backprop


def _init(model: Model[list[Doc], Prediction], X: Any = None, Y: Any = None) -> None:
    shim: EncoderShim = model.attrs["encoder"].shims[0]
    if shim.tokenizer.mask_token_id is None:
        raise PretrainingError(
            f"The objective of wordpieces expected a transformer with a mask token, got "
            f"{shim.name!r} without one. Take a masked language model."
        )
    body: Any = shim.loaded()
    table = body.get_input_embeddings().weight.detach().cpu().numpy()
    head = model.layers[1]
    width, size = shim.width, len(table)
    head.layers[0].set_dim("nO", width)
    head.layers[1].set_dim("nI", width)
    head.layers[2].set_dim("nI", width)
    head.layers[2].set_dim("nO", size)
    head.initialize(X=model.ops.alloc2f(1, width))
    if table.shape[1] == width:
        head.layers[2].set_param("W", model.ops.asarray2f(table.copy()))
    model.attrs["distance"] = categorical(size)
    model.attrs["loss"] = partial(batch_loss, categorical(size))
    accelerate(model)


@registry.architectures("trfnb.PretrainWordpieces.v1")
def PretrainWordpieces(  # noqa: N802
    masking: Strategy | None = None, replacement: Replacement | None = None
) -> Objective:
    """Build the objective of hidden wordpieces, for a transformer.

    Args:
        masking: Which wordpieces to hide; 15 % of whole words by default.
        replacement: Shares of masks and other wordpieces; 80 % and 10 % by default.
    """

    def build(vocab: Vocab, tok2vec: Model) -> Model:
        body = tok2vec.transformer if isinstance(tok2vec, TokenVectors) else tok2vec
        if body.name != "transformer_model":
            raise PretrainingError(
                f"The objective of wordpieces expected a transformer, got {tok2vec.name!r}. Take "
                "trfnb.PretrainWords.v1 for a body of words."
            )
        head: Any = chain(Gelu(), LayerNorm(), Softmax_v2())
        forward = partial(_forward, masking or whole_word_mask(), replacement or Replacement())
        return Model(
            "pretraining_wordpieces",
            forward,
            init=_init,
            layers=[tok2vec, head],
            refs={"tok2vec": tok2vec, "output_layer": head},
            attrs={"share": (0, 1), "encoder": body.layers[0], "loss": None},
        )

    return build
