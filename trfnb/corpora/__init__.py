"""Annotated corpora: a name or a path becomes train, dev and test, and those become Examples."""

from trfnb.corpora.corpus import Corpus, CorpusError, Sentence
from trfnb.corpora.loading import fetch, load

__all__ = ["Corpus", "CorpusError", "Sentence", "fetch", "load"]
