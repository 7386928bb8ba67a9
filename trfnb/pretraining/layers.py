"""What is trained: the layer that a config names, computed fast, under a head with a loss.

Every layer that maps Docs to one array of token vectors for each Doc can be pretrained. Where its
embedding looks at single words and its encoder is spaCy's window encoder, it is computed faster:
each different word of a batch is embedded once, and a loss that looks at one word in seven needs
the convolutions there and in windows around these words alone.

An objective's ``model(docs)`` hides words, computes the layer, and predicts only at the places that
the loss looks at; ``model.attrs["loss"]`` compares, as ``spacy pretrain`` expects.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from spacy.language import Language
from spacy.pipeline.tok2vec import Tok2VecListener
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import (
    LayerNorm,
    Linear,
    Maxout,
    Model,
    NumpyOps,
    chain,
    reduce_mean,
    zero_init,
)
from thinc.types import Floats2d

from trfnb.flow.encoder import EncoderShim
from trfnb.flow.listener import TransformerListener
from trfnb.pipe.model import token_vector_model
from trfnb.pretraining.masking import Hidden
from trfnb.pretraining.text import PretrainingError

Rows = NDArray[np.int64]
Tok2Vec = Model[list[Doc], list[Floats2d]]
# Vectors at rows (rows, width), and what takes their gradient.
Encoded = tuple[Floats2d, Callable[[Floats2d], Any]]
# Predictions (n, nO) and their targets -> the loss summed over rows, and its gradient. A row
# without a target adds nothing to either.
Loss = Callable[[Any, Any], tuple[float, Floats2d]]
# Docs and a random generator -> the words that are shown, and which of all words are predicted.
Task = Callable[..., tuple[list[list[str]], Hidden]]
# Docs, the words shown, and the rows that are predicted -> (rows, …) targets.
Targets = Callable[[Sequence[Doc], list[list[str]], Rows], Any]
SAMPLE = "Give it a doc to infer shapes"


def pretrained_layer(nlp: Language, component: str | None, layer: str) -> Model:
    """Return the layer that ``[pretraining] component`` and ``layer`` name, with weights.

    Raises:
        PretrainingError: there is no such component or layer, it is a listener, or it gives no
            vectors of tokens.
    """
    found = _named(nlp, component, layer)
    if isinstance(found, TransformerListener | Tok2VecListener):
        raise PretrainingError(
            f"[pretraining] component {component!r}, layer {layer!r} expected a layer with "
            f"weights, got a listener to {found.upstream_name!r}. Give component the name of the "
            'shared tok2vec or transformer, and layer = "".'
        )
    reads_vectors = any("static_vectors" in node.name for node in found.walk())
    if reads_vectors and not len(nlp.vocab.vectors):
        raise PretrainingError(
            f"[pretraining] component {component!r} expected word vectors, since its embedding has "
            "include_static_vectors = true, got a vocabulary without. Set [initialize] vectors to "
            "a table (`trfnb vectors convert` makes one), or include_static_vectors to false."
        )
    expected = f"[pretraining] component {component!r}, layer {layer!r} expected a layer that"
    sample = nlp.make_doc(SAMPLE)
    try:
        vectors = _predicted(found, sample)
    except Exception as error:
        raise PretrainingError(f"{expected} reads a doc by itself, got: {error}") from error
    shape = getattr(vectors[0], "shape", ()) if isinstance(vectors, list) and vectors else ()
    if found.name != "transformer_model" and shape[:1] != (len(sample),):
        raise PretrainingError(
            f"{expected} maps docs to one array of token vectors for each doc, got one whose "
            f"output is {type(vectors).__name__}. Give a tok2vec or transformer component, or a "
            'task with layer = "tok2vec".'
        )
    return found


def encoder_shim(model: Model) -> EncoderShim | None:
    """Return the transformer in a model, or None where it has none."""
    shims = (shim for node in model.walk() for shim in node.shims)
    return next((shim for shim in shims if isinstance(shim, EncoderShim)), None)


def use_fast_gemm(model: Model) -> None:
    """Let a model's layers on the CPU multiply by NumPy's BLAS.

    Thinc multiplies by BLIS, which reaches a third of OpenBLAS on processors with 512-bit vectors.
    Weights, sizes and files stay as they are; layers on a GPU too.
    """
    for node in model.walk():
        if isinstance(node.ops, NumpyOps):
            node.ops = NumpyOps(use_blis=False)


@dataclass(frozen=True)
class FullEncoder:
    """Any layer: computed at every token, read at the rows."""

    model: Tok2Vec

    def __call__(
        self, docs: Sequence[Doc], words: Sequence[Sequence[str]], rows: Rows, is_train: bool
    ) -> Encoded:
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
        pad: Rows of zeros between docs; no window of a word reaches beyond them.
    """

    embed: Any
    layers: list[Model]
    window: int
    pad: int

    def __call__(
        self, docs: Sequence[Doc], words: Sequence[Sequence[str]], rows: Rows, is_train: bool
    ) -> Encoded:
        """Return (rows, width) and what takes its gradient; arguments as for `FullEncoder`."""
        number, types, places, end = dict[str, int](), [], [], self.pad
        for one in words:
            types.extend([number.setdefault(word, len(number)) for word in one])
            places.append(np.arange(end, end + len(one)))
            end += len(one) + self.pad
        place, kind = np.concatenate(places), np.array(types, dtype="i")
        (table,), backprop_table = self.embed([Doc(docs[0].vocab, words=list(number))], is_train)
        X: Any = np.zeros((end, table.shape[1]), dtype="f")
        X[place] = table[kind]
        vectors, backprop_windows = self._encode(X, place[rows], is_train)

        def backprop(d_rows: Floats2d) -> None:
            ops: Any = self.embed.ops
            d_table, d_words = ops.alloc2f(*table.shape), backprop_windows(d_rows)
            ops.scatter_add(d_table, kind, np.ascontiguousarray(d_words[place]))
            backprop_table([d_table])

        return vectors, backprop

    # Encodes a padded array of embeddings (n, width) at chosen rows.
    def _encode(self, X: Any, rows: Rows, is_train: bool) -> Encoded:
        around = np.arange(-self.window, self.window + 1)
        wanted = [rows]
        for _ in self.layers:
            # The layer below is read at these rows and at their neighbours.
            wanted.insert(0, np.unique(wanted[0][:, None] + around))
        states = X[wanted[0]]
        backprops: list[Callable[[Any], Any]] = []
        for layer, have, out in zip(self.layers, wanted, wanted[1:], strict=False):
            windows = np.searchsorted(have, out[:, None] + around)
            states, backprop_layer = _encode_layer(layer, states, windows, is_train)
            backprops.insert(0, backprop_layer)

        def backprop(d_states: Any) -> Any:
            for backprop_layer in backprops:
                d_states = backprop_layer(d_states)
            d_X = np.zeros_like(X)
            d_X[wanted[0]] = d_states
            return d_X

        return states, backprop


