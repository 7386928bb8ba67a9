"""Annotated corpora: a name or a path becomes sentences, and sentences become Examples."""

from trfnb.corpora.corpus import Corpus
from trfnb.corpora.errors import CorpusError
from trfnb.corpora.loading import load
from trfnb.corpora.sentence import Sentence
from trfnb.corpora.treebanks import fetch

__all__ = ["Corpus", "CorpusError", "Sentence", "fetch", "load"]
