"""Predict which frequent word was hidden: masked language modelling over words.

BERT's objective (Devlin et al., 2019, https://arxiv.org/abs/1810.04805) for a body that reads
words. A hidden word that is not among the frequent ones is hidden in vain.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spacy.tokenizer import Tokenizer
from spacy.tokens import Doc
from spacy.util import get_lang_class
from spacy.vocab import Vocab
from thinc.api import Model

from trfnb.pipe.registries import registry
from trfnb.pretraining.checks import text_problems
from trfnb.pretraining.corruption import Replacement, hidden_words, texts
from trfnb.pretraining.errors import PretrainingError, refuse
from trfnb.pretraining.heads import softmax_head
from trfnb.pretraining.losses import categorical
from trfnb.pretraining.masking import Strategy, random_mask
from trfnb.pretraining.objective import Objective, objective_model
from trfnb.pretraining.probing import tokenizer_of
from trfnb.pretraining.task import Targets
from trfnb.pretraining.text import records


def frequent_words(path: Path, vocab: Vocab, size: int, sample: int) -> list[str]:
    """Return the most frequent words of a text's first records, most frequent first.

    Equally frequent words are in the order of the alphabet, so that a second call agrees.
    """
    refuse(text_problems(path))
    lang = get_lang_class(vocab.lang)() if vocab.lang else None
    tokenizer = lang.tokenizer if lang is not None else Tokenizer(vocab)
    counts: Counter[str] = Counter()
    for record in islice(records(path), sample):
        words = [t.text for t in tokenizer(record)] if isinstance(record, str) else record[0]
        counts.update(word for word in words if not word.isspace())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, _ in ranked[:size]]


def word_targets(words: Sequence[str]) -> Targets:
    """Return what makes (rows, 1) numbers of hidden words, -1 for those not in the list."""
    number = {word: i for i, word in enumerate(words)}

    def targets(
        docs: Sequence[Doc], seen: list[list[str]], rows: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        flat = [word for doc in docs for word in texts(doc)]
        return np.array([[number.get(flat[row], -1)] for row in rows.tolist()], dtype=np.int64)

    return targets


@registry.architectures("trfnb.PretrainWords.v1")
def PretrainWords(  # noqa: N802
    text: Path | None = None,
    size: int = 4000,
    sample: int = 20_000,
    maxout_pieces: int = 3,
    hidden_size: int = 300,
    masking: Strategy | None = None,
    replacement: Replacement | None = None,
) -> Objective:
    """Build the objective of hidden words among the frequent ones.

    Args:
        text: Where words are counted: a file or folder of raw text, as a rule the one trained on.
        size: How many words to tell apart.
        sample: Records to count words in.
        maxout_pieces: Of the head's hidden layer.
        hidden_size: Its width.
        masking: Which words to hide; 15 % at random by default.
        replacement: What to show instead; 80 % masks, 10 % other words by default.
    """

    def build(vocab: Vocab, tok2vec: Model) -> Model:
        if text is None:
            raise PretrainingError(
                "The objective of words expected a text to count frequent words in, got none. Set "
                "[pretraining.objective] text, e.g. to ${paths.raw_text}."
            )
        words = frequent_words(Path(text), vocab, size, sample)
        if len(words) < 2:
            raise PretrainingError(f"{text}: expected a text of different words, got {words}.")
        make_task = hidden_words(masking or random_mask(), replacement, tokenizer_of(tok2vec))
        head = softmax_head(hidden_size, maxout_pieces, len(words))
        loss = categorical(len(words))
        return objective_model(vocab, tok2vec, head, make_task, word_targets(words), loss)

    return build
