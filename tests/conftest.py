"""Encoders small enough for a unit test."""

import os
import string

# Two workers share the machine's cores; more threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from thinc.api import fix_random_seed

WORDS = ["the", "bank", "river", "paris", "april", "meets", "plans", "in", "of", "un", "##able"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with a random-weight BERT: 3 layers, 16 wide, no dropout, words and letters."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters]
    vocab += [f"##{letter}" for letter in letters]
    (folder / "vocab.txt").write_text("\n".join(vocab), encoding="utf8")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=48)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.4,
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def minilm() -> str:
    """The real MiniLM of the `demo` extra."""
    from trfnb import models

    try:
        return models.path("minilm")
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    fix_random_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that at the end no worker waits for another."""
    long = {"runs", "widgets", "tests"}
    items.sort(key=lambda item: item.path.parent.name not in long)
