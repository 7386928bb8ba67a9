"""Annotated corpora: a name or a path becomes train, dev and test, and those become Examples."""

from trfnb import on_first_use

__all__ = ["Corpus", "CorpusError", "Sentence", "fetch", "join", "load"]

_HOME = dict.fromkeys(__all__, "trfnb.corpora.loading") | {"join": "trfnb.corpora.joined"}
__getattr__ = on_first_use(__name__, _HOME)