def row_encoder(model: Tok2Vec, vocab: Vocab) -> FullEncoder | WindowEncoder:
    """Return the fastest way to compute an initialised model at chosen rows."""
    parts = [model.get_ref(name) for name in ("embed", "encode") if model.has_ref(name) is True]
    if len(parts) == 2 and model.layers == parts and model.ops.device_type == "cpu":
        embed, encode = parts
        layers, window = _window_layers(encode)
        pad = encode.attrs.get("pad", 0)
        if layers and pad >= window * len(layers) and _embeds_single_words(embed, vocab):
            return WindowEncoder(embed, layers, window, pad)
    return FullEncoder(model)


def reworded(doc: Doc, words: Sequence[str]) -> Doc:
    """Return a Doc with other words and the same spaces."""
    return Doc(doc.vocab, words=list(words), spaces=[bool(token.whitespace_) for token in doc])


class Prediction(NamedTuple):
    """What a head says, (n, nO), and what it should say, as the loss takes it."""

    output: Any
    targets: Any


def objective_model(
    vocab: Vocab, tok2vec: Model, head: Model, task: Task, targets: Targets, loss: Loss
) -> Model[list[Doc], Prediction]:
    """Put a head on a layer.

    Args:
        vocab: The pipeline's.
        tok2vec: The layer, initialised; a shared transformer too.
        head: From (n, width) vectors to (n, nO) predictions.
        task: Hides words and says where to predict.
        targets: Makes the targets of those places.
        loss: Compares predictions and targets.
    """
    # A shared transformer's rows are averaged.
    shared = tok2vec.name == "transformer_model"
    layer = token_vector_model(tok2vec, reduce_mean()) if shared else tok2vec
    if layer.has_dim("nO") is not True:
        layer.initialize()
    head.initialize(X=layer.ops.alloc2f(1, layer.get_dim("nO")))
    use_fast_gemm(layer)
    use_fast_gemm(head)
    return Model(
        "pretraining",
        _predict,
        layers=[layer, head],
        refs={"tok2vec": tok2vec, "output_layer": head},
        attrs={
            "loss": partial(mean_loss, loss),
            "task": task,
            "targets": targets,
            "row_encoder": row_encoder(layer, vocab),
        },
    )


