"""What a corpus is: annotated sentences in three splits, and the spaCy Docs they become."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import fsspec
import pandas as pd
from spacy.tokens import Doc, DocBin
from spacy.tokens import Span as DocSpan
from spacy.training import Example
from spacy.vocab import Vocab

from trfnb.files import atomic_write, unpacked

Split = Literal["train", "dev", "test"]
OnError = Literal["raise", "skip"]
Span = tuple[int, int, str]

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
SPANS_KEY = "sc"  # spaCy's own default for spancat

# The layer that each component learns from, in pipeline order.
TASKS = {
    "tagger": "tags",
    "morphologizer": "pos",
    "trainable_lemmatizer": "lemmas",
    "parser": "heads",
    "senter": "sent_starts",
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
        sent_starts: 1, -1 or 0 (unknown) for each token, where a text holds several sentences.
        ents: Entities as ``(start, end, label)`` in tokens, end exclusive, in order.
        unknown_ents: Indices of tokens of which nobody said whether an entity covers them.
        spans: Spans that may overlap, by the key of ``doc.spans`` they go to.
        cats: Text categories and their values.
        sent_id: The corpus' own name of the sentence.
        doc_id: The corpus' own name of the document that the sentence is from.
        open_cats: Whether a category that ``cats`` lacks is unknown, rather than 0.

    Raises:
        ValueError: a layer's length is not that of ``words``.
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
        layers = {name: getattr(self, name) for name in _ONE_PER_WORD}
        wrong = [f"{k} has {len(v)}" for k, v in layers.items() if v is not None and len(v) != n]
        if wrong:
            raise ValueError(
                f"Sentence {self.sent_id or ' '.join(self.words)[:40]!r} has {n} words, "
                f"but {', '.join(wrong)}. Give every layer one value per word, or None."
            )

    @property
    def text(self) -> str:
        """The words with their spaces, without the last one's."""
        pairs = zip(self.words, self.spaces, strict=True)
        return "".join(word + " " * space for word, space in pairs).rstrip(" ")

    def labels(self) -> Iterator[tuple[str, str]]:
        """Yield ``(layer, label)`` for each tag, dependency, entity, span and category."""
        yield from (("tag", tag) for tag in self.tags or ())
        yield from (("dependency", dep) for dep in self.deps or ())
        yield from (("entity", label) for _, _, label in self.ents or ())
        for spans in (self.spans or {}).values():
            yield from (("span", label) for _, _, label in spans)
        yield from (("category", name) for name, value in (self.cats or {}).items() if value >= 0.5)


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

    @property
    def splits(self) -> dict[str, tuple[Sentence, ...]]:
        """The splits that have sentences, by name."""
        return {split: getattr(self, split) for split in SPLITS if getattr(self, split)}

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Components that all splits have the annotation for, in pipeline order.

        A split whose sentences are all without an entity says nothing of a recogniser: such a
        layer counts as missing.

        ``textcat`` where every text has exactly one category, else ``textcat_multilabel``, which
        alone skips texts without any;
        ``senter`` where texts hold several sentences.
        """
        values = [s.cats or {} for s in (*self.train, *self.dev, *self.test)]
        names = {name for cats in values for name in cats}
        one_yes = [0.0] * (len(names) - 1) + [1.0]
        exclusive = len(names) > 1 and all(sorted(cats.values()) == one_yes for cats in values)
        return tuple(
            task if exclusive or task != "textcat" else "textcat_multilabel"
            for task, layer in TASKS.items()
            if all(
                any(getattr(s, layer) for s in split)
                for split in (self.train, self.dev, self.test or self.dev)
            )
        )

    def examples(self, split: Split, vocab: Vocab) -> list[Example]:
        """Return a split as Examples: bare words beside the annotated reference.

        Raises:
            ValueError: there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(
                f"Corpus {self.name!r} has the splits 'train', 'dev' and 'test', not {split!r}."
            )
        return [
            Example(Doc(vocab, words=list(s.words), spaces=list(s.spaces)), to_doc(s, vocab))
            for s in self.splits.get(split, ())
        ]

    def save(self, directory: str | Path) -> tuple[Path, Path]:
        """Write ``train.spacy``, ``dev.spacy`` and, if there is a test split, ``test.spacy``.

        Returns:
            The paths of train and dev, which ``spacy train`` asks for.
        """
        folder, vocab = Path(directory), Vocab()
        folder.mkdir(parents=True, exist_ok=True)
        for lacking in set(SPLITS) - set(self.splits):  # of a corpus saved there before
            (folder / f"{lacking}.spacy").unlink(missing_ok=True)
        for split, sentences in self.splits.items():
            docs = [to_doc(sentence, vocab) for sentence in sentences]
            with atomic_write(folder / f"{split}.spacy", "wb") as file:
                file.write(DocBin(docs=docs, store_user_data=True).to_bytes())
        return folder / "train.spacy", folder / "dev.spacy"

    def describe(self) -> pd.DataFrame:
        """Return one row per split: sentences, words, documents, and labels and spans counted."""
        rows = {}
        for split, sentences in self.splits.items():
            uses = Counter(label for s in sentences for label in s.labels())
            layers = Counter(layer for layer, _ in uses)
            rows[split] = {
                "sentences": len(sentences),
                "words": sum(len(s.words) for s in sentences),
                "documents": len({s.doc_id for s in sentences} - {None}),
                "tags": layers["tag"],
                "dependency labels": layers["dependency"],
                "entities": sum(n for (layer, _), n in uses.items() if layer == "entity"),
                "entity labels": layers["entity"],
                "spans": sum(n for (layer, _), n in uses.items() if layer == "span"),
                "span labels": layers["span"],
                "categories": layers["category"],
            }
        return pd.DataFrame(rows).T


