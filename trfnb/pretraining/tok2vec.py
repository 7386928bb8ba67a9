"""What is pretrained: the layer that a config names, and a fast way to compute it.

Every layer that maps Docs to one array of token vectors for each Doc can be pretrained. Where its
embedding looks at single words and its encoder is spaCy's window encoder, it is computed faster:
each different word of a batch is embedded once, and a loss that looks at one word in seven needs
the convolutions there and in windows around these words alone.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from spacy.language import Language
from spacy.pipeline.tok2vec import Tok2VecListener
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model, NumpyOps, reduce_mean
from thinc.types import Floats2d

from trfnb.flow.listener import TransformerListener
from trfnb.flow.runtime import native_bf16
from trfnb.flow.encoder import EncoderShim
from trfnb.pipe.model import token_vector_model
from trfnb.pretraining.text import PretrainingError

logger = logging.getLogger("spacy")

Precision = Literal["fp32", "bf16", "auto"]
Rows = NDArray[np.int64]
Tok2Vec = Model[list[Doc], list[Floats2d]]
SAMPLE = "Give it a doc to infer shapes"


def pretrained_layer(nlp: Language, component: str | None, layer: str) -> Model:
    """Return the layer that ``[pretraining] component`` and ``layer`` name, with weights.

    A listener stands for the shared component that it listens to; the log says so.

    Raises:
        PretrainingError: there is no such component or layer, or it gives no vectors of tokens.
    """
    found = _named(nlp, component, layer)
    if isinstance(found, TransformerListener | Tok2VecListener):
        factories = ("tok2vec", "transformer", "trfnb_transformer", "trfnb_tok2vec")
        shared = [n for n in nlp.component_names if nlp.get_pipe_meta(n).factory in factories]
        name = found.upstream_name if found.upstream_name != "*" else next(iter(shared), "tok2vec")
        logger.warning(
            "[pretraining] layer %r of component %r is a listener without weights: the component "
            "%r that it listens to is pretrained, for all that listen to it.",
            layer,
            component,
            name,
        )
        found = _named(nlp, name, "")
    sample = nlp.make_doc(SAMPLE)
    nodes = list(found.walk())
    reads_vectors = any("static_vectors" in node.name for node in nodes)
    if reads_vectors and not len(nlp.vocab.vectors):
        raise PretrainingError(
            f"[pretraining] component {component!r} expected word vectors, since its embedding has "
            "include_static_vectors = true, got a vocabulary without. Set [initialize] vectors to "
            "a table (`trfnb vectors convert` makes one), or include_static_vectors to false."
        )
    arrays = all(node.has_param(name) for node in nodes for name in node.param_names)
    shims = [shim for node in nodes for shim in node.shims]
    ready = arrays and all(getattr(shim, "_model", None) is not None for shim in shims)
    try:
        vectors: Any = (found if ready else found.initialize(X=[sample])).predict([sample])
    except Exception as error:
        raise PretrainingError(
            f"[pretraining] component {component!r}, layer {layer!r} expected a layer that reads a "
            f"doc by itself, got one that cannot: {error}"
        ) from error
    if found.name == "transformer_model":
        return found
    shape = getattr(vectors[0], "shape", None) if isinstance(vectors, list) and vectors else None
    if shape is None or len(shape) != 2 or shape[0] != len(sample):
        raise PretrainingError(
            f"[pretraining] component {component!r}, layer {layer!r} expected a layer that maps "
            "docs to one array of token vectors for each doc, got one whose output is "
            f"{type(vectors).__name__}. Give a tok2vec or transformer component, or a task with "
            'layer = "tok2vec".'
        )
    return found


def token_vectors(model: Model) -> Tok2Vec:
    """Return a model of one array for each Doc: a shared transformer's rows are averaged."""
    return token_vector_model(model, reduce_mean()) if model.name == "transformer_model" else model


def encoder_shim(model: Model) -> EncoderShim | None:
    """Return the transformer in a model, or None where it has none."""
    shims = [shim for node in model.walk() for shim in node.shims]
    return next((shim for shim in shims if isinstance(shim, EncoderShim)), None)


class Bf16Ops(NumpyOps):
    """NumPy operations with matrix products in bf16, summed in fp32."""

    def gemm(
        self, x: Any, y: Any, out: Any = None, trans1: bool = False, trans2: bool = False
    ) -> Any:
        """Multiply two matrices rounded to bf16; ``out`` is overwritten where it is given."""
        a, b = (torch.from_numpy(np.ascontiguousarray(z)).bfloat16() for z in (x, y))
        product = torch.mm(a.T if trans1 else a, b.T if trans2 else b).float().numpy()
        if out is None:
            return product
        out[...] = product
        return out


