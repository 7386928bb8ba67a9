"""Give a frozen body its weights: ``spacy train`` initialises only what it will train."""

from collections.abc import Callable, Sequence
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import registry


def initialize_frozen(nlp: Language, names: Sequence[str]) -> None:
    """Initialise the named components on one made-up sentence.

    A pretrained body loads its weights, a small one draws random ones; neither changes later.

    Raises:
        ValueError: a name is not in the pipeline.
    """
    unknown = [name for name in names if name not in nlp.component_names]
    if unknown:
        raise ValueError(
            f"initialize_frozen: no components {unknown} in the pipeline {nlp.component_names}; "
            "name components that [nlp.pipeline] lists."
        )
    doc = Doc(nlp.vocab, words=["One", "sentence", "sets", "the", "shapes", "."])
    example = Example(doc, doc.copy())
    for name in names:
        pipe: Any = nlp.get_pipe(name)
        pipe.initialize(lambda: [example], nlp=nlp)


@registry.callbacks("trfnb.initialize_frozen.v1")
def configure_initialize_frozen(names: list[str]) -> Callable[[Language], None]:
    """Build the callback for ``[initialize.before_init]``; see `initialize_frozen`."""

    def before_init(nlp: Language) -> None:
        initialize_frozen(nlp, names)

    return before_init
