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
from typing import Any, NamedTuple, cast

import numpy as np
import torch
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
from torch.nn import functional

from trfnb.flow.encoder import EncoderShim, encoders
from trfnb.flow.listener import TransformerListener
from trfnb.pipe.model import TokenVectors
from trfnb.pretraining.masking import Masked
from trfnb.pretraining.text import PretrainingError

Rows = NDArray[np.int64]
Tok2Vec = Model[list[Doc], list[Floats2d]]
# Vectors at rows (rows, width), and what takes their gradient.
Encoded = tuple[Floats2d, Callable[[Floats2d], Any]]
# Predictions (n, nO) and their targets -> the loss summed over rows.
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# Docs and a random generator -> what is shown, words as a rule, and which of it is predicted.
Task = Callable[..., tuple[Any, Masked]]
# Docs, what is shown, and the rows that are predicted -> (rows, …) targets: numbers of classes, -1
# where there is none, or vectors, zeros where there is none.
Targets = Callable[[Sequence[Doc], Any, Rows], Any]
SAMPLE = "Give it a doc to infer shapes"


def pretrained_layer(nlp: Language, component: str | None, layer: str) -> Model:
    """Return the layer that ``[pretraining] component`` and ``layer`` name, with weights.

    Raises:
        PretrainingError: there is no such component or layer, it is a listener, or it gives no
            vectors of tokens.
    """
    model = _named(nlp, component, layer)
    if isinstance(model, TransformerListener | Tok2VecListener):
        raise PretrainingError(
            f"[pretraining] component {component!r}, layer {layer!r} expected a layer with "
            f"weights, got a listener to {model.upstream_name!r}. Give component the name of the "
            'shared tok2vec or transformer, and layer = "".'
        )
    reads_vectors = any("static_vectors" in node.name for node in model.walk())
    if reads_vectors and not len(nlp.vocab.vectors):
        raise PretrainingError(
            f"[pretraining] component {component!r} expected word vectors, since its embedding has "
            "include_static_vectors = true, got a vocabulary without. Set [initialize] vectors to "
            "a table (`trfnb vectors convert` makes one), or include_static_vectors to false."
        )
    expected = f"[pretraining] component {component!r}, layer {layer!r} expected a layer that"
    sample = nlp.make_doc(SAMPLE)
    try:
        vectors = _predicted(model, sample)
    except Exception as error:
        raise PretrainingError(f"{expected} reads a doc by itself, got: {error}") from error
    shape = getattr(vectors[0], "shape", ()) if isinstance(vectors, list) and vectors else ()
    if model.name != "transformer_model" and shape[:1] != (len(sample),):
        raise PretrainingError(
            f"{expected} maps docs to one array of token vectors for each doc, got one whose "
            f"output is {type(vectors).__name__}. Give a tok2vec or transformer component, or a "
            'task with layer = "tok2vec".'
        )
    return model


def encoder_shim(model: Model) -> EncoderShim | None:
    """Return the transformer in a model, or None where it has none."""
    return next((cast(EncoderShim, node.shims[0]) for node in encoders(model)), None)


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
        read = [reworded(doc, shown) for doc, shown in zip(docs, words, strict=True)]
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
    """Embeds each different word once, and convolves the stretches around the rows alone.

    The same numbers and gradients as from all rows: the lowest convolution reads as far around the
    rows as all of them see, and each one above it a window less.

    Attributes:
        embed: Looks at single words.
        convolutions: From the bottom up.
        window: Words that one sees on either side.
    """

    embed: Any
    convolutions: Sequence[Any]
    window: int

    def __call__(
        self, docs: Sequence[Doc], words: Sequence[Sequence[str]], rows: Rows, is_train: bool
    ) -> Encoded:
        """Return (rows, width) and what takes its gradient; arguments as for `FullEncoder`."""
        flat = [word for of_doc in words for word in of_doc]
        number = {word: i for i, word in enumerate(dict.fromkeys(flat))}
        kind = np.array([number[word] for word in flat], dtype="i")
        (table,), backprop_table = self.embed([Doc(docs[0].vocab, words=list(number))], is_train)
        # All docs on one line, with rows of zeros between them as far as a word sees.
        reach, around = self.window * len(self.convolutions), range(-self.window, self.window + 1)
        doc = np.repeat(np.arange(len(words)), [len(of_doc) for of_doc in words])
        place = np.arange(len(flat)) + reach * (doc + 1)
        line = np.zeros((len(flat) + reach * (len(words) + 1), table.shape[1]), dtype="f")
        line[place] = table[kind]
        read = [place[rows]]
        for _ in self.convolutions:
            read.insert(0, np.unique(read[0][:, None] + np.array(around)))
        states, steps = line[read[0]], []
        for convolution, have, out in zip(self.convolutions, read, read[1:], strict=False):
            computed, backprop_convolution = convolution(states, is_train)
            kept = np.searchsorted(have, out)
            states = computed[kept]
            steps.append((backprop_convolution, computed, kept))

        def backprop(d_states: Floats2d) -> None:
            for backprop_convolution, computed, kept in reversed(steps):
                d_computed = np.zeros_like(computed)
                d_computed[kept] = d_states
                d_states = backprop_convolution(d_computed)
            d_line, d_table = np.zeros_like(line), self.embed.ops.alloc2f(*table.shape)
            d_line[read[0]] = d_states
            self.embed.ops.scatter_add(d_table, kind, d_line[place])
            backprop_table([d_table])

        return states, backprop


