"""Everything that trfnb registers with spaCy, in one import.

spaCy loads this module through an entry point whenever a pipeline is made, so it must import
neither transformers nor a notebook library.
"""

from spacy import registry

__all__ = ["registry"]


def make_transformer() -> None:
    """Stand for the factory in the entry point; importing this module registers everything."""
