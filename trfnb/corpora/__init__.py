"""Annotated corpora: a name or a path becomes train, dev and test, and those become Examples."""

from importlib import import_module
from typing import Any

from trfnb import notebook_side

__all__ = ["Corpus", "CorpusError", "Sentence", "fetch", "join", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        with notebook_side():
            home = "joined" if name == "join" else "loading"
            return getattr(import_module(f"trfnb.corpora.{home}"), name)
    raise AttributeError(f"module 'trfnb.corpora' has no attribute {name!r}")