def row_encoder(model: Tok2Vec, vocab: Vocab) -> FullEncoder | WindowEncoder:
    """Return the fastest way to compute an initialised model at chosen rows.

    Whether windows give the same is found by a trial.
    """
    full = FullEncoder(model)
    parts = [model.get_ref(name) for name in ("embed", "encode") if model.has_ref(name) is True]
    reach = parts[-1].attrs.get("pad", 0) if parts else 0
    # Of a word that stands twice spaCy's character embedding keeps one of the gradients.
    odd = model.layers != parts or any(node.name == "charembed" for node in model.walk())
    if odd or not reach or model.ops.device_type != "cpu":
        return full
    inner = parts[1].layers[0]
    # A single convolution is not chained.
    convolutions = inner.layers if inner.name.count("expand_window") > 1 else [inner]
    fast = WindowEncoder(parts[0], convolutions, reach // len(convolutions))
    words = [f"{word}{i % 7}" for i in range(3 * reach) for word in ("The", "river", "42", ",")]
    doc = Doc(vocab, words=words, spaces=[i % 3 > 0 for i in range(len(words))])
    rows = np.array([0, 2 * reach, 9 * reach])
    computed: list[Any] = [way([doc], [words], rows, False)[0] for way in (fast, full)]
    return fast if np.allclose(computed[0], computed[1], atol=1e-6) else full


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
    layer = TokenVectors(tok2vec, reduce_mean()) if shared else tok2vec
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
    if not len(prediction.output):
        return 0.0, prediction.output
    output = torch.tensor(ops.to_numpy(prediction.output), requires_grad=True)
    summed = loss(output, torch.from_numpy(prediction.targets))
    (gradient,) = torch.autograd.grad(summed, output)
    return float(summed.detach()), ops.asarray2f(gradient.numpy() / len(output))


def _predict(
    model: Model[list[Doc], Prediction], docs: Sequence[Doc], is_train: bool
) -> tuple[Prediction, Callable[[Floats2d], list[Doc]]]:
    # It follows from Python's random state, which `fix_random_seed` sets.
    rng = np.random.default_rng(random.getrandbits(64))
    shown, predicted = model.attrs["task"](docs, rng=rng)
    rows = np.flatnonzero(predicted)
    targets = model.attrs["targets"](docs, shown, rows)
    # A mean over places without a target would be lower the more of them there are.
    known = (targets >= 0 if targets.dtype.kind == "i" else targets != 0).any(axis=1)
    rows, targets = rows[known], targets[known]
    vectors, backprop_encoder = model.attrs["row_encoder"](docs, shown, rows, is_train)
    output, backprop_head = model.layers[1](vectors, is_train)

    def backprop(d_output: Floats2d) -> list[Doc]:
        if len(rows):  # Thinc's layers take no empty batch
            backprop_encoder(backprop_head(d_output))
        return []

    return Prediction(output, targets), backprop


def hidden_layer_head(width: int, pieces: int, nO: int) -> Model[Floats2d, Floats2d]:
    """Return a head of one hidden layer, as spaCy's objectives have them; zero at first."""
    hidden: Any = chain(Maxout(nO=width, nP=pieces), LayerNorm(nI=width))
    return chain(hidden, Linear(nO=nO, nI=width, init_W=zero_init))


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats of several choices a row, each between the same number of classes.

    Args:
        logits: (n, choices * classes).
        targets: (n, choices) numbers of classes.
    """
    choices = logits.reshape(targets.numel(), -1)
    return functional.cross_entropy(choices, targets.flatten(), reduction="sum")


def one_hot(numbers: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Half the squared distance from one-hot rows; arguments as for `cross_entropy`."""
    choices = numbers.reshape(*targets.shape, -1)
    wanted = functional.one_hot(targets, choices.shape[-1]).to(choices)
    return functional.mse_loss(choices, wanted, reduction="sum") / 2


def binary(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats of one yes or no a row: logits (n, 1), targets (n, 1) of 0 and 1."""
    wanted = targets.to(logits)
    return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")


def cosine(predicted: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """One minus the cosine."""
    return (1 - functional.cosine_similarity(predicted, targets)).sum()


def squared(predicted: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Half the squared distance to the target made one long, so that no target weighs more."""
    return functional.mse_loss(predicted, functional.normalize(targets), reduction="sum") / 2


DISTANCES: dict[str, Loss] = {"cosine": cosine, "L2": squared}


def _named(nlp: Language, component: str | None, layer: str) -> Model:
    models: dict[str, Model] = {
        name: model
        for name, part in nlp.components
        if isinstance(model := getattr(part, "model", None), Model)
    }
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
