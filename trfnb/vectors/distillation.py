"""Distil a transformer's knowledge of words into a static table.

The recipe is model2vec's (Tulkens and van Dongen, 2024): pass every word of a vocabulary through
the model alone, reduce by principal components, weight by frequency. Frequencies come from the
corpus where there is one, by smooth inverse frequency (Arora, Liang and Ma, 2017), else from the
rank in the tokenizer's vocabulary by Zipf's law, as there.
"""

import time
from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from thinc.api import NumpyOps

from trfnb.flow.batching import Request
from trfnb.flow.engines import PaddedEngine
from trfnb.flow.runtime import Runtime
from trfnb.flow.wordpieces import encode
from trfnb.vectors.blocks import ConversionReport, Floats, VectorsError, corpus_words
from trfnb.vectors.conversion import asked_words, check_place, convert
from trfnb.vectors.readers_binary import Keys

_SMOOTH = 1e-3


def wordpiece_words(tokenizer: Any) -> list[str]:
    """Return the tokenizer's pieces that are words by themselves, in the order of their ids."""
    vocab: dict[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_tokens)
    marked = any(piece.startswith(("▁", "Ġ")) for piece in vocab)
    pieces = [
        piece
        for piece in sorted(vocab, key=vocab.__getitem__)
        if piece not in special and not piece.startswith(("##", "[unused"))
    ]
    if marked:
        pieces = [piece.lstrip("▁Ġ") for piece in pieces if piece.startswith(("▁", "Ġ"))]
    return list(dict.fromkeys(filter(None, pieces)))


def embed_words(words: Sequence[str], model: Any, tokenizer: Any, *, longest: int = 32) -> Floats:
    """Embed each word alone: the mean of its wordpieces' last hidden states.

    Special tokens are seen by the model and left out of the mean. Words are batched by length.

    Args:
        words: the words.
        model: a HuggingFace encoder in evaluation mode.
        tokenizer: its tokenizer.
        longest: cut after so many wordpieces.

    Returns:
        (words, model width) float32; zeros for a word without a wordpiece.
    """
    pieces, texts = encode(tokenizer, words, longest), np.arange(len(words))
    engine = PaddedEngine(model, tokenizer.pad_token_id or 0, attentions=False)
    top, width = model.config.num_hidden_layers, model.config.hidden_size
    states = np.zeros((len(pieces.ids), width), dtype=np.float32)
    for part in engine.run(Request(pieces, texts, [top], Runtime())):
        states[part.rows.numpy()] = part.states[top].numpy()
    of_text = pieces.offsets[:, 1] > pieces.offsets[:, 0]  # a special token stands for none
    owner = np.repeat(texts, pieces.lengths)[of_text]
    counts = np.bincount(owner, minlength=len(words)).astype("i")
    return np.asarray(NumpyOps().reduce_mean(states[of_text], counts))


def frequency_weights(words: Sequence[str], counts: Counter[str] | None) -> Floats:
    """Weigh words by how little their frequency says: a / (a + p), p from counts or by rank."""
    if counts is not None:
        share = np.array([counts[word] for word in words], dtype=np.float64) / max(
            counts.total(), 1
        )
    else:
        ranks = np.arange(2, len(words) + 2)
        share = 1 / ranks / (1 / ranks).sum()
    return (_SMOOTH / (_SMOOTH + share)).astype(np.float32)


def principal_components(data: Floats, width: int) -> tuple[Floats, float]:
    """Return centred rows in their ``width`` leading directions, and the variance these keep.

    Each direction's sign is set so that its largest entry is positive, to be repeatable.
    """
    centred = data - data.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(centred, rowvar=False, bias=True))
    leading = vectors[:, ::-1][:, :width]
    leading = leading * np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(width)])
    values = np.clip(values[::-1], 0, None)
    kept = float(values[:width].sum() / values.sum()) if values.sum() else 1.0
    return np.asarray(centred @ leading, dtype=np.float32), kept


def distill(
    model: str | PathLike[str],
    path: str | PathLike[str],
    *,
    corpus: Any = None,
    words: Keys | None = None,
    width: int | None = 256,
    weight: bool = True,
    wordpieces: bool = True,
    dtype: str = "float32",
    lang: str = "en",
    overwrite: bool = False,
) -> ConversionReport:
    """Make a static table of a transformer's lexical knowledge.

    Args:
        model: ``"minilm"``, a local path or a hub name.
        path: the directory to make, as by `convert`.
        corpus: embed this corpus's words beside the tokenizer's own, and take frequencies from it;
            see `corpus_words`.
        words: embed these words too (a list, or a file with one a line).
        width: dimensions to keep by principal components; None keeps the model's.
        weight: scale each vector by its word's weight, see `frequency_weights`.
        wordpieces: embed the tokenizer's own words too.
        dtype: as in `convert`.
        lang: the language of the pipeline that carries the table.
        overwrite: replace what is at ``path``.

    Returns:
        The report; ``measures`` holds the share of the variance that the components keep.

    Raises:
        VectorsError: ``width`` is larger than the model's, there is no word to embed, or the table
            cannot be written.
    """
    from transformers import AutoModel, AutoTokenizer

    from trfnb import models

    begun = time.perf_counter()
    check_place(Path(path), overwrite=overwrite)
    name = models.path(str(model)) if str(model) == "minilm" else str(model)
    tokenizer = AutoTokenizer.from_pretrained(name)
    teacher = AutoModel.from_pretrained(name).eval()
    own_width = teacher.config.hidden_size
    if width is not None and not 0 < width <= own_width:
        raise VectorsError(f"Expected a width from 1 to the model's {own_width}, got {width}.")
    counts = corpus_words(corpus) if corpus is not None else None
    own = wordpiece_words(tokenizer) if wordpieces else []
    vocabulary = list(dict.fromkeys(own + asked_words(words, counts)))
    if not vocabulary:
        raise VectorsError("Expected words to embed: give words or a corpus, or wordpieces=True.")
    if counts is not None:
        vocabulary.sort(key=lambda word: -counts[word])
    table = embed_words(vocabulary, teacher, tokenizer)
    read = np.flatnonzero(table.any(axis=1))  # the tokenizer leaves nothing of some signs
    vocabulary = [vocabulary[row] for row in read]
    table, measures = table[read], dict[str, float]()
    if width is not None and width < own_width:
        if len(vocabulary) <= width:
            raise VectorsError(
                f"Expected more words than the width, {width}, to find their principal components, "
                f"got {len(vocabulary)}. Give more words, wordpieces=True, or a smaller width."
            )
        table, measures["variance_kept"] = principal_components(table, width)
    if weight:
        table = np.multiply(table, frequency_weights(vocabulary, counts)[:, None])
    report = convert(
        SimpleNamespace(index_to_key=vocabulary, vectors=table),
        Path(path),
        dtype=dtype,
        lang=lang,
        name=f"{Path(name).name}.distilled",
        overwrite=overwrite,
    )
    report.source, report.format = f"{model}", "distilled"
    report.measures = measures | report.measures | {"seconds": time.perf_counter() - begun}
    report.save(Path(path))
    return report
