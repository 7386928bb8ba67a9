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

from trfnb.vectors.blocks import Floats, Report, VectorsError, principal_components, unit
from trfnb.vectors.conversion import (
    Words,
    check_place,
    convert,
    corpus_words,
    load_words,
)

_TOKENS = 4096
_PAIRS = 20_000
_SMOOTH = 1e-3


def wordpiece_words(tokenizer: Any) -> list[str]:
    """Return the tokenizer's pieces that are words by themselves, in the order of their ids."""
    vocab: dict[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_tokens)
    marked = any(piece.startswith(("▁", "Ġ")) for piece in vocab)
    words = []
    for piece in sorted(vocab, key=vocab.__getitem__):
        if piece in special or piece.startswith(("##", "[unused")):
            continue
        word = piece.lstrip("▁Ġ") if marked else piece
        if word and not (marked and word == piece):
            words.append(word)
    return list(dict.fromkeys(words))


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
    import torch

    ids = tokenizer(list(words), truncation=True, max_length=longest)["input_ids"]
    order = sorted(range(len(words)), key=lambda word: len(ids[word]))
    special = torch.tensor(sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}))
    out = np.zeros((len(words), model.config.hidden_size), dtype=np.float32)
    while order:
        # The longest come first; a batch holds as many as its longest allows.
        size = max(1, _TOKENS // max(len(ids[order[-1]]), 1))
        part, order = order[-size:], order[:-size]
        batch = tokenizer.pad({"input_ids": [ids[word] for word in part]}, return_tensors="pt")
        content = batch["attention_mask"] * ~torch.isin(batch["input_ids"], special)
        with torch.inference_mode():
            states = model(**batch).last_hidden_state.float()
        counts = content.sum(dim=1, keepdim=True).clamp_(min=1)
        out[part] = ((states * content[..., None]).sum(dim=1) / counts).numpy()
    return out


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


def agreement(teacher: Floats, student: Floats, *, seed: int = 0) -> dict[str, float]:
    """Compare the cosines of random pairs of words: what a table lost against its teacher.

    Returns:
        ``cosine_correlation`` (Pearson) and ``cosine_mean_error`` over the pairs, and
        ``neighbours_kept``: the mean share of the ten nearest of 500 words that stay among the ten.
    """
    from trfnb.vectors.similar import nearest

    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, len(teacher), size=(2, _PAIRS))
    wide, slim = unit(teacher), unit(student)
    before, after = (wide[a] * wide[b]).sum(1), (slim[a] * slim[b]).sum(1)
    some = rng.permutation(len(teacher))[:500]
    n = min(11, len(teacher))
    near = [np.concatenate([w for _, w, _ in nearest(t[some], t, n)]) for t in (teacher, student)]
    kept = [len(set(x) & set(y) - {i}) / max(n - 1, 1) for x, y, i in zip(*near, some, strict=True)]
    flat = before.std() == 0 or after.std() == 0
    return {
        "cosine_correlation": 1.0 if flat else float(np.corrcoef(before, after)[0, 1]),
        "cosine_mean_error": float(np.abs(before - after).mean()),
        "neighbours_kept": float(np.mean(kept)),
    }


def distill(
    model: str | PathLike[str],
    path: str | PathLike[str],
    *,
    corpus: Any = None,
    words: Words | None = None,
    width: int | None = 256,
    weight: bool = True,
    wordpieces: bool = True,
    dtype: str = "float32",
    lang: str = "en",
    overwrite: bool = False,
) -> Report:
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
        The report; ``measures`` holds `agreement` with the teacher (centred, as the
        components are), before weighting.

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
    teacher_model = AutoModel.from_pretrained(name).eval()
    own_width = teacher_model.config.hidden_size
    if width is not None and not 0 < width <= own_width:
        raise VectorsError(f"Expected a width from 1 to the model's {own_width}, got {width}.")
    counts = corpus_words(corpus) if corpus is not None else None
    vocabulary = [*(counts or ()), *(load_words(words) if words is not None else ())]
    vocabulary = list(
        dict.fromkeys([*(wordpiece_words(tokenizer) if wordpieces else ()), *vocabulary])
    )
    if not vocabulary:
        raise VectorsError("Expected words to embed: give words or a corpus, or wordpieces=True.")
    if counts is not None:
        vocabulary.sort(key=lambda word: -counts[word])
    teacher = embed_words(vocabulary, teacher_model, tokenizer)
    student = teacher
    measures: dict[str, float] = {}
    if width is not None and width != teacher.shape[1]:
        mean, components, measures["variance_kept"] = principal_components(teacher, width)
        student = np.asarray((teacher - mean) @ components, dtype=np.float32)
        measures |= agreement(teacher - mean, student)
    else:
        measures |= agreement(teacher, student)
    if weight:
        student = np.multiply(student, frequency_weights(vocabulary, counts)[:, None])
    report = convert(
        SimpleNamespace(index_to_key=vocabulary, vectors=student),
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