def mean_loss(
    loss: Loss, ops: Any, docs: Sequence[Doc], prediction: Prediction
) -> tuple[float, Floats2d]:
    """Return the loss summed over a batch's targets, and the gradient of its mean."""
    summed, gradient = loss(ops.to_numpy(prediction.output), prediction.targets)
    return summed, ops.asarray2f(gradient / np.float32(max(len(gradient), 1)))


def _predict(
    model: Model[list[Doc], Prediction], docs: Sequence[Doc], is_train: bool
) -> tuple[Prediction, Callable[[Floats2d], list[Doc]]]:
    words, predicted = model.attrs["task"](docs, rng=step_rng())
    rows = np.flatnonzero(predicted)
    vectors, backprop_encoder = model.attrs["row_encoder"](docs, words, rows, is_train)
    output, backprop_head = model.layers[1](vectors, is_train)

    def backprop(d_output: Floats2d) -> list[Doc]:
        backprop_encoder(backprop_head(d_output))
        return []

    return Prediction(output, model.attrs["targets"](docs, words, rows)), backprop


def step_rng() -> np.random.Generator:
    """Return a generator that follows from Python's random state, which `fix_random_seed` sets."""
    return np.random.default_rng(random.getrandbits(64))


def hidden_layer_head(width: int, pieces: int, nO: int) -> Model[Floats2d, Floats2d]:
    """Return a head of one hidden layer, as spaCy's objectives have them; zero at first."""
    hidden: Any = chain(Maxout(nO=width, nP=pieces), LayerNorm(nI=width))
    return chain(hidden, Linear(nO=nO, nI=width, init_W=zero_init))


def cross_entropy(logits: Any, targets: Any) -> tuple[float, Floats2d]:
    """Cross-entropy in nats of several choices a row, each between the same number of classes.

    Args:
        logits: (n, choices * classes).
        targets: (n, choices) numbers of classes, negative where there is none.
    """
    n, choices = targets.shape
    gradient = logits.reshape(n, choices, -1)
    gradient = np.exp(gradient - gradient.max(axis=-1, keepdims=True))
    gradient /= gradient.sum(axis=-1, keepdims=True)
    known = targets >= 0
    at = (*known.nonzero(), targets[known])
    total = -float(np.log(np.maximum(gradient[at], 1e-12)).sum())
    gradient[at] -= 1
    gradient[~known] = 0
    return total, gradient.reshape(logits.shape)


def one_hot(numbers: Any, targets: Any) -> tuple[float, Floats2d]:
    """Half the squared distance from one-hot rows; arguments as for `cross_entropy`."""
    n, choices = targets.shape
    difference = numbers.reshape(n, choices, -1).copy()
    difference[(*np.indices(targets.shape), targets)] -= 1
    return float((difference**2).sum() / 2), difference.reshape(numbers.shape)


def binary(logits: Any, targets: Any) -> tuple[float, Floats2d]:
    """Cross-entropy in nats of one yes or no a row: logits (n, 1), targets (n, 1) of 0 and 1."""
    total = float((np.logaddexp(0, logits) - targets * logits).sum())
    return total, (1 / (1 + np.exp(-logits)) - targets).astype("f")


