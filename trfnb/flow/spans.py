"""Doc -> spans: which stretches of text the encoder reads.

A span getter takes a batch of docs and returns, for each doc, the spans to encode. Spans may
overlap and may leave parts of a doc out; a token that no span covers gets a zero vector.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc, Span, Token
from thinc.types import Ragged

from .wordpieces import Ints, Wordpieces, encode

SpanGetter = Callable[[Sequence[Doc]], list[list[Span]]]

# What windows are filled to where neither they nor the model set a limit.
_DEFAULT_WINDOW = 512
# A character that is in no vocabulary.
_NOWHERE = "\ue000"


def get_doc_spans(docs: Sequence[Doc]) -> list[list[Span]]:
    """Return each doc as one span."""
    return [[doc[:]] for doc in docs]


def get_sent_spans(docs: Sequence[Doc]) -> list[list[Span]]:
    """Return each doc's sentences.

    Raises:
        ValueError: a doc has no sentence boundaries.
    """
    for doc in docs:
        if len(doc) and not doc.has_annotation("SENT_START"):
            raise ValueError(
                f"The span getter 'sent_spans' expected sentence boundaries on every doc, but "
                f"{doc.text[:40]!r} has none. Put a 'sentencizer' or 'senter' before the "
                "transformer (and into [training.annotating_components]), or use 'doc_spans' or "
                "'strided_spans'."
            )
    return [list(doc.sents) for doc in docs]


@dataclass(frozen=True)
class StridedSpans:
    """A span getter of overlapping windows of tokens.

    Attributes:
        window: Tokens of a span.
        stride: Tokens from one span's start to the next; at most `window`.

    Raises:
        ValueError: a length is not positive, or the stride would leave tokens out.
    """

    window: int = 128
    stride: int = 96

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window:
            raise ValueError(
                f"{type(self).__name__} expected 1 <= stride <= window, got window={self.window}, "
                f"stride={self.stride}. A stride below the window makes spans overlap; a larger "
                "one would skip tokens."
            )

    def __call__(self, docs: Sequence[Doc]) -> list[list[Span]]:
        """Return each doc's windows."""
        return [
            [
                doc[start : start + self.window]
                for start in range(0, max(len(doc) - self.window, 0) + self.stride, self.stride)
            ]
            for doc in docs
        ]


