"""Small tokenizers of every kind, made here so that the tests need no download."""

import functools
from typing import Any

SENTENCES = [
    "The river bank plans to meet in April, and Paris agrees.",
    "unable people couldn't stop: 3,000 words, naïve café words",
    "Привет мир שלום עולם مرحبا 你好世界 こんにちは",
]


def byte_level() -> Any:
    """Byte-level BPE, as GPT-2 and RoBERTa have."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(SENTENCES * 5, vocab_size=400, show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, pad_token="!")


def byte_level_with_prefix() -> Any:
    """Byte-level BPE that puts a space before a text, with special tokens around it."""
    from tokenizers import ByteLevelBPETokenizer, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<pad>"]
    tokenizer = ByteLevelBPETokenizer(add_prefix_space=True, trim_offsets=True)
    tokenizer.train_from_iterator(
        SENTENCES * 5, vocab_size=400, show_progress=False, special_tokens=special
    )
    inner = tokenizer._tokenizer
    inner.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def unigram() -> Any:
    """Unigram with Metaspace, as XLM-R and T5 have."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.Unigram())
    inner.normalizer = normalizers.Sequence([normalizers.NFKC()])
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=160, special_tokens=["<unk>", "<pad>"], unk_token="<unk>", show_progress=False
    )
    inner.train_from_iterator(SENTENCES * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>")


def metaspace_bpe() -> Any:
    """BPE with Metaspace and bytes for unknown letters, as Llama has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    special = ["<unk>", "<pad>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    inner.train_from_iterator(SENTENCES * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>")


def slow_bytes() -> Any:
    """A tokenizer in pure Python without offsets: one wordpiece a byte."""
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer()


def slow_characters() -> Any:
    """A tokenizer in pure Python without offsets: one wordpiece a code point."""
    from transformers import CanineTokenizer

    return CanineTokenizer()


KINDS = {
    function.__name__: functools.cache(function)
    for function in (
        byte_level,
        byte_level_with_prefix,
        unigram,
        metaspace_bpe,
        slow_bytes,
        slow_characters,
    )
}
