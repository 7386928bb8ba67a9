"""Tell which words were replaced by others: a loss at every word, not at the hidden ones alone.

After ELECTRA (Clark et al., 2020, https://arxiv.org/abs/2003.10555). Its generator is a small
language model; here replacements are drawn from the batch as often as words occur there, the
cheapest of the generators compared there: the body alone is trained.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model

from trfnb.pipe.registries import registry
from trfnb.pretraining.corruption import Replacement, corrupt, texts
from trfnb.pretraining.heads import linear_head
from trfnb.pretraining.losses import binary
from trfnb.pretraining.masking import Strategy, random_mask
from trfnb.pretraining.objective import Objective, objective_model
from trfnb.pretraining.task import MakeTask, Task


def replaced_words(strategy: Strategy) -> MakeTask:
    """Return the task of telling replaced words from those that stayed."""
    always_other = Replacement(mask=0.0, other=1.0)

    def make_task(docs: Sequence[Doc], rng: np.random.Generator) -> Task:
        words, hidden = corrupt(docs, strategy, always_other, rng)
        return Task(words, np.ones(len(hidden), dtype=bool))

    return make_task


def replaced_targets(
    docs: Sequence[Doc], words: list[list[str]], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return (rows, 1): one where another word stands; a word drawn for itself was not replaced."""
    before = [word for doc in docs for word in texts(doc)]
    after = [word for one in words for word in one]
    other = [a != b for a, b in zip(before, after, strict=True)]
    return np.array(other, dtype="f")[rows][:, None]


@registry.architectures("trfnb.PretrainReplaced.v1")
def PretrainReplaced(  # noqa: N802
    maxout_pieces: int = 3, hidden_size: int = 300, masking: Strategy | None = None
) -> Objective:
    """Build the objective of replaced words.

    Args:
        maxout_pieces: Of the head's hidden layer.
        hidden_size: Its width.
        masking: Which words to replace; 15 % at random by default.
    """

    def build(vocab: Vocab, tok2vec: Model) -> Model:
        head = linear_head(hidden_size, maxout_pieces, 1)
        make_task = replaced_words(masking or random_mask())
        return objective_model(vocab, tok2vec, head, make_task, replaced_targets, binary)

    return build
