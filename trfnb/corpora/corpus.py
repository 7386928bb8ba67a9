"""What a corpus is: annotated sentences in three splits, and the spaCy Docs they become."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import fsspec

if TYPE_CHECKING:
    import pandas as pd
    import spacy.tokens
    from spacy.tokens import Doc
    from spacy.training import Example
    from spacy.vocab import Vocab

Split = Literal["train", "dev", "test"]
OnError = Literal["raise", "skip"]
Span = tuple[int, int, str]
Column = int | str | Sequence[int | str]

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
SPANS_KEY = "sc"  # spaCy's own default for spancat

# The layer that each component learns from, in pipeline order.
TASKS = {
    "tagger": "tags",
    "morphologizer": "pos",
    "trainable_lemmatizer": "lemmas",
    "parser": "heads",
    "senter": "several",
    "ner": "ents",
    "spancat": "spans",
    "textcat": "cats",
}
_ONE_PER_WORD = ("spaces", "tags", "pos", "morphs", "lemmas", "heads", "deps", "sent_starts")


@dataclass(frozen=True)
class Sentence:
    """One annotated sentence or text; a layer that was not annotated is ``None``.

    Attributes:
        words: The tokens.
        spaces: Whether a space follows each token.
        tags: Fine-grained part of speech (the treebank's own; UPOS where it has none).
        pos: Coarse part of speech (UPOS).
        morphs: Morphological features, as in ``Number=Sing|Person=3``.
        lemmas: Base forms.
        heads: Index of each token's head, from 0; a root is its own head.
        deps: Dependency labels; a root's is ``"ROOT"``, as in spaCy.
        sent_starts: 1, -1 or 0 (unknown) for each token, where a text without a parse holds
            several sentences.
        ents: Entities as ``(start, end, label)`` in tokens, end exclusive, in order.
        unknown_ents: Indices of tokens of which nobody said whether an entity covers them.
        spans: Spans that may overlap, by the key of ``doc.spans`` they go to.
        cats: Text categories and their values.
        sent_id: The corpus' own name of the sentence.
        doc_id: The corpus' own name of the document that the sentence is from.
        open_cats: Whether a category that ``cats`` lacks is unknown, rather than 0.

    Raises:
        ValueError: a layer's length is not that of ``words``, or a span lies outside.
    """

    words: tuple[str, ...]
    spaces: tuple[bool, ...]
    tags: tuple[str, ...] | None = None
    pos: tuple[str, ...] | None = None
    morphs: tuple[str, ...] | None = None
    lemmas: tuple[str, ...] | None = None
    heads: tuple[int, ...] | None = None
    deps: tuple[str, ...] | None = None
    sent_starts: tuple[int, ...] | None = None
    ents: tuple[Span, ...] | None = None
    unknown_ents: tuple[int, ...] = ()
    spans: Mapping[str, tuple[Span, ...]] | None = field(default=None, hash=False)
    cats: Mapping[str, float] | None = field(default=None, hash=False)
    sent_id: str | None = None
    doc_id: str | None = None
    open_cats: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        n = len(self.words)
        wrong = [
            f"{name} has {len(values)}"
            for name in _ONE_PER_WORD
            if (values := getattr(self, name)) is not None and len(values) != n
        ]
        wrong += [f"head {head} is outside" for head in self.heads or () if not 0 <= head < n]
        end = 0
        for start, stop, label in self.ents or ():
            if not end <= start < stop <= n:
                wrong.append(f"entity ({start}, {stop}, {label}) is empty, overlaps or is outside")
            end = stop
        for key, spans in (self.spans or {}).items():
            wrong += [f"span {s} of {key!r} is outside" for s in spans if not 0 <= s[0] < s[1] <= n]
        if wrong or not n:
            problem = "; ".join(wrong) or "it needs at least one"
            raise ValueError(
                f"Sentence {self.sent_id or ' '.join(self.words)[:40]!r} has {n} words, "
                f"but {problem}. Give every layer one value per word, or None."
            )

    @property
    def text(self) -> str:
        """The words with their spaces, without the last one's."""
        pairs = zip(self.words, self.spaces, strict=True)
        return "".join(word + " " * space for word, space in pairs).rstrip(" ")

    @property
    def several(self) -> bool | None:
        """True where the text is known to hold several sentences, else None."""
        roots = sum(head == i for i, head in enumerate(self.heads or ()))
        return roots > 1 or 1 in (self.sent_starts or ())[1:] or None


@dataclass(frozen=True)
class Corpus:
    """Annotated sentences to train on, to choose on and to score on.

    Attributes:
        name: The name it was asked for by, or the file's or folder's.
        train: Sentences to train on, shuffled by the seed.
        dev: Sentences to choose on (when to stop, which rate), in the corpus' order.
        test: Sentences to score on once, at the end, in the corpus' order; empty only where the
            source has too few documents.
        skipped: What was left out, counted by reason: sentences, and spans that tokens cut.
        notes: What was assumed while reading, a sentence each.
        lang: Language code of the spaCy pipeline that fits.
    """

    name: str
    train: tuple[Sentence, ...]
    dev: tuple[Sentence, ...]
    test: tuple[Sentence, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    lang: str = "en"

    def sentences(self, split: Split) -> tuple[Sentence, ...]:
        """Return a split's sentences.

        Raises:
            ValueError: there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(
                f"Corpus {self.name!r} has the splits 'train', 'dev' and 'test', not {split!r}."
            )
        found: tuple[Sentence, ...] = getattr(self, split)
        return found

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Components that train and dev have the annotation for, in pipeline order.

        ``textcat`` where every text has exactly one category, else ``textcat_multilabel``;
        ``senter`` where texts hold several sentences.
        """
        found = [
            task
            for task, layer in TASKS.items()
            if all(
                any(getattr(s, layer) is not None for s in split)
                for split in (self.train, self.dev)
            )
        ]
        values = [s.cats for s in (*self.train, *self.dev, *self.test) if s.cats is not None]
        names = {name for cats in values for name in cats}
        one_yes = [0.0] * (len(names) - 1) + [1.0]
        if len(names) < 2 or any(sorted(cats.values()) != one_yes for cats in values):
            found = [task.replace("textcat", "textcat_multilabel") for task in found]
        return tuple(found)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of a hash over all splits' contents, whatever their order."""
        digest = hashlib.sha256()
        for split in (self.train, self.dev, self.test):
            digests = sorted(_digest(sentence) for sentence in split)
            digest.update(hashlib.sha256(b"".join(digests)).digest())
        return digest.hexdigest()[:16]

    def examples(self, split: Split, vocab: Vocab) -> list[Example]:
        """Return a split as Examples: bare words beside the annotated reference."""
        from spacy.tokens import Doc
        from spacy.training import Example

        return [
            Example(Doc(vocab, words=list(s.words), spaces=list(s.spaces)), to_doc(s, vocab))
            for s in self.sentences(split)
        ]

    def save(self, directory: str | Path) -> tuple[Path, Path]:
        """Write ``train.spacy``, ``dev.spacy`` and, if there is a test split, ``test.spacy``.

        Returns:
            The paths of train and dev, which ``spacy train`` asks for.
        """
        paths = {split: Path(directory) / f"{split}.spacy" for split in SPLITS}
        for split, path in paths.items():
            if self.sentences(split):
                write_docbin(path, self.sentences(split))
        return paths["train"], paths["dev"]

    def describe(self) -> pd.DataFrame:
        """Return one row per split: sentences, words, documents, and labels and spans counted."""
        import pandas as pd

        rows = {split: _counts(self.sentences(split)) for split in SPLITS if self.sentences(split)}
        return pd.DataFrame(rows).T

    def leaks(self) -> dict[str, int]:
        """Return how many different texts two splits share, by ``"train, dev"`` and so on."""
        texts = {split: {s.text for s in self.sentences(split)} for split in SPLITS}
        return {f"{a}, {b}": len(texts[a] & texts[b]) for a, b in combinations(SPLITS, 2)}


def _digest(sentence: Sentence) -> bytes:
    values = asdict(sentence)
    del values["open_cats"]
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _counts(sentences: tuple[Sentence, ...]) -> dict[str, int]:
    spans = [span for s in sentences for group in (s.spans or {}).values() for span in group]
    return {
        "sentences": len(sentences),
        "words": sum(len(s.words) for s in sentences),
        "documents": len({s.doc_id for s in sentences if s.doc_id is not None}),
        "tags": len({tag for s in sentences for tag in s.tags or ()}),
        "dependency labels": len({dep for s in sentences for dep in s.deps or ()}),
        "entities": sum(len(s.ents or ()) for s in sentences),
        "entity labels": len({label for s in sentences for _, _, label in s.ents or ()}),
        "spans": len(spans),
        "span labels": len({label for _, _, label in spans}),
        "categories": len({cat for s in sentences for cat in s.cats or ()}),
    }


class CorpusError(ValueError):
    """Input that cannot be used, with the place and what to do about it.

    Args:
        path: The file, or the name that was asked for.
        expected: What should have been there.
        got: What was there.
        hint: What to do next.
        line: Line number, from 1, where there is one.
        reason: A few words under which a skipped sentence is counted.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        expected: str,
        got: str,
        hint: str = 'Correct it, or pass on_error="skip" to leave such sentences out',
        line: int | None = None,
        reason: str = "malformed",
    ) -> None:
        self.path, self.line, self.reason = str(path), line, reason
        place = self.path if line is None else f"{self.path}:{line}"
        super().__init__(f"{place}: expected {expected}, got {got}. {hint}")


@dataclass
class Reading:
    """What a reader is told, and what it has to tell.

    Attributes:
        on_error: What to do with a bad sentence: ``"raise"`` or ``"skip"``.
        lang: Whose spaCy tokenizer splits raw texts.
        column: Where labels are, if the user said so: an index, a name, or several of them.
        text_column: Where the text is, if the user said so.
        skipped: What was left out, counted by reason.
        notes: What was assumed.
    """

    on_error: OnError = "raise"
    lang: str = "en"
    column: Column | None = None
    text_column: int | str | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def meet(self, error: CorpusError) -> None:
        """Raise the error, or count one sentence under its reason."""
        if self.on_error == "raise":
            raise error
        self.skipped[error.reason] += 1

    def note(self, text: str) -> None:
        """Keep what was assumed, once."""
        if text not in self.notes:
            self.notes.append(text)


def to_doc(sentence: Sentence, vocab: Vocab) -> Doc:
    """Return a Doc with all of the sentence's annotation; its ids go to ``user_data``."""
    from spacy.tokens import Doc, Span

    layers = {name: getattr(sentence, name) for name in _ONE_PER_WORD}
    given: dict[str, Any] = {name: list(v) for name, v in layers.items() if v is not None}
    doc = Doc(vocab, words=list(sentence.words), **given)
    if sentence.ents is not None:
        unknown = [doc[i : i + 1] for i in sentence.unknown_ents]
        doc.set_ents([Span(doc, *ent) for ent in sentence.ents], missing=unknown)
    for key, spans in (sentence.spans or {}).items():
        doc.spans[key] = [Span(doc, *span) for span in spans]
    doc.cats = dict(sentence.cats or {})
    for key in ("sent_id", "doc_id"):
        if (value := getattr(sentence, key)) is not None:
            doc.user_data[key] = value
    return doc


def from_doc(doc: Doc) -> list[Sentence]:
    """Return a Doc's sentences; in one piece where categories or spans belong to the whole."""
    split = doc.has_annotation("SENT_START", require_complete=True)
    # Sentence marks set by hand may cut through an entity.
    cut = split and any(t.is_sent_start and t.ent_iob_ == "I" for t in doc)
    whole = not split or cut or doc.cats or any(doc.spans.values())
    return [from_span(span) for span in ([doc[:]] if whole else doc.sents)]


def from_span(span: spacy.tokens.Span) -> Sentence:
    """Return a part of a Doc as a record; a parse must stay within it."""
    doc = span.doc
    has = doc.has_annotation
    # A token without a label has no known head, though spaCy calls it its own.
    parsed = all(t.dep for t in span)
    starts = tuple({True: 1, False: -1, None: 0}[t.is_sent_start] for t in span)
    ids = {key: doc.user_data.get(key) for key in ("sent_id", "doc_id")}
    if len(span) < len(doc):
        ids = {"sent_id": None, "doc_id": ids["doc_id"] or ids["sent_id"]}
    return Sentence(
        words=tuple(t.text for t in span),
        spaces=tuple(bool(t.whitespace_) for t in span),
        tags=tuple(t.tag_ for t in span) if has("TAG") else None,
        pos=tuple(t.pos_ for t in span) if has("POS") else None,
        morphs=tuple(str(t.morph) for t in span) if has("MORPH") else None,
        lemmas=tuple(t.lemma_ for t in span) if has("LEMMA") else None,
        heads=tuple(t.head.i - span.start for t in span) if parsed else None,
        deps=tuple("ROOT" if t.head.i == t.i else t.dep_ for t in span) if parsed else None,
        sent_starts=starts if not parsed and 1 in starts[1:] else None,
        ents=tuple((e.start - span.start, e.end - span.start, e.label_) for e in span.ents)
        if has("ENT_IOB")
        else None,
        unknown_ents=tuple(i for i, t in enumerate(span) if not t.ent_iob)
        if has("ENT_IOB")
        else (),
        spans={k: tuple((s.start, s.end, s.label_) for s in v) for k, v in doc.spans.items()}
        or None,
        cats=dict(doc.cats) or None,
        open_cats=True,
        **ids,
    )


def read_bytes(path: str | Path) -> bytes:
    """Return a file's bytes: local or at a URL, unpacked where its suffix says so (fsspec).

    Raises:
        CorpusError: the file cannot be read.
    """
    try:
        with fsspec.open(str(path), "rb", compression="infer") as file:
            return bytes(file.read())
    except Exception as error:  # each protocol and compression raises its own
        raise CorpusError(
            path,
            expected="a readable file",
            got=getattr(error, "strerror", None) or f"{type(error).__name__}: {error}",
            hint="Check the path",
        ) from error


def read_docbin(path: str | Path, reading: Reading) -> list[Sentence]:
    """Read a ``.spacy`` file.

    Raises:
        CorpusError: not a DocBin; an empty Doc, unless it is to be skipped.
    """
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    data = read_bytes(path)
    try:
        docs = list(DocBin().from_bytes(data).get_docs(Vocab()))
    except Exception as error:  # zlib, msgpack and numpy each raise their own
        raise CorpusError(
            path,
            expected="a DocBin as spaCy saves it",
            got=f"{type(error).__name__}: {error}",
            hint="Make it with Corpus.save or `spacy convert`",
        ) from error
    sentences: list[Sentence] = []
    for i, doc in enumerate(docs):
        if len(doc):
            sentences += from_doc(doc)
        else:
            reading.meet(
                CorpusError(path, expected=f"words in Doc {i}", got="none", reason="empty")
            )
    return sentences


def write_docbin(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write a ``.spacy`` file: beside its place first, then renamed."""
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    vocab = Vocab()
    docs = [to_doc(sentence, vocab) for sentence in sentences]
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    DocBin(docs=docs, store_user_data=True).to_disk(aside)
    aside.replace(path)
