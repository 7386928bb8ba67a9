"""Everything that trfnb registers with spaCy, in one import.

spaCy loads this module through an entry point whenever a pipeline is made, so it must import
neither transformers nor a notebook library.
"""

from .experiments import weights  # noqa: F401  configs name what it holds
from .pipe.factories import make_transformer, register
from .pipe.registries import registry
from .pretraining import masking, objectives, text, weights  # noqa: F401  configs name
from .vectors import embed, store  # noqa: F401  architectures, key maps, tables

register()

__all__ = ["make_transformer", "registry"]