def use_fast_gemm(model: Model, precision: Precision = "fp32") -> None:
    """Let a model's layers on the CPU multiply by NumPy's BLAS, or by PyTorch's in bf16.

    Thinc multiplies by BLIS, which reaches a third of OpenBLAS on processors with 512-bit vectors.
    Weights, sizes and files stay as they are; layers on a GPU too.

    Args:
        model: Changed in place.
        precision: ``"auto"`` is bf16 where the processor has it.
    """
    bf16 = precision == "bf16" or (precision == "auto" and native_bf16(torch.device("cpu")))
    ops = Bf16Ops() if bf16 else NumpyOps(use_blis=False)
    for node in model.walk():
        if isinstance(node.ops, NumpyOps):
            node.ops = ops


@dataclass(frozen=True)
class FullEncoder:
    """Any layer: computed at every token, read at the rows."""

    model: Tok2Vec

    def __call__(
        self, docs: Sequence[Doc], words: Sequence[Sequence[str]], rows: Rows, is_train: bool
    ) -> tuple[Floats2d, Callable[[Floats2d], None]]:
        """Return (rows, width) and what takes its gradient.

        Args:
            docs: Give vocabulary and spaces.
            words: What to read in place of each doc's words.
            rows: Sorted positions in all words, one doc after another.
            is_train: Whether dropout applies.
        """
        read = [reworded(doc, one) for doc, one in zip(docs, words, strict=True)]
        vectors, backprop = self.model(read, is_train)
        ops = self.model.ops
        flat: Any = ops.flatten(vectors)
        lengths = ops.asarray1i([len(doc) for doc in read])

        def backprop_rows(d_rows: Floats2d) -> None:
            d_flat: Any = ops.alloc2f(*flat.shape)
            d_flat[rows] = d_rows
            backprop(ops.unflatten(d_flat, lengths))

        return flat[rows], backprop_rows


@dataclass(frozen=True)
class WindowEncoder:
    """Embeds each different word once, and computes windows around the rows alone.

    The same numbers and gradients as from all rows, from less than half of the products: each
    layer is computed where the one above reads it and nowhere else.

    Attributes:
        embed: Looks at single words.
        layers: What each layer does with a row's window, from the bottom up.
        window: Rows on either side.
        pad: Rows of zeros between docs.
    """

    embed: Tok2Vec
    layers: list[Model]
    window: int
    pad: int

    def __call__(
        self, docs: Sequence[Doc], words: Sequence[Sequence[str]], rows: Rows, is_train: bool
    ) -> tuple[Floats2d, Callable[[Floats2d], None]]:
        """Return (rows, width) and what takes its gradient; arguments as for `FullEncoder`."""
        number, types, places, end = dict[str, int](), [], [], self.pad
        for one in words:
            types.extend([number.setdefault(word, len(number)) for word in one])
            places.append(np.arange(end, end + len(one)))
            end += len(one) + self.pad
        place, kind = np.concatenate(places), np.array(types, dtype="i")
        table: Any
        (table,), backprop_table = self.embed([Doc(docs[0].vocab, words=list(number))], is_train)
        X: Any = np.zeros((end, table.shape[1]), dtype="f")
        X[place] = table[kind]
        vectors, backprop_windows = self.encode(X, place[rows], is_train)

        def backprop(d_rows: Floats2d) -> None:
            ops: Any = self.embed.ops
            d_table, d_words = ops.alloc2f(*table.shape), backprop_windows(d_rows)
            ops.scatter_add(d_table, kind, np.ascontiguousarray(d_words[place]))
            backprop_table([d_table])

        return vectors, backprop

    def encode(
        self, X: Any, rows: Rows, is_train: bool
    ) -> tuple[Floats2d, Callable[[Floats2d], Any]]:
        """Encode a padded array of embeddings (n, width) at chosen rows."""
        n, wanted = len(X), [rows]
        for _ in self.layers[1:]:
            # The layer below is read at these rows and at their neighbours.
            near = np.unique(wanted[-1][:, None] + np.arange(-self.window, self.window + 1))
            wanted.append(near[(near >= 0) & (near < n)])
        have: Rows = np.arange(n)
        states: Any = X
        backprops: list[Callable[[Any], Any]] = []
        for layer, rows_out in zip(self.layers, reversed(wanted), strict=True):
            states, backprop = self._encode_layer(layer, states, have, rows_out, n, is_train)
            backprops.append(backprop)
            have = rows_out

        def backprop_rows(d_states: Any) -> Any:
            for backprop in reversed(backprops):
                d_states = backprop(d_states)
            return d_states

        return states, backprop_rows

    def _encode_layer(
        self, layer: Model, states: Any, have: Rows, rows: Rows, n: int, is_train: bool
    ) -> tuple[Any, Callable[[Any], Any]]:
        """Compute one layer at ``rows`` from the states below, which are those of rows ``have``."""
        place = np.zeros(n, dtype=np.int64)
        place[have] = np.arange(len(have))
        near = rows[:, None] + np.arange(-self.window, self.window + 1)
        valid = (near >= 0) & (near < n)
        windows = place[np.clip(near, 0, n - 1)]
        columns = states[windows]
        columns[~valid] = 0
        output: Any = columns.reshape(len(rows), -1)
        backprops = []
        for part in layer.layers[1:]:
            output, backprop_part = part(output, is_train)
            backprops.append(backprop_part)

        def backprop(d_output: Any) -> Any:
            d_columns = d_output
            for backprop_part in reversed(backprops):
                d_columns = backprop_part(d_columns)
            d_columns = d_columns.reshape(*windows.shape, -1)
            d_states = np.zeros(states.shape, dtype="f")
            # At one place of all windows each row stands at most once: indexed addition adds all.
            for i in range(windows.shape[1]):
                d_states[windows[valid[:, i], i]] += d_columns[valid[:, i], i]
            d_states[windows[:, self.window]] += d_output
            return d_states

        return states[windows[:, self.window]] + output, backprop


