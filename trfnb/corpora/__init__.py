"""Annotated corpora: a name or a path becomes train, dev and test, and those become Examples."""

from trfnb import on_first_use

__getattr__, __dir__, __all__ = on_first_use(
    __name__,
    {
        "Corpus": "trfnb.corpora.corpus",
        "CorpusError": "trfnb.corpora.corpus",
        "Sentence": "trfnb.corpora.corpus",
        "fetch": "trfnb.corpora.loading",
        "join": "trfnb.corpora.joined",
        "load": "trfnb.corpora.loading",
    },
)
