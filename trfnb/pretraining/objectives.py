"""Objectives: what is hidden, what must be predicted there, and how far a prediction is from it.

An objective is called with a vocabulary and a tok2vec layer, and returns the model that
``trfnb pretrain`` and ``spacy pretrain`` both train; see `trfnb.pretraining.layers`. It raises a
`PretrainingError` where the layer, the vocabulary or the text cannot give what it predicts.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc
from spacy.util import get_lang_class, registry
from spacy.vocab import Vocab
from thinc.api import Gelu, LayerNorm, Linear, Model, chain, reduce_mean, to_numpy
from thinc.types import Floats2d

from trfnb import models
from trfnb.flow.encoder import EncoderShim, encoders
from trfnb.flow.runtime import Runtime
from trfnb.flow.spans import get_doc_spans
from trfnb.flow.wordpieces import Wordpieces, encode, max_wordpieces
from trfnb.pipe.model import TokenVectors, transformer_model
from trfnb.pretraining.layers import (
    DISTANCES,
    Encoded,
    Task,
    binary,
    cross_entropy,
    encoder_shim,
    hidden_layer_head,
    objective_model,
    one_hot,
)
from trfnb.pretraining.masking import (
    MASK,
    Masked,
    RandomMask,
    Replacement,
    Strategy,
    WholeWordMask,
    corrupt,
    corrupt_wordpieces,
    words_of,
)
from trfnb.pretraining.text import PretrainingError, texts
from trfnb.vectors.store import word_vectors

Objective = Callable[..., Model]


def objective(name: str) -> Callable[[Objective], Objective]:
    """Register a function of a vocabulary, a layer and settings.

    The registry gives it the settings, which are pickled with it; who trains gives it the
    vocabulary and the layer.

    Args:
        name: In the registry of architectures.
    """

    def register(build: Objective) -> Objective:
        def configured(**settings: Any) -> Callable[[Vocab, Model], Model]:
            return partial(build, **settings)

        configured.__signature__ = signature(partial(build, None, None))  # type: ignore[attr-defined]
        registry.architectures.register(name, func=configured)
        return build

    return register


@objective("trfnb.PretrainCharacters.v1")
def pretrain_characters(
    vocab: Vocab,
    tok2vec: Model,
    n_characters: int = 4,
    loss: Literal["cross_entropy", "squared"] = "cross_entropy",
    maxout_pieces: int = 3,
    hidden_size: int = 300,
    masking: Strategy | None = None,
) -> Model:
    """Predict a hidden word's first and last bytes.

    The targets are those of spaCy's ``PretrainCharacters``
    (https://spacy.io/api/architectures#pretrain_chars), an approximation of BERT's objective whose
    output layer does not grow with the vocabulary.

    Args:
        vocab: The pipeline's.
        tok2vec: The layer to pretrain.
        n_characters: Bytes to predict, half from the front and half from the back.
        loss: ``"squared"`` is what spaCy's objective computes: the distance from one-hot rows,
            since its ``MultiSoftmax`` makes no probabilities.
        maxout_pieces: Of the head's hidden layer.
        hidden_size: Its width.
        masking: Which words to hide; 15 % at random by default.
    """
    head = hidden_layer_head(hidden_size, maxout_pieces, n_characters * 256)  # a byte's values
    targets = partial(character_targets, n_characters=n_characters)
    compared = one_hot if loss == "squared" else cross_entropy
    return objective_model(vocab, tok2vec, head, _hiding(tok2vec, masking), targets, compared)


@objective("trfnb.PretrainVectors.v1")
def pretrain_vectors(
    vocab: Vocab,
    tok2vec: Model,
    loss: Literal["cosine", "L2"] = "cosine",
    maxout_pieces: int = 3,
    hidden_size: int = 300,
    masking: Strategy | None = None,
) -> Model:
    """Predict a hidden word's static vector, as spaCy's ``PretrainVectors`` does.

    See https://spacy.io/api/architectures#pretrain_vectors. Words without a vector teach nothing.

    Args:
        vocab: With the vectors.
        tok2vec: The layer to pretrain.
        loss: Distance between a prediction and the vector: `cosine` or, as ``"L2"``, `squared`.
        maxout_pieces: As for `pretrain_characters`, as are the next two.
        hidden_size: Of the head's hidden layer.
        masking: Which words to hide.
    """
    if 0 in vocab.vectors.shape:
        raise PretrainingError(
            "The objective of word vectors expected a vocabulary with vectors, got one "
            "without. Set [initialize] vectors to a table (`trfnb vectors convert` makes "
            "one), or take another objective."
        )
    head = hidden_layer_head(hidden_size, maxout_pieces, vocab.vectors.shape[1])
    model = objective_model(
        vocab, tok2vec, head, _hiding(tok2vec, masking), vector_targets, DISTANCES[loss]
    )
    model.attrs["check_text"] = check_vectors
    return model


@objective("trfnb.PretrainWords.v1")
def pretrain_words(
    vocab: Vocab,
    tok2vec: Model,
    text: Path,
    size: int = 4000,
    maxout_pieces: int = 3,
    hidden_size: int = 300,
    masking: Strategy | None = None,
) -> Model:
    """Predict which frequent word was hidden: masked language modelling over words.

    BERT's objective (Devlin et al., 2019, https://arxiv.org/abs/1810.04805) for an encoder of
    words. A hidden word that is not among the frequent ones teaches nothing.

    Args:
        vocab: The pipeline's.
        tok2vec: The layer to pretrain.
        text: Where words are counted: a file or folder of raw text, as a rule the one trained on.
        size: How many words to tell apart.
        maxout_pieces: As for `pretrain_characters`, as are the next two.
        hidden_size: Of the head's hidden layer.
        masking: Which words to hide.
    """
    words = _frequent_words(Path(text), vocab, size)
    if len(words) < 2:
        raise PretrainingError(f"{text}: expected a text of different words, got {words}.")
    head = hidden_layer_head(hidden_size, maxout_pieces, len(words))
    targets = partial(_word_targets, numbers={word: i for i, word in enumerate(words)})
    return objective_model(vocab, tok2vec, head, _hiding(tok2vec, masking), targets, cross_entropy)


@objective("trfnb.PretrainReplaced.v1")
def pretrain_replaced(
    vocab: Vocab,
    tok2vec: Model,
    maxout_pieces: int = 3,
    hidden_size: int = 300,
    masking: Strategy | None = None,
) -> Model:
    """Tell which words were replaced by others: a loss at every word, not at hidden ones alone.

    After ELECTRA (Clark et al., 2020, https://arxiv.org/abs/2003.10555). Its generator is a small
    language model; here replacements are drawn from the batch as often as words occur there.

    Args:
        vocab: The pipeline's.
        tok2vec: The layer to pretrain.
        maxout_pieces: As for `pretrain_characters`, as is the next.
        hidden_size: Of the head's hidden layer.
        masking: Which words to replace; 15 % at random by default.
    """
    head = hidden_layer_head(hidden_size, maxout_pieces, 1)
    task = partial(_replaced_words, masking or RandomMask())
    return objective_model(vocab, tok2vec, head, task, _replaced_targets, binary)


@objective("trfnb.PretrainDistillation.v1")
def pretrain_distillation(
    vocab: Vocab,
    tok2vec: Model,
    teacher: str = "minilm",
    layer: int = -1,
    loss: Literal["cosine", "L2"] = "cosine",
) -> Model:
    """Predict a transformer's vector of every word: distillation.

    The layer learns to give what the teacher's layer gives, through a linear map (as FitNets,
    Romero et al., 2015, https://arxiv.org/abs/1412.6550, and TinyBERT, Jiao et al., 2020,
    https://arxiv.org/abs/1909.10351, learn hidden states).

    Args:
        vocab: The pipeline's.
        tok2vec: The layer to pretrain.
        teacher: ``"minilm"``, a local path or a hub name.
        layer: The teacher's layer; 0 is the embeddings' output, -1 the last.
        loss: Distance between a prediction and the teacher's vector.
    """
    source = models.path(teacher) if teacher == "minilm" else teacher
    shared = transformer_model(EncoderShim(source), get_doc_spans, Runtime())
    # A token's vector is the mean of its wordpieces'.
    vectors = TokenVectors(shared, reduce_mean(), layer=layer)
    vectors.initialize()
    head: Any = Linear(nO=vectors.get_dim("nO"))
    targets = partial(_teacher_targets, vectors)
    return objective_model(vocab, tok2vec, head, _all_words, targets, DISTANCES[loss])


@objective("trfnb.PretrainWordpieces.v1")
def pretrain_wordpieces(vocab: Vocab, tok2vec: Model, masking: Strategy | None = None) -> Model:
    """Predict hidden wordpieces: a transformer goes on learning its language, on one's own texts.

    BERT's objective (Devlin et al., 2019, https://arxiv.org/abs/1810.04805), continued as in "Don't
    stop pretraining" (Gururangan et al., 2020, https://arxiv.org/abs/2004.10964). The output layer
    starts from the embeddings of the wordpieces, since most encoders come without one.

    Args:
        vocab: The pipeline's.
        tok2vec: The transformer to pretrain.
        masking: Which wordpieces to hide; 15 % of whole words by default.
    """
    shim = encoder_shim(tok2vec)
    mask = shim.tokenizer.mask_token_id if shim else None
    if shim is None or mask is None:
        raise PretrainingError(
            "The objective of wordpieces expected a transformer with a mask token, got "
            f"{shim.name if shim else tok2vec.name!r}. Take a masked language model, or "
            "trfnb.PretrainWords.v1 for an encoder of words."
        )
    loaded: Any = shim.loaded()
    table = loaded.get_input_embeddings().weight.detach().cpu().numpy()
    output: Any = Linear(nO=len(table), nI=shim.width)
    head: Any = chain(Gelu(nO=shim.width, nI=shim.width), LayerNorm(nI=shim.width), output)
    (encoder,) = encoders(tok2vec)
    task = partial(_hidden_wordpieces, encoder, masking or WholeWordMask(), Replacement(word=mask))
    model = objective_model(vocab, tok2vec, head, task, _wordpiece_targets, cross_entropy)
    model.attrs["row_encoder"] = partial(_encoded_wordpieces, encoder)
    if table.shape[1] == shim.width:
        output.set_param("W", head.ops.asarray2f(table.copy()))
    return model


# Hides words as a strategy says; a transformer sees its own mask.
def _hiding(tok2vec: Model, strategy: Strategy | None) -> Task:
    shim = encoder_shim(tok2vec)
    mask = (shim and getattr(shim.tokenizer, "mask_token", None)) or MASK
    return partial(corrupt, strategy=strategy or RandomMask(), replacement=Replacement(word=mask))


# Replaces words by others, and looks at all words.
def _replaced_words(
    strategy: Strategy, docs: Sequence[Doc], rng: np.random.Generator
) -> tuple[list[list[str]], Masked]:
    words, hidden = corrupt(docs, strategy, Replacement(mask=0.0, other=1.0), rng)
    return words, np.ones(len(hidden), dtype=bool)


# Hides nothing and looks at all words.
def _all_words(docs: Sequence[Doc], rng: np.random.Generator) -> tuple[list[list[str]], Masked]:
    words = [words_of(doc) for doc in docs]
    return words, np.ones(sum(map(len, words)), dtype=bool)


def character_targets(
    docs: Sequence[Doc], seen: list[list[str]], rows: NDArray[np.int64], n_characters: int = 4
) -> NDArray[np.int64]:
    """Return (rows, n_characters) bytes of the words that stand at the rows.

    First byte, last, second, last but one, …, filled up with 255.
    """
    words: Any = Doc(docs[0].vocab, words=_words_at(docs, rows))
    return words.to_utf8_array(nr_char=n_characters).astype(np.int64)


def vector_targets(
    docs: Sequence[Doc], seen: list[list[str]], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the static vectors of the words that stand at the rows; zeros for unknown words."""
    vectors: Any = docs[0].vocab.vectors
    keys = np.concatenate([np.asarray(doc.to_array(vectors.attr)) for doc in docs])[rows]
    return word_vectors(vectors, keys.tolist())


def check_vectors(docs: Sequence[Doc]) -> None:
    """Raise `PretrainingError` if a table cannot give targets for docs: it has no word of them."""
    n = sum(map(len, docs))
    if n and not vector_targets(docs, [], np.arange(n)).any():
        raise PretrainingError(
            "The objective of word vectors expected a table with words of the text, got one "
            f"without any of its first {n} words, such as {words_of(docs[0])[:5]}. Check "
            "[initialize] vectors and the language of the text."
        )


# The most frequent words of the first 20,000 texts, most frequent first. Equally frequent ones are
# in the order of the alphabet, so that a second call agrees.
def _frequent_words(path: Path, vocab: Vocab, size: int) -> list[str]:
    tokenizer = get_lang_class(vocab.lang or "xx")().tokenizer
    counts: Counter[str] = Counter()
    for text in islice(texts(path, Counter()), 20_000):
        counts.update(token.text for token in tokenizer(text) if not token.is_space)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, _ in ranked[:size]]


# (rows, 1): numbers of the words that stand at the rows, -1 for those without one.
def _word_targets(
    docs: Sequence[Doc],
    seen: list[list[str]],
    rows: NDArray[np.int64],
    numbers: dict[str, int],
) -> NDArray[np.int64]:
    found = [numbers.get(word, -1) for word in _words_at(docs, rows)]
    return np.array(found, dtype=np.int64)[:, None]


def _words_at(docs: Sequence[Doc], rows: NDArray[np.int64]) -> list[str]:
    flat = [word for doc in docs for word in words_of(doc)]
    return [flat[row] for row in rows.tolist()]


# (rows, 1): one where another word stands; a word drawn for itself was not replaced.
def _replaced_targets(
    docs: Sequence[Doc], seen: list[list[str]], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    before = [words_of(doc) for doc in docs]
    other = [a != b for pair in zip(before, seen, strict=True) for a, b in zip(*pair, strict=True)]
    return np.array(other, dtype=np.int64)[rows][:, None]


def _teacher_targets(
    teacher: Model, docs: Sequence[Doc], seen: list[list[str]], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    vectors: Any = teacher.predict(list(docs))
    return np.concatenate([to_numpy(of_doc) for of_doc in vectors]).astype("f")[rows]


# What is shown of wordpieces: they as they are, and the ids that stand in the place of theirs.
def _hidden_wordpieces(
    encoder: Any,
    strategy: Strategy,
    replacement: Replacement,
    docs: Sequence[Doc],
    rng: np.random.Generator,
) -> tuple[tuple[Wordpieces, NDArray[np.int64]], Masked]:
    tokenizer, config = encoder.shims[0].tokenizer, encoder.shims[0].config
    whole = encode(tokenizer, [doc.text for doc in docs], max_wordpieces(tokenizer, config))
    ids, hidden = corrupt_wordpieces(whole, strategy, replacement, rng)
    return (whole, ids), hidden


def _encoded_wordpieces(
    encoder: Any,
    docs: Sequence[Doc],
    shown: tuple[Wordpieces, NDArray[np.int64]],
    rows: NDArray[np.int64],
    is_train: bool,
) -> Encoded:
    (whole, ids), layer = shown, encoder.shims[0].n_layers
    (states, _), backprop_encoder = encoder((replace(whole, ids=ids), [layer]), is_train)

    def backprop(d_rows: Floats2d) -> None:
        d_states: Any = encoder.ops.alloc2f(*states[layer].shape)
        d_states[rows] = d_rows
        backprop_encoder({layer: d_states})

    return states[layer][rows], backprop


def _wordpiece_targets(
    docs: Sequence[Doc], shown: tuple[Wordpieces, NDArray[np.int64]], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    return shown[0].ids[rows][:, None]
