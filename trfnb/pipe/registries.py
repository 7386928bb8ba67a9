"""spaCy's registry, with the two registries that transformers brought, and one of ours."""

from typing import Any

import catalogue
from spacy.util import registry as _spacy_registry

registry: Any = _spacy_registry

for _name in ("span_getters", "annotation_setters", "balancers"):
    if not hasattr(registry, _name):
        setattr(registry, _name, catalogue.create("spacy", _name, entry_points=True))

__all__ = ["registry"]
