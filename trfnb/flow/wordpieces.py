"""Spans -> wordpiece ids and their character offsets."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# transformers marks "no limit" by a very large model_max_length.
_NO_LIMIT = 1_000_000
# Kinds of models that count positions from the padding id on, as RoBERTa's family does.
_FROM_PADDING = {
    "camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "xmod",
}  # fmt: skip
# What bytes that are no whole character decode to, and how many bytes a character may have.
_UNREADABLE, _MAX_BYTES = "\ufffd", 4
# How tokenizers write a space.
_SPACE_MARKS = "▁Ġ "

# A tokenizer's settings change while it runs, so one thread at a time may use it. A fork waits:
# a process that is forked while another thread tokenises could never tokenise itself. A thread
# that forks while it tokenises must not wait for itself.
_tokenizing = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_tokenizing.acquire,
        after_in_parent=_tokenizing.release,
        after_in_child=_tokenizing.release,
    )


@dataclass(frozen=True, eq=False)
class Wordpieces:
    """The wordpieces of a batch of texts, one after another, without padding.

    Attributes:
        ids: (n,) int64, ids in the tokenizer's vocabulary, special tokens included.
        offsets: (n, 2) int64, each wordpiece's start and end character in its text; equal where
            a wordpiece stands for no character.
        lengths: (texts,) int64, wordpieces kept of each text.
        truncated: (texts,) int64, wordpieces cut off each text because the model reads no more.
        write: Turns ids into wordpieces as text; or these texts, where they were written out.
    """

    ids: Ints
    offsets: Ints
    lengths: Ints
    truncated: Ints
    write: Callable[[list[int]], list[str]] | list[str] = lambda ids: list(map(str, ids))

    def __getstate__(self) -> dict[str, Any]:
        # Written out: the method of a tokenizer would take the tokenizer with it.
        return {**vars(self), "write": [text for one in self.strings for text in one]}

    @property
    def starts(self) -> Ints:
        """(texts,) the number of each text's first wordpiece."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def strings(self) -> list[list[str]]:
        """The wordpieces of each text as the tokenizer writes them."""
        flat = self.write(self.ids.tolist()) if callable(self.write) else self.write
        return [flat[i : i + n] for i, n in zip(self.starts, self.lengths, strict=True)]

    @property
    def input_ids(self) -> Ints:
        """The ids as (texts, longest), filled up with zeros."""
        padded = np.zeros((len(self.lengths), int(self.lengths.max(initial=0))), dtype="int64")
        padded[self.attention_mask] = self.ids
        return padded

    @property
    def attention_mask(self) -> NDArray[np.bool_]:
        """Where `input_ids` holds wordpieces."""
        return np.arange(self.lengths.max(initial=0)) < self.lengths[:, None]

    def part(self, first: int, last: int) -> "Wordpieces":
        """Return the wordpieces of some texts, as views."""
        start, end = int(self.lengths[:first].sum()), int(self.lengths[:last].sum())
        return Wordpieces(
            self.ids[start:end],
            self.offsets[start:end],
            self.lengths[first:last],
            self.truncated[first:last],
            self.write if callable(self.write) else self.write[start:end],
        )

    def read_until(self, text: int) -> float:
        """Return the character at which a text is cut off, counted in it; infinity if nowhere."""
        if not self.truncated[text]:
            return np.inf
        return float(self.part(text, text + 1).offsets.max(initial=0))

    def copy(self) -> "Wordpieces":
        """Return the same in memory of its own, where this is part of a larger batch."""
        return Wordpieces(
            self.ids.copy(),
            self.offsets.copy(),
            self.lengths.copy(),
            self.truncated.copy(),
            self.write,
        )


