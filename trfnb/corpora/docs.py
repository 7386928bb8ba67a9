"""Sentences to spaCy Docs and back, one by one and as ``.spacy`` files."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.vocab import Vocab

from trfnb.corpora.errors import CorpusError, Problems
from trfnb.corpora.iob import labels_from_spans
from trfnb.corpora.sentence import Sentence


def to_doc(sentence: Sentence, vocab: Vocab) -> Doc:
    """Return a Doc with all of the sentence's annotation; its ids go to ``user_data``."""

    def values(layer: str) -> list[Any] | None:
        found = getattr(sentence, layer)
        return None if found is None else list(found)

    ents = sentence.ents
    doc = Doc(
        vocab,
        words=list(sentence.words),
        spaces=list(sentence.spaces),
        tags=values("tags"),
        pos=values("pos"),
        lemmas=values("lemmas"),
        heads=values("heads"),
        deps=values("deps"),
        ents=None if ents is None else labels_from_spans(ents, len(sentence.words)),
    )
    doc.cats = dict(sentence.cats or {})
    for key in ("sent_id", "doc_id"):
        if (value := getattr(sentence, key)) is not None:
            doc.user_data[key] = value
    return doc


def to_example(sentence: Sentence, vocab: Vocab) -> Example:
    """Return an Example: the bare words to predict on, beside the annotated reference."""
    bare = Doc(vocab, words=list(sentence.words), spaces=list(sentence.spaces))
    return Example(bare, to_doc(sentence, vocab))


def from_span(span: Span) -> Sentence:
    """Return a sentence of a Doc as a record; a parse must stay within the span."""
    doc = span.doc
    has = doc.has_annotation
    parsed = has("DEP")
    ids = {key: doc.user_data.get(key) for key in ("sent_id", "doc_id")}
    if len(span) < len(doc):
        ids["doc_id"] = ids["doc_id"] or ids["sent_id"]
        ids["sent_id"] = None
    return Sentence(
        words=tuple(t.text for t in span),
        spaces=tuple(bool(t.whitespace_) for t in span),
        tags=tuple(t.tag_ for t in span) if has("TAG") else None,
        pos=tuple(t.pos_ for t in span) if has("POS") else None,
        lemmas=tuple(t.lemma_ for t in span) if has("LEMMA") else None,
        heads=tuple(t.head.i - span.start for t in span) if parsed else None,
        deps=tuple("ROOT" if t.head.i == t.i else t.dep_ for t in span) if parsed else None,
        ents=tuple((e.start - span.start, e.end - span.start, e.label_) for e in span.ents)
        if has("ENT_IOB")
        else None,
        cats=dict(doc.cats) or None,
        **ids,
    )


def read_docbin(path: Path, problems: Problems) -> list[Sentence]:
    """Read a ``.spacy`` file, a record a sentence; Docs with categories stay whole.

    Raises:
        CorpusError: not a DocBin, or an empty one; an empty Doc, unless ``problems`` skips it.
    """
    try:
        docs = list(DocBin().from_disk(path).get_docs(Vocab()))
    except Exception as error:  # zlib, msgpack and numpy each raise their own
        raise CorpusError(
            path,
            expected="a DocBin as spaCy saves it",
            got=f"{type(error).__name__}: {error}",
            hint="Make it with Corpus.save or `spacy convert`",
        ) from error
    sentences = []
    for i, doc in enumerate(docs):
        if not len(doc):
            problems.meet(
                CorpusError(
                    path,
                    expected=f"words in Doc {i}",
                    got="none",
                    hint='Remove it, or pass on_error="skip"',
                    reason="empty",
                )
            )
        elif doc.has_annotation("SENT_START", require_complete=True) and not doc.cats:
            sentences += [from_span(span) for span in _whole_sentences(doc)]
        else:
            sentences.append(from_span(doc[:]))
    return sentences


def _whole_sentences(doc: Doc) -> Iterable[Span]:
    # Sentence marks set by hand may cut through an entity: then the Doc stays in one piece.
    cut = any(t.is_sent_start and t.ent_iob_ == "I" for t in doc)
    return [doc[:]] if cut else list(doc.sents)


def write_docbin(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write a ``.spacy`` file: beside its place first, then renamed."""
    vocab = Vocab()
    docs = [to_doc(sentence, vocab) for sentence in sentences]
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    DocBin(docs=docs, store_user_data=True).to_disk(aside)
    aside.replace(path)