def cosine(predicted: Any, targets: Any) -> tuple[float, Floats2d]:
    """One minus the cosine."""
    length, known = _norm(predicted), (targets != 0).any(axis=1, keepdims=True)
    direction, wanted = predicted / length, targets / _norm(targets)
    near = (direction * wanted).sum(axis=1, keepdims=True)
    gradient = -(wanted - near * direction) / length * known
    return float(((1 - near) * known).sum()), gradient.astype("f")


def squared(predicted: Any, targets: Any) -> tuple[float, Floats2d]:
    """Half the squared distance to the target made one long, so that no target weighs more."""
    known = (targets != 0).any(axis=1, keepdims=True)
    difference = (predicted - targets / _norm(targets)) * known
    return float((difference**2).sum() / 2), difference.astype("f")


DISTANCES: dict[str, Loss] = {"cosine": cosine, "L2": squared}


def _norm(rows: Any) -> Any:
    return np.maximum(np.sqrt((rows**2).sum(axis=1, keepdims=True)), 1e-8)


def _named(nlp: Language, component: str | None, layer: str) -> Model:
    parts = {name: getattr(part, "model", None) for name, part in nlp.components}
    models = {name: model for name, model in parts.items() if isinstance(model, Model)}
    if component not in models:
        raise PretrainingError(
            "[pretraining] component expected one of the pipeline's that have a model "
            f"({', '.join(models) or 'none'}), got {component!r}. Name the one whose weights to "
            "pretrain."
        )
    model = models[component]
    if layer and model.has_ref(layer) is not True:
        raise PretrainingError(
            f"[pretraining] layer expected one of those that {component!r} names "
            f"({', '.join(map(repr, model.ref_names)) or 'none'}), got {layer!r}. Name another, or "
            "leave it empty for the whole model."
        )
    return model.get_ref(layer) if layer else model


# A model's output for a doc; the model is initialised first if it has no weights yet.
def _predicted(model: Model, sample: Doc) -> Any:
    try:
        return model.predict([sample])
    except Exception:
        return model.initialize(X=[sample]).predict([sample])


# What follows each window in ``with_array(clone(residual(expand_window >> …)))``, and the windows'
# size; no layers for another encoder.
def _window_layers(encode: Model) -> tuple[list[Model], int]:
    inner = encode.layers[0] if encode.layers else encode
    # A single layer is not chained.
    blocks = [inner] if len(inner.layers) == 1 else inner.layers
    parts = [part for block in blocks for part in block.layers]
    residual = all(block.name.startswith("residual(expand_window>>") for block in blocks)
    if not residual or not all(len(part.layers) == 2 for part in parts):
        return [], 0
    sizes = {part.layers[0].attrs["window_size"] for part in parts}
    return ([part.layers[1] for part in parts], sizes.pop()) if len(sizes) == 1 else ([], 0)


# Computes one layer at windows (n, 2 * window + 1) of rows of the states below.
def _encode_layer(layer: Any, states: Any, windows: Rows, is_train: bool) -> Encoded:
    middle = windows[:, windows.shape[1] // 2]
    output, backprop_layer = layer(states[windows].reshape(len(windows), -1), is_train)

    def backprop(d_output: Any) -> Any:
        d_columns = backprop_layer(d_output).reshape(*windows.shape, -1)
        d_states = np.zeros(states.shape, dtype="f")
        # At one place of all windows each row stands at most once: indexed addition adds all.
        for i, column in enumerate(windows.T):
            d_states[column] += d_columns[:, i]
        d_states[middle] += d_output
        return d_states

    return states[middle] + output, backprop


# Tries out that a word's vector stays the same among other words and without its space.
def _embeds_single_words(embed: Any, vocab: Vocab) -> bool:
    # Of a word that stands twice spaCy's character embedding keeps one of the gradients.
    if any(node.name == "charembed" for node in embed.walk()):
        return False
    words = ["Where", "the", "river", "bends", ",", "42", "boats", "wait"]
    (there,) = embed.predict([Doc(vocab, words=words, spaces=[True] * len(words))])
    (back,) = embed.predict([Doc(vocab, words=words[::-1], spaces=[False] * len(words))])
    return np.allclose(there, back[::-1], atol=1e-6)
