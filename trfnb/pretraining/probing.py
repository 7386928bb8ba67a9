"""What kind of body a model is, tried out where it cannot be read off."""

from typing import Any

import numpy as np
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model, reduce_mean
from thinc.types import Floats2d

from trfnb.flow.encoder import EncoderShim
from trfnb.pipe.model import token_vector_model
from trfnb.pretraining.bodies import Body, PlainBody, WindowBody
from trfnb.pretraining.windows import window_encoder


def token_vectors(model: Model) -> Model[list[Doc], list[Floats2d]]:
    """Return a model of one array a Doc: a shared transformer's tokens are means of its rows."""
    if model.name != "transformer_model":
        return model
    return token_vector_model(model, reduce_mean())


def tokenizer_of(model: Model) -> Any:
    """Return the tokenizer of the transformer in a model, or None where it has none."""
    shims = [shim for node in model.walk() for shim in node.shims]
    return next((shim.tokenizer for shim in shims if isinstance(shim, EncoderShim)), None)


def body_of(model: Model[list[Doc], list[Floats2d]], vocab: Vocab) -> Body:
    """Return the fastest way to compute an initialised model."""
    named = all(model.has_ref(name) is True for name in ("embed", "encode"))
    if named and model.ops.device_type == "cpu":
        embed, encoder = model.get_ref("embed"), window_encoder(model.get_ref("encode"))
        both = model.layers == [embed, model.get_ref("encode")]
        if encoder is not None and both and looks_at_single_words(embed, vocab):
            return WindowBody(embed, encoder)
    return PlainBody(model)


def looks_at_single_words(embed: Model[list[Doc], list[Floats2d]], vocab: Vocab) -> bool:
    """Try whether a word's vector stays the same in other company and without its space."""
    words = ["Where", "the", "river", "bends", ",", "42", "boats", "wait"]
    there: Any
    back: Any
    (there,) = embed.predict([Doc(vocab, words=words, spaces=[True] * len(words))])
    (back,) = embed.predict([Doc(vocab, words=words[::-1], spaces=[False] * len(words))])
    return bool(np.allclose(there, back[::-1], atol=1e-6)) and _adds_up(embed, vocab, words)


def _adds_up(embed: Model[list[Doc], list[Floats2d]], vocab: Vocab, words: list[str]) -> bool:
    """Try whether a word that stands twice sends the sum of both gradients, as it should.

    spaCy's character embedding keeps one of them, so that it matters in which Docs words stand.
    """
    found: list[Any] = []
    for times in (1, 2):
        vectors, backprop = embed([Doc(vocab, words=words * times)], True)
        shape = (len(words), vectors[0].shape[1])
        some = np.random.default_rng(0).normal(size=shape).astype("f") * (2 / times)
        d_vectors: Any = np.tile(some, (times, 1))
        backprop([d_vectors])
        found.append([])
        for node in embed.walk():
            for name in node.grad_names:
                gradient: Any = node.get_grad(name)
                found[-1].append(gradient.copy())
                gradient[...] = 0
    return all(np.allclose(a, b, atol=1e-3) for a, b in zip(*found, strict=True))