class CorpusError(ValueError):
    """Input that cannot be used, with the place and what to do about it.

    Args:
        path: The file, or the name that was asked for.
        expected: What should have been there.
        got: What was there.
        hint: What to do next.
        line: Line number, from 1, or another name of the place in the file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        expected: str,
        got: str,
        hint: str = 'Correct it, or pass on_error="skip" to leave such sentences out',
        line: int | str | None = None,
    ) -> None:
        self.line = line
        place = path if line is None else f"{path}:{line}"
        super().__init__(f"{place}: expected {expected}, got {got}. {hint}")


class BadSentenceError(Exception):
    """A sentence that cannot be used; `Reading.collect` adds the file, and the line if unknown.

    Args:
        expected: What should have been there.
        got: What was there.
        reason: A few words under which a skipped sentence is counted.
        line: The line, where the reader knows it better than the sentence's first.
    """

    def __init__(self, expected: str, got: str, reason: str, line: int | None = None) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got, self.reason, self.line = expected, got, reason, line


@dataclass
class Reading:
    """What a reader is told, and what it has to tell.

    Attributes:
        on_error: What to do with a bad sentence: ``"raise"`` or ``"skip"``.
        lang: Whose spaCy tokenizer splits raw texts.
        column: Where labels are, if the user said so: an index or a name.
        text_column: Where the text is, if the user said so.
        skipped: What was left out, counted by reason.
        notes: What was assumed.
    """

    on_error: OnError = "raise"
    lang: str = "en"
    column: int | str | None = None
    text_column: int | str | None = None
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def collect(
        self,
        path: str | Path,
        items: Iterable[tuple[int | str, Any]],
        make: Callable[[Any], Sentence | None],
    ) -> list[Sentence]:
        """Make sentences of items that come with their places; ``None`` is left out.

        Raises:
            CorpusError: ``make`` refuses an item, unless such are skipped and counted.
        """
        sentences = []
        for place, item in items:
            try:
                sentence = make(item)
            except BadSentenceError as error:
                if self.on_error == "raise":
                    raise CorpusError(
                        path, line=error.line or place, expected=error.expected, got=error.got
                    ) from error
                self.skipped[error.reason] += 1
            else:
                sentences += [] if sentence is None else [sentence]
        return sentences


def to_doc(sentence: Sentence, vocab: Vocab) -> Doc:
    """Return a Doc with all of the sentence's annotation; its ids go to ``user_data``."""
    layers = {name: getattr(sentence, name) for name in _ONE_PER_WORD}
    if sentence.heads is not None:
        del layers["sent_starts"]  # the tree tells them
    given: dict[str, Any] = {name: list(v) for name, v in layers.items() if v is not None}
    doc = Doc(vocab, words=list(sentence.words), **given)
    if sentence.ents is not None:
        unknown = [doc[i : i + 1] for i in sentence.unknown_ents]
        doc.set_ents([DocSpan(doc, *ent) for ent in sentence.ents], missing=unknown)
    for key, spans in (sentence.spans or {}).items():
        doc.spans[key] = [DocSpan(doc, *span) for span in spans]
    doc.cats = dict(sentence.cats or {})
    ids = {key: getattr(sentence, key) for key in ("sent_id", "doc_id")}
    doc.user_data.update({key: value for key, value in ids.items() if value is not None})
    return doc