def row_encoder(model: Tok2Vec, vocab: Vocab) -> FullEncoder | WindowEncoder:
    """Return the fastest way to compute an initialised model at chosen rows."""
    parts = [model.get_ref(name) for name in ("embed", "encode") if model.has_ref(name) is True]
    if len(parts) == 2 and model.layers == parts and model.ops.device_type == "cpu":
        embed, encode = parts
        layers = _window_layers(encode)
        windows = {int(layer.layers[0].attrs["window_size"]) for layer in layers}
        if len(windows) == 1 and _embeds_single_words(embed, vocab):
            return WindowEncoder(embed, layers, windows.pop(), int(encode.attrs["pad"]))
    return FullEncoder(model)


def reworded(doc: Doc, words: Sequence[str]) -> Doc:
    """Return a Doc with other words and the same spaces."""
    return Doc(doc.vocab, words=list(words), spaces=[bool(token.whitespace_) for token in doc])


def _named(nlp: Language, component: str | None, layer: str) -> Model:
    if component is None or component not in nlp.component_names:
        raise PretrainingError(
            "[pretraining] component expected one of the pipeline's "
            f"({', '.join(nlp.component_names) or 'none'}), got {component!r}. Name the one whose "
            "weights to pretrain."
        )
    model = getattr(nlp.get_pipe(component), "model", None)
    if not isinstance(model, Model):
        raise PretrainingError(
            f"[pretraining] component expected a trainable one, got {component!r}, which has no "
            "model. Name another."
        )
    if not layer:
        return model
    if layer not in model.ref_names or not model.has_ref(layer):
        known = ", ".join(repr(name) for name in model.ref_names) or "none"
        raise PretrainingError(
            f"[pretraining] layer expected one of those that {component!r} names ({known}), "
            f"got {layer!r}. Name another, or leave it empty for the whole model."
        )
    return model.get_ref(layer)


def _window_layers(encode: Model) -> list[Model]:
    """Return the layers of ``with_array(clone(residual(expand_window >> …)))``; none for others."""
    if not encode.name.startswith("with_array(") or "pad" not in encode.attrs:
        return []
    (inner,) = encode.layers
    # A single layer is not chained.
    blocks = [inner] if len(inner.layers) == 1 else inner.layers
    layers = []
    for block in blocks:
        if not block.name.startswith("residual(") or len(block.layers) != 1:
            return []
        part = block.layers[0]
        if not part.layers or part.layers[0].name != "expand_window":
            return []
        layers.append(part)
    return layers


def _embeds_single_words(embed: Tok2Vec, vocab: Vocab) -> bool:
    """Try out that a word's vector stays the same among other words and without its space.

    A word that stands twice must also send the sum of both gradients: spaCy's character embedding
    keeps one of them, so that it matters in which Docs words stand.
    """
    words = ["Where", "the", "river", "bends", ",", "42", "boats", "wait"]
    there: Any
    back: Any
    (there,) = embed.predict([Doc(vocab, words=words, spaces=[True] * len(words))])
    (back,) = embed.predict([Doc(vocab, words=words[::-1], spaces=[False] * len(words))])
    if not np.allclose(there, back[::-1], atol=1e-6):
        return False
    d_words = np.random.default_rng(0).normal(size=there.shape).astype("f")
    found: list[list[Any]] = []
    for times in (1, 2):
        _, backprop = embed([Doc(vocab, words=words * times)], True)
        d_vectors: Any = np.tile(d_words * (2 / times), (times, 1))
        backprop([d_vectors])
        gradients: list[Any] = [n.get_grad(name) for n in embed.walk() for name in n.grad_names]
        found.append([gradient.copy() for gradient in gradients])
        for gradient in gradients:
            gradient[...] = 0
    return all(np.allclose(a, b, atol=1e-3) for a, b in zip(*found, strict=True))
