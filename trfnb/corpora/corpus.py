"""What a loaded corpus is and what it can do."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trfnb.corpora.sentence import Sentence

if TYPE_CHECKING:
    import pandas as pd
    from spacy.training import Example
    from spacy.vocab import Vocab

Split = Literal["train", "dev"]

# The layer that each component learns from.
TASKS = {"tagger": "tags", "parser": "heads", "ner": "ents", "textcat": "cats"}


@dataclass(frozen=True)
class Corpus:
    """Annotated sentences to train on and to score on.

    Attributes:
        name: The name it was asked for by, or the file's or folder's.
        train: Sentences to train on, shuffled by the seed.
        dev: Sentences to score on, in the corpus' order.
        skipped: Number of sentences left out, by reason.
        lang: Language code of the spaCy pipeline that fits.
    """

    name: str
    train: tuple[Sentence, ...]
    dev: tuple[Sentence, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)
    lang: str = "en"

    def sentences(self, split: Split) -> tuple[Sentence, ...]:
        """Return a split's sentences.

        Raises:
            ValueError: the split is neither ``"train"`` nor ``"dev"``.
        """
        if split not in ("train", "dev"):
            raise ValueError(
                f"Corpus {self.name!r} has the splits 'train' and 'dev', not {split!r}."
            )
        return self.train if split == "train" else self.dev

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Components that the annotation of both splits suffices for, in pipeline order."""
        return tuple(
            task
            for task, layer in TASKS.items()
            if all(
                any(getattr(s, layer) is not None for s in split)
                for split in (self.train, self.dev)
            )
        )

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of a hash over both splits' contents, whatever their order."""
        digest = hashlib.sha256()
        for split in (self.train, self.dev):
            digests = sorted(_digest(sentence) for sentence in split)
            digest.update(hashlib.sha256(b"".join(digests)).digest())
        return digest.hexdigest()[:16]

    def examples(self, split: Split, vocab: "Vocab") -> "list[Example]":
        """Return a split as Examples: bare words beside the annotated reference."""
        from trfnb.corpora.docs import to_example

        return [to_example(sentence, vocab) for sentence in self.sentences(split)]

    def save(self, directory: str | Path) -> tuple[Path, Path]:
        """Write ``train.spacy`` and ``dev.spacy`` for `spacy train`, and return their paths."""
        from trfnb.corpora.docs import write_docbin

        train, dev = Path(directory) / "train.spacy", Path(directory) / "dev.spacy"
        write_docbin(train, self.train)
        write_docbin(dev, self.dev)
        return train, dev

    def describe(self) -> "pd.DataFrame":
        """Return a row a split: sentences, words, documents, and labels and entities counted."""
        import pandas as pd

        return pd.DataFrame({split: _counts(self.sentences(split)) for split in ("train", "dev")}).T


def _digest(sentence: Sentence) -> bytes:
    text = json.dumps(asdict(sentence), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _counts(sentences: tuple[Sentence, ...]) -> dict[str, int]:
    return {
        "sentences": len(sentences),
        "words": sum(len(s.words) for s in sentences),
        "documents": len({s.doc_id for s in sentences if s.doc_id is not None}),
        "tags": len({tag for s in sentences for tag in s.tags or ()}),
        "dependency labels": len({dep for s in sentences for dep in s.deps or ()}),
        "entities": sum(len(s.ents or ()) for s in sentences),
        "entity labels": len({label for s in sentences for _, _, label in s.ents or ()}),
        "categories": len({cat for s in sentences for cat in s.cats or ()}),
    }