def from_doc(doc: Doc) -> Sentence:
    """Return a Doc as a record, in one piece; layers without any annotation are None."""
    has = doc.has_annotation
    # A token without a label has no known head, though spaCy calls it its own.
    parsed = all(t.dep for t in doc)
    starts = tuple({True: 1, False: -1, None: 0}[t.is_sent_start] for t in doc)
    known = has("ENT_IOB")
    return Sentence(
        words=tuple(t.text for t in doc),
        spaces=tuple(bool(t.whitespace_) for t in doc),
        tags=tuple(t.tag_ for t in doc) if has("TAG") else None,
        pos=tuple(t.pos_ for t in doc) if has("POS") else None,
        morphs=tuple(str(t.morph) for t in doc) if has("MORPH") else None,
        lemmas=tuple(t.lemma_ for t in doc) if has("LEMMA") else None,
        heads=tuple(t.head.i for t in doc) if parsed else None,
        deps=tuple("ROOT" if t.head.i == t.i else t.dep_ for t in doc) if parsed else None,
        sent_starts=starts if 1 in starts[1:] else None,
        ents=tuple((e.start, e.end, e.label_) for e in doc.ents) if known else None,
        unknown_ents=tuple(t.i for t in doc if known and not t.ent_iob),
        spans={k: tuple((s.start, s.end, s.label_) for s in v) for k, v in doc.spans.items()}
        or None,
        cats=dict(doc.cats) or None,
        open_cats=True,
        sent_id=doc.user_data.get("sent_id"),
        doc_id=doc.user_data.get("doc_id"),
    )


def read_bytes(path: str | Path) -> bytes:
    """Return a file's bytes: local or at a URL, unpacked where its suffix says so (fsspec).

    Raises:
        CorpusError: the file cannot be read.
    """
    try:
        place, compression = unpacked(str(path))
        with fsspec.open(place, "rb", compression=compression) as file:
            return bytes(file.read())
    except Exception as error:  # each protocol and compression raises its own
        raise CorpusError(
            path,
            expected="a readable file",
            got=getattr(error, "strerror", None) or f"{type(error).__name__}: {error}",
            hint="Check the path",
        ) from error


def read_docbin(path: str | Path, reading: Reading) -> list[Sentence]:
    """Read a ``.spacy`` file, one text per Doc; Docs without words are left out and counted.

    Raises:
        CorpusError: not a DocBin.
    """
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
    labelled = [{bool(t.dep) for t in doc} for doc in docs]
    reading.skipped += Counter(
        {
            "Doc without words": sum(not len(doc) for doc in docs),
            "parse of a Doc with unlabelled words": sum(len(both) > 1 for both in labelled),
        }
    )
    return [from_doc(doc) for doc in docs if len(doc)]
