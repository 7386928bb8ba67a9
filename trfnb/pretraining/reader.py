"""Where the records come from: our reader, spaCy's, or a user's own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.corpus import JsonlCorpus, PlainTextCorpus

from trfnb.pipe.registries import registry
from trfnb.pretraining.text import Record, Skipped, records


@dataclass
class RawText:
    """Raw text on disk, as a reader that ``spacy pretrain`` takes too.

    Attributes:
        path: A file or a folder; see `trfnb.pretraining.text`.
        min_length: Leave out shorter docs, in tokens.
        max_length: Longest doc in tokens, 0 for no limit.
        split: Cut longer docs into pieces; otherwise they are left out.
        limit: Read the first records, this many; 0 reads all.
        skipped: What was left out while reading.
    """

    path: Path
    min_length: int = 0
    max_length: int = 0
    split: bool = True
    limit: int = 0
    skipped: Skipped = field(default_factory=Skipped)

    def records(self) -> Iterator[Record]:
        """Yield the records, always in the same order."""
        for number, record in enumerate(records(self.path, self.skipped), start=1):
            yield record
            if number == self.limit:
                return

    def pieces(self, words: list[str], spaces: list[bool]) -> Iterator[tuple[int, int]]:
        """Yield where the docs of a tokenised record begin and end."""
        longest = self.max_length
        if longest and not self.split and len(words) > longest:
            return
        step = longest or max(len(words), 1)
        for start in range(0, len(words), step):
            end = min(start + step, len(words))
            if end - start >= max(self.min_length, 1):
                yield start, end

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Yield Examples, as spaCy's readers do."""
        for record in self.records():
            words, spaces = tokenised(nlp, record)
            for start, end in self.pieces(words, spaces):
                doc = Doc(nlp.vocab, words=words[start:end], spaces=spaces[start:end])
                yield Example(doc, doc.copy())


def tokenised(nlp: Language, record: Record) -> tuple[list[str], list[bool]]:
    """Return a record's words and whether a space follows each."""
    if not isinstance(record, str):
        return record
    doc = nlp.make_doc(record[: nlp.max_length])
    return [token.text for token in doc], [bool(token.whitespace_) for token in doc]


@registry.readers("trfnb.RawText.v1")
def configure_raw_text(
    path: Path, min_length: int = 0, max_length: int = 500, limit: int = 0
) -> RawText:
    """Read raw text in any form; longer docs are cut into pieces.

    Args:
        path: A file or a folder: plain text (one a line), JSON lines, either gzipped, ``.spacy``.
        min_length: Leave out shorter docs, in tokens.
        max_length: Longest piece in tokens, 0 for no limit.
        limit: Read the first records, this many; 0 reads all.
    """
    return RawText(Path(path), min_length, max_length, limit=limit)


@dataclass
class GivenDocs:
    """A reader that a user registered: tokenises for itself, one Example or Doc after another."""

    reader: Callable[[Language], Any]
    nlp: Language
    path: str = "[pretraining] corpus"
    skipped: Skipped = field(default_factory=Skipped)

    def records(self) -> Iterator[Record]:
        """Yield the words of each doc."""
        for one in self.reader(self.nlp):
            doc = one if isinstance(one, Doc) else one.reference
            yield [token.text for token in doc], [bool(token.whitespace_) for token in doc]

    def pieces(self, words: list[str], spaces: list[bool]) -> Iterator[tuple[int, int]]:
        """Yield each doc as it is."""
        if words:
            yield 0, len(words)


Text = RawText | GivenDocs


def streamed(reader: Callable[[Language], Any], nlp: Language) -> Text:
    """Return what reads the same text as a reader, streaming where it is spaCy's or ours."""
    if isinstance(reader, RawText):
        return reader
    if isinstance(reader, JsonlCorpus | PlainTextCorpus) and reader.path is not None:
        # spaCy's JSON reader leaves out docs of exactly max_length too.
        longest = reader.max_length - isinstance(reader, JsonlCorpus)
        limit = getattr(reader, "limit", 0)
        return RawText(reader.path, reader.min_length, max(longest, 0), split=False, limit=limit)
    return GivenDocs(reader, nlp)
