"""spacy-curated-transformers' piece encoders -> HuggingFace's tokenizers.

Each builder makes the nodes that were saved there. Loaded, they hold the pieces as bytes, of which
`tokenizer_of` makes a tokenizer.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import srsly
from thinc.api import Model, deserialize_attr

from .legacy import placeholder

_PUNCTUATION = r"[!-/:-@\[-`{-~\p{P}]"  # in ASCII, symbols too
_LAST_SIGMA = r"\p{Cased}\p{Case_Ignorable}*\KΣ(?!\p{Case_Ignorable}*\p{Cased})"


class SavedBytes:
    """Stands for an attribute that is to be loaded as the bytes that were saved."""


@deserialize_attr.register(SavedBytes)
def _saved_bytes(_: Any, value: bytes, name: str, model: Model) -> bytes:
    return value


def piece_encoder_v1() -> Model[Any, Any]:
    """Build the nodes of wordpieces, of pieces of bytes, and of SentencePiece's as they are."""
    return placeholder("piece_encoder", attrs={name: SavedBytes() for name in _READERS})


def xlmr_encoder_v1() -> Model[Any, Any]:
    """Build the nodes of XLM-R's pieces: fairseq numbers the special ones in its own way."""
    adapter = placeholder("adapter", attrs={"moved": {0: 3, 1: 0, 2: 2}, "shift": 1})
    return placeholder("chain", [piece_encoder_v1(), adapter])


def camembert_encoder_v1() -> Model[Any, Any]:
    """Build the nodes of CamemBERT's pieces."""
    adapter = placeholder("adapter", attrs={"moved": {0: 3}, "shift": 4})
    return placeholder("chain", [piece_encoder_v1(), adapter])


def refused_v1(**settings: Any) -> None:
    """Refuse what HuggingFace's tokenizers and spaCy's components cannot do in the same way.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        "A pipeline of spacy-curated-transformers expected BertWordpieceEncoder, ByteBpeEncoder or "
        "a SentencepieceEncoder, and listeners to one layer or to a mix, got another. "
        "WordpieceEncoder takes ## in a text for characters, where HuggingFace's tokenizer takes "
        "it for the mark of a word's part; TransformerLayersListener gives all layers to a model "
        "of your own. Such a pipeline still needs spacy-curated-transformers."
    )


def tokenizer_of(piece_encoder: Model[Any, Any], padding: int, limit: int) -> Any:
    """Make HuggingFace's tokenizer of a loaded piece encoder.

    Args:
        piece_encoder: From a builder of this module.
        padding: The padding's number.
        limit: The most pieces that the encoder reads.

    Raises:
        ImportError: the pieces are SentencePiece's, and protobuf is not installed.
        ValueError: they are of a kind of SentencePiece's that is not read.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    saved = {name: value for node in piece_encoder.walk() for name, value in node.attrs.items()}
    reader = next(read for name, read in _READERS.items() if isinstance(saved[name], bytes))
    core = reader(saved)
    first, last, unknown = (saved[f"{one}_piece"] for one in ("bos", "eos", "unk"))
    ends = [(one, core.token_to_id(one)) for one in (first, last)]
    core.post_processor = processors.TemplateProcessing(f"{first} $A {last}", None, ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **dict.fromkeys(("bos_token", "cls_token"), first),
        **dict.fromkeys(("eos_token", "sep_token"), last),
        unk_token=unknown,
        pad_token=core.id_to_token(padding),
        model_max_length=limit,
        split_special_tokens=True,  # in a text, "[SEP]" is a text
    )


# Python lower-cases, finds accents and cuts at punctuation there. HuggingFace's own parts for BERT
# know neither the sigma at a word's end nor the characters of later Unicode.
def _wordpieces(saved: Mapping[str, Any]) -> Any:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    pieces = saved["wordpiece_processor"].decode("utf8").split("\n")
    ids, unknown = {piece: i for i, piece in enumerate(pieces)}, saved["unk_piece"]
    core = Tokenizer(models.WordPiece(ids, unk_token=unknown, max_input_chars_per_word=10**6))
    lower = [normalizers.Replace(Regex(_LAST_SIGMA), "ς"), normalizers.Lowercase()]
    bare = [normalizers.NFD(), normalizers.Replace(Regex(r"\p{Mn}"), "")]
    core.normalizer = normalizers.Sequence(
        lower * saved["lowercase"] + bare * saved["strip_accents"]
    )
    cut = pre_tokenizers.Split(Regex(_PUNCTUATION), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), cut])
    return core


def _byte_bpe(saved: Mapping[str, Any]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    bpe = srsly.msgpack_loads(saved["byte_bpe_processor"])
    core = Tokenizer(models.BPE(bpe["vocab"], [tuple(pair) for pair in bpe["merges"]]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return core


# A SentencePiece model itself says what its special pieces are called, which is added.
def _sentencepieces(saved: dict[str, Any]) -> Any:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers.convert_slow_tokenizer import import_protobuf

    try:
        proto = import_protobuf().ModelProto.FromString(saved["sentencepiece_processor"])
    except ImportError as error:
        raise ImportError(
            "SentencePiece's pieces need protobuf: run `pip install 'trfnb[curated]'`."
        ) from error
    trainer, rules = proto.trainer_spec, proto.normalizer_spec
    if trainer.model_type != trainer.UNIGRAM:
        raise ValueError(
            "A SentencePiece encoder expected pieces of the kind UNIGRAM, which XLM-R, CamemBERT "
            f"and ALBERT have, got {trainer.ModelType.Name(trainer.model_type)}. Such a pipeline "
            "still needs spacy-curated-transformers."
        )
    moved, shift = saved.get("moved", {}), saved.get("shift", 0)
    numbers = [moved.get(i, i + shift) for i in range(len(proto.pieces))]
    vocab, unknown = _numbered(proto.pieces, numbers), numbers[trainer.unk_id]
    saved.update(
        bos_piece=trainer.bos_piece, eos_piece=trainer.eos_piece, unk_piece=vocab[unknown][0]
    )
    core = Tokenizer(models.Unigram(vocab, unknown, trainer.byte_fallback))
    charsmap = rules.precompiled_charsmap  # Unicode's forms, and perhaps lower case
    forms = [normalizers.Precompiled(charsmap)] if charsmap else []
    spaces = [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    core.normalizer = normalizers.Sequence(forms + spaces)
    core.pre_tokenizer = pre_tokenizers.Metaspace(
        "▁", "always" if rules.add_dummy_prefix else "never", split=False
    )
    return core


# Put pieces and their scores in the order of the encoder's numbers.
#
# A score says what SentencePiece does: it always reads a user's own piece, as if each of its bytes
# were the likeliest piece, and control pieces never (here, unless their characters are unknown).
def _numbered(pieces: Any, numbers: Sequence[int]) -> list[tuple[str, float]]:
    normal = [one.score for one in pieces if one.type == one.NORMAL]
    never, high = min(normal) - 1000.0, max(normal)  # of log probabilities
    found = {1: ("<pad>", never)}  # in fairseq's numbers, which the model itself has not
    for number, one in zip(numbers, pieces, strict=True):
        own = len(one.piece.encode()) * high - 0.1
        scores = {one.NORMAL: one.score, one.BYTE: one.score, one.USER_DEFINED: own}
        found[number] = one.piece, scores.get(one.type, never)
    return [found.get(i, (f"<unused{i}>", never)) for i in range(max(numbers) + 1)]


_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "wordpiece_processor": _wordpieces,
    "byte_bpe_processor": _byte_bpe,
    "sentencepiece_processor": _sentencepieces,
}
