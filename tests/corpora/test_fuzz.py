"""Whatever a file holds, a reader returns sound sentences or raises CorpusError."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from trfnb.corpora import Corpus, CorpusError, Sentence, load
from trfnb.corpora.columns import read_columns, read_conllu, spans_from_labels
from trfnb.corpora.corpus import Reading

from .conftest import GOOD

FEW = settings(max_examples=30, deadline=None)
_WORDS = "_ 0 1 2 1-2 1.1 NOUN O B-PER I-X # # -DOCSTART- NER=B-X SpaceAfter=No é { } [ null ,"
_MORE = [
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    " ",
    "\x85",
    "# sent_id = a",
    "# newdoc",
    '"text":',
    '"label":',
]
_pieces = st.sampled_from([*_WORDS.split(), *_MORE])
_texts = st.lists(_pieces | st.text(max_size=3), max_size=60).map("".join)


@FEW
@given(_texts, st.sampled_from([".conllu", ".iob", ".jsonl", ".json", ".csv", ".tsv", ".spacy"]))
def test_any_text(text: str, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        for on_error in ("raise", "skip"):
            try:
                corpus = load(path, on_error=on_error)  # type: ignore[arg-type]
            except CorpusError as error:
                named = str(path) in str(error)
                assert named, error  # noqa: PT017
            else:
                assert corpus.train
                assert corpus.dev


@FEW
@given(st.integers(0, len(GOOD) - 1), st.characters(codec="utf-8"))
def test_one_wrong_character_in_conllu(at: int, character: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.conllu"
        path.write_text(GOOD[:at] + character + GOOD[at + 1 :], encoding="utf-8", newline="")
        reading = Reading("skip")
        sentences = read_conllu(path, reading)
        assert len(sentences) + reading.skipped.total() in (1, 2)


_words = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6
)
_rows = st.lists(st.tuples(_words, st.sampled_from(["O", "B-A", "I-A", "B-B"])), min_size=1)


@FEW
@given(st.lists(_rows, min_size=1, max_size=5))
def test_columns_come_back_as_written(sentences: list[list[tuple[str, str]]]) -> None:
    text = "\n".join("".join(f"{w}\t{label}\n" for w, label in rows) for rows in sentences)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.iob"
        path.write_text(text, encoding="utf-8", newline="")
        read = read_columns(path, Reading(column=1))
    assert [s.words for s in read] == [tuple(w for w, _ in rows) for rows in sentences]
    for sentence, rows in zip(read, sentences, strict=True):
        assert sentence.ents == spans_from_labels([label for _, label in rows])


@st.composite
def _sentence(draw: st.DrawFn) -> Sentence:
    words = tuple(draw(st.lists(_words, min_size=1, max_size=6)))
    n = len(words)
    heads = tuple(draw(st.integers(0, i - 1)) if i else 0 for i in range(n))
    return Sentence(
        words=words,
        spaces=tuple(draw(st.booleans()) for _ in words),
        tags=tuple(draw(_words) for _ in words),
        heads=heads,
        deps=tuple("dep" if i else "ROOT" for i in range(n)),
        ents=((0, draw(st.integers(1, n)), "PER"),) if draw(st.booleans()) else (),
        spans={"sc": ((0, n, "A"), (0, 1, "B"))} if draw(st.booleans()) else None,
        sent_id=draw(st.none() | _words),
    )


@settings(max_examples=10, deadline=None)
@given(st.lists(_sentence(), min_size=1, max_size=4), _sentence())
def test_saved_sentences_come_back(train: list[Sentence], dev: Sentence) -> None:
    corpus = Corpus("x", tuple(train), (dev,), (dev,))
    with tempfile.TemporaryDirectory() as folder:
        corpus.save(folder)
        again = load(folder)
    assert sorted(again.train, key=repr) == sorted(corpus.train, key=repr)
    assert (again.dev, again.test) == (corpus.dev, corpus.test)