def encode(
    tokenizer: Any,
    texts: Sequence[str],
    max_length: int | None = None,
    keep_end: bool = True,
) -> Wordpieces:
    """Tokenise texts in one call.

    Args:
        tokenizer: A HuggingFace tokenizer. One that reports no character offsets needs the extra
            `slow`, which finds them by comparing characters.
        texts: Texts of any length; an empty one gets no wordpieces at all.
        max_length: The most wordpieces of a text to keep, special tokens included.
        keep_end: Keep the special tokens at the end of a text that is cut; without them it is
            cut as spacy-transformers cuts it.
    """
    full = [i for i, text in enumerate(texts) if text]
    ids: list[list[int]] = [[] for _ in texts]
    offsets: list[list[tuple[int, int]]] = [[] for _ in texts]
    truncated = np.zeros(len(texts), dtype="int64")

    def read(which: list[int], **options: Any) -> None:
        if not which:
            return
        with _tokenizing:
            encoded = tokenizer(
                [texts[i] for i in which],
                return_offsets_mapping=tokenizer.is_fast,
                return_attention_mask=False,
                return_token_type_ids=False,
                padding=False,
                verbose=False,
                **options,
            )
        for place, i in enumerate(which):
            ids[i] = encoded["input_ids"][place]
            offsets[i] = (
                encoded["offset_mapping"][place]
                if tokenizer.is_fast
                else character_offsets(tokenizer, texts[i], ids[i])
            )

    read(full, truncation=False)
    too_long = [i for i in full if max_length is not None and len(ids[i]) > max_length]
    for i in too_long:
        truncated[i] = len(ids[i]) - (max_length or 0)
        ids[i], offsets[i] = ids[i][:max_length], offsets[i][:max_length]
    if keep_end:  # the tokenizer itself knows which special tokens must stay
        read(too_long, truncation=True, max_length=max_length)
    return Wordpieces(
        ids=np.fromiter((j for one in ids for j in one), dtype="int64"),
        offsets=np.asarray([o for one in offsets for o in one], dtype="int64").reshape(-1, 2),
        lengths=np.asarray([len(one) for one in ids], dtype="int64"),
        truncated=truncated,
        write=tokenizer.convert_ids_to_tokens,
    )


def max_wordpieces(tokenizer: Any, config: Any) -> int | None:
    """Return how many wordpieces a model reads at once, or None where it sets no limit."""
    limit = getattr(tokenizer, "model_max_length", None) or _NO_LIMIT
    positions = getattr(config, "max_position_embeddings", None) or 0
    if positions > 0:
        limit = min(limit, positions - first_position(config))
    return int(limit) if limit < _NO_LIMIT else None


def first_position(config: Any) -> int:
    """Return the position of a text's first wordpiece: not every model counts from 0."""
    kind = str(getattr(config, "model_type", ""))
    from_padding = "roberta" in kind or kind in _FROM_PADDING
    return (config.pad_token_id or 0) + 1 if from_padding else 0


def character_offsets(tokenizer: Any, text: str, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Find the characters that each wordpiece stands for, by comparing what is written.

    Raises:
        ImportError: the library that compares is not installed.
    """
    try:
        import spacy_alignments
    except ImportError as error:
        raise ImportError(
            f"The tokenizer {type(tokenizer).__name__} reports no character offsets; to align it "
            "with tokens, run `pip install 'trfnb[slow]'`."
        ) from error
    special, first = set(tokenizer.all_special_ids), 0
    pieces: list[tuple[str, int]] = []
    while first < len(ids):
        pieces.append(("", 1) if ids[first] in special else _written(tokenizer, ids[first:]))
        first += pieces[-1][1]
    _, found = spacy_alignments.get_alignments(list(text), [written for written, _ in pieces])
    places = [(min(one), max(one) + 1) if one else (0, 0) for one in found]
    return [place for place, (_, n) in zip(places, pieces, strict=True) for _ in range(n)]


# Write the first wordpiece as text, or the first few where they are bytes of one character.
#
# Returns:
#     The text, and how many wordpieces it stands for.
def _written(tokenizer: Any, ids: Sequence[int]) -> tuple[str, int]:
    raw = str(tokenizer.convert_ids_to_tokens([ids[0]])[0])
    for n in range(1, min(len(ids), _MAX_BYTES) + 1):
        text = str(tokenizer.decode(list(ids[:n])))
        if text and _UNREADABLE not in text:
            return text, n
        if n == 1 and not raw.strip(_SPACE_MARKS):
            return "", 1
    # Three bytes also make the replacement mark itself, where a text holds one.
    if len(ids) >= 3 and str(tokenizer.decode(list(ids[:3]))) == _UNREADABLE:
        return _UNREADABLE, 3
    return raw, 1