@dataclass(frozen=True)
class WordpieceSpans:
    """A span getter of overlapping windows that are counted in wordpieces.

    Nothing is truncated but a token too long by itself. It needs the transformer's tokenizer,
    which the model lends it.

    Attributes:
        window: Wordpieces of a span, special tokens included; None for as many as the model reads.
        stride: Wordpieces from one span's start to the next; None for three quarters of a window.

    Raises:
        ValueError: a length is not positive, or the stride would leave text out.
    """

    window: int | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        given = [n for n in (self.stride, self.window) if n is not None]
        if min(given, default=1) < 1 or given != sorted(given):
            raise ValueError(
                "wordpiece_spans expected 1 <= stride <= window where they are given, got "
                f"window={self.window}, stride={self.stride}: a larger stride would skip text."
            )

    def __call__(
        self, docs: Sequence[Doc], tokenizer: Any = None, limit: int | None = None
    ) -> list[list[Span]]:
        """Return each doc's windows.

        Args:
            docs: The batch.
            tokenizer: The transformer's tokenizer.
            limit: The most wordpieces that its model reads.

        Raises:
            ValueError: no tokenizer is given, or the window has no room for text.
        """
        if tokenizer is None:
            raise ValueError(
                "wordpiece_spans expected to be called by a TransformerModel, which lends it the "
                "tokenizer. A custom model calls get_spans(docs, tokenizer, limit)."
            )
        window = min((n for n in (self.window, limit) if n), default=_DEFAULT_WINDOW)
        room = window - tokenizer.num_special_tokens_to_add(pair=False)
        if room < 1:
            raise ValueError(
                f"wordpiece_spans expected a window with room beside the special tokens, got "
                f"{window} wordpieces."
            )
        stride = min(self.stride or room * 3 // 4 or 1, room)
        counts = _wordpieces_per_token(docs, tokenizer)
        spans = [
            [doc[start:end] for start, end in _windows(n, room, stride)]
            for doc, n in zip(docs, counts, strict=True)
        ]
        return _halved(spans, tokenizer, window)


class TokenWindows(StridedSpans):
    """Windows of a doc's wordpieces, where each token is cut into wordpieces by itself.

    spacy-curated-transformers reads docs so: a token has the same wordpieces in every text, the
    special tokens stand at the doc's ends alone, and a window may end within a token.

    Attributes:
        window: Wordpieces of a window, the doc's special tokens included.
        stride: Wordpieces from one window's start to the next; at most `window`.
    """

    def __call__(self, docs: Sequence[Doc]) -> list[list[Span]]:
        """Refuse to be called as a span getter: windows here do not end where tokens do.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "token_windows expected to be used by a TransformerModel, whose tokenizer it needs. A "
            "custom model calls get_spans.tokenise(docs, tokenizer)."
        )

    def tokenise(self, docs: Sequence[Doc], tokenizer: Any) -> tuple[list[list[Span]], Wordpieces]:
        """Return for each doc as many times the whole doc as it has windows, and their wordpieces.

        Args:
            docs: The batch.
            tokenizer: The transformer's tokenizer.
        """
        tokens = [token for doc in docs for token in doc]
        pieces, owners = _pieces_of_tokens(tokens, tokenizer)
        edges = np.cumsum([0, *(len(doc) for doc in docs)])
        places = np.asarray([(t.idx, t.idx + len(t)) for t in tokens], "int64").reshape(-1, 2)
        nowhere, spans, windows = np.zeros((1, 2), "int64"), [], []
        for doc, first, last in zip(docs, edges, edges[1:], strict=False):
            inside = (owners >= first) & (owners < last)
            text = [tokenizer.cls_token_id, *pieces[inside], tokenizer.sep_token_id]
            where = np.concatenate([nowhere, places[owners[inside]], nowhere])
            cuts = range(0, len(text) if len(doc) else 0, self.stride)
            windows += [(text[i : i + self.window], where[i : i + self.window]) for i in cuts]
            spans.append([doc[:]] * len(cuts))
        wordpieces = Wordpieces(
            ids=np.asarray([piece for ids, _ in windows for piece in ids], dtype="int64"),
            offsets=np.concatenate([nowhere[:0], *(offsets for _, offsets in windows)]),
            lengths=np.asarray([len(ids) for ids, _ in windows], dtype="int64"),
            truncated=np.zeros(len(windows), dtype="int64"),
            write=tokenizer.convert_ids_to_tokens,
        )
        return spans, wordpieces

    def weighted(
        self, alignment: Ragged, spans: Sequence[Sequence[Span]], wordpieces: Wordpieces
    ) -> Ragged:
        """Let each wordpiece of a token count once in its mean, in two windows or in one.

        A row of a token that lies partly where windows overlap is named twice where it has no
        partner in another window.

        Args:
            alignment: For each token the numbers of its rows.
            spans: From `tokenise`, as is `wordpieces`.
            wordpieces: The wordpieces of all windows.
        """
        windows = np.asarray([i for one in spans for i in range(len(one))], dtype="int64")
        number = np.repeat(windows, wordpieces.lengths)
        place = np.arange(len(number)) - np.repeat(wordpieces.starts, wordpieces.lengths)
        twice = (place >= self.stride) | ((place < self.window - self.stride) & (number > 0))
        named: Any = alignment.dataXd
        lengths: Any = alignment.lengths
        single, tokens = ~twice[named], np.repeat(np.arange(len(lengths)), lengths)
        singles = np.bincount(tokens, single, len(lengths)).astype("int32")
        mixed = (singles > 0) & (singles < lengths)
        rows: Any = np.repeat(named, 1 + (single & mixed[tokens]))
        return Ragged(rows, lengths + mixed * singles)


# Return the wordpieces of tokens that are cut by themselves, and for each the number of its token.
def _pieces_of_tokens(tokens: Sequence[Token], tokenizer: Any) -> tuple[Ints, Ints]:
    texts = ["" if token.is_space else token.text for token in tokens]
    core = getattr(tokenizer, "backend_tokenizer", None)
    if type(getattr(core, "model", None)).__name__ == "WordPiece":
        of_texts = {text: _wordpieces(core, text, tokenizer.unk_token_id) for text in {*texts}}
        owned = [(piece, i) for i, text in enumerate(texts) for piece in of_texts[text]]
        table: Ints = np.asarray(owned, dtype="int64").reshape(-1, 2)
        return table[:, 0], table[:, 1]
    spaces = [token.doc[token.i - 1].whitespace_ if token.i else "" for token in tokens]
    found = encode(tokenizer, [a and b + a for a, b in zip(texts, spaces, strict=True)])
    real = found.offsets[:, 1] > found.offsets[:, 0]  # each token came with special ones
    return found.ids[real], np.repeat(np.arange(len(texts)), found.lengths)[real]


# Cut a token as spacy-curated-transformers does: a word is unknown from its first unknown part on,
# where HuggingFace's tokenizer makes the whole word unknown, and does not end at a space.
def _wordpieces(core: Any, text: str, unknown: int) -> list[int]:
    text, mark, pieces = re.sub(r"\s", _NOWHERE, text), core.model.continuing_subword_prefix, []
    normal = core.normalizer.normalize_str(text) if core.normalizer else text
    for word, _ in core.pre_tokenizer.pre_tokenize_str(normal):
        start = ""
        while word:
            parts = (
                (core.token_to_id(start + word[:end]), word[end:])
                for end in range(len(word), 0, -1)
            )
            piece, word = next((part for part in parts if part[0] is not None), (unknown, ""))
            pieces.append(piece)
            start = mark
    return pieces


def checked_spans(get_spans: SpanGetter, docs: Sequence[Doc]) -> list[list[Span]]:
    """Call a span getter and check that its answer fits the docs.

    Raises:
        TypeError: the answer is not a list for each doc.
        ValueError: a list holds anything but spans of its doc.
    """
    name = getattr(get_spans, "__name__", repr(get_spans))
    spans = get_spans(docs)
    lists = spans if isinstance(spans, Sequence) else [spans]
    if len(lists) != len(docs) or not all(isinstance(one, Sequence) for one in lists):
        raise TypeError(
            f"Span getter {name!r}: expected {len(docs)} lists of spans, one per doc, got "
            f"{repr(spans)[:80]}. Return [list_of_spans for doc in docs]."
        )
    for doc, doc_spans in zip(docs, spans, strict=True):
        for span in doc_spans:
            if not isinstance(span, Span) or span.doc is not doc:
                what = "a span of another doc" if isinstance(span, Span) else type(span).__name__
                raise ValueError(
                    f"Span getter {name!r}: expected spans of the doc {doc.text[:40]!r}, got "
                    f"{what} ({str(span)[:40]!r}). Slice the doc: doc[start:end]."
                )
    return spans


# Count each token's wordpieces; those of the space before it count for it too.
def _wordpieces_per_token(docs: Sequence[Doc], tokenizer: Any) -> list[NDArray[np.int64]]:
    pieces = encode(tokenizer, [doc.text for doc in docs])
    counts = []
    for i, doc in enumerate(docs):
        offsets = pieces.part(i, i + 1).offsets
        ends = np.asarray([token.idx + len(token) for token in doc], dtype="int64")
        starts = offsets[offsets[:, 1] > offsets[:, 0], 0]
        owners = np.minimum(np.searchsorted(ends, starts, side="right"), len(doc) - 1)
        counts.append(np.bincount(owners, minlength=len(doc)))
    return counts


# Return first and last token of each window; a token longer than a window stands alone.
def _windows(counts: NDArray[np.int64], room: int, stride: int) -> list[tuple[int, int]]:
    ends = np.cumsum(counts)
    windows, start, end = [], 0, 0
    while end < len(counts):
        before = int(ends[start] - counts[start])
        end = max(int(np.searchsorted(ends, before + room, side="right")), start + 1)
        windows.append((start, end))
        following = int(np.searchsorted(ends, before + stride, side="left")) + 1
        start = min(max(following, start + 1), end)
    return windows


# Halve spans that by themselves have more wordpieces than within their doc.
def _halved(spans: list[list[Span]], tokenizer: Any, window: int) -> list[list[Span]]:
    lengths = iter(encode(tokenizer, [span.text for one in spans for span in one]).lengths)
    fitting = []
    for one in spans:
        kept: list[Span] = []
        for span in one:
            middle = len(span) // 2 if next(lengths) > window else 0
            kept += [span[:middle], span[middle:]] if middle else [span]
        fitting.append(kept)
    return spans if fitting == spans else _halved(fitting, tokenizer, window)
