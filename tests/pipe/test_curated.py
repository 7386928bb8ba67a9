"""Pipelines of spacy-curated-transformers; `benchmarks/parity/curated.py` compares real ones."""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import spacy
import srsly
import torch
from small_pipelines import SENTENCES, examples, initialized
from spacy.tokens import Doc
from thinc.api import Model, PyTorchWrapper
from transformers import AlbertConfig, AlbertModel, AutoTokenizer, BertModel
from transformers.convert_slow_tokenizer import import_protobuf

import trfnb
from trfnb import registry
from trfnb.cli import main
from trfnb.flow.alignment import align
from trfnb.flow.encoder import encoders
from trfnb.flow.spans import TokenWindows
from trfnb.pipe import curated
from trfnb.pipe.manifest import NOTE
from trfnb.pipe.pieces import tokenizer_of

pytestmark = pytest.mark.skipif(
    bool(find_spec("spacy_curated_transformers")), reason="its own package has the names"
)
THERE = "spacy-curated-transformers"
TEXTS = [SENTENCES[0][0], "the unable river", " the  bank"]


def test_tokens_are_cut_by_themselves_in_windows_over_the_doc(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    vocab = spacy.blank("en").vocab
    doc = Doc(vocab, words=["un", "bank", " ", "river", "unable"], spaces=[False, *[True] * 4])
    docs, windows = [doc, Doc(vocab), Doc(vocab, ["the"])], TokenWindows(5, 4)
    spans, found = windows.tokenise(docs, tokenizer)
    assert [len(one) for one in spans] == [2, 0, 1]
    assert found.strings == [
        ["[CLS]", "un", "bank", "river", "un"],
        ["un", "##able", "[SEP]"],
        ["[CLS]", "the", "[SEP]"],
    ]
    ends = [(0, 0), (0, 2), (2, 6), (9, 14), (15, 21), (15, 21), (15, 21), (0, 0)]
    assert found.offsets.tolist() == [list(one) for one in [*ends, (0, 0), (0, 3), (0, 0)]]
    assert not found.truncated.any()
    # "un" of "unable" is in both windows, "##able" in one: each counts for half.
    weighted = windows.weighted(align(docs, spans, found), spans, found)
    assert weighted.lengths.tolist() == [1, 1, 0, 1, 4, 1]
    assert weighted.dataXd.tolist() == [1, 2, 3, 4, 5, 6, 6, 9]


BERT_NAMES = (
    ("embeddings.LayerNorm", "embeddings.layer_norm"),
    ("encoder.layer.", "layers."),
    ("attention.self.query", "mha.input"),
    ("attention.output.dense", "mha.output"),
    ("attention.output.LayerNorm", "attn_output_layernorm"),
    ("intermediate.dense", "ffn.intermediate"),
    ("output.dense", "ffn.output"),
    ("output.LayerNorm", "ffn_output_layernorm"),
)
ALBERT_NAMES = (
    ("embeddings.LayerNorm", "embeddings.layer_norm"),
    ("encoder.embedding_hidden_mapping_in", "embeddings.projection"),
    ("encoder.albert_layer_groups", "groups"),
    ("albert_layers", "group_layers"),
    ("attention.query", "mha.input"),
    ("attention.dense", "mha.output"),
    ("attention.LayerNorm", "attn_output_layernorm"),
    ("ffn.", "ffn.intermediate."),
    ("ffn_output.", "ffn.output."),
    ("full_layer_layer_norm", "ffn_output_layernorm"),
)


def their_names(state, names=BERT_NAMES):
    """Name a model's tensors as curated-transformers does, with one tensor for Q, K, V."""
    named = {}
    for name, tensor in state.items():
        if "pooler" in name or name.split(".")[-2] in ("key", "value"):
            continue
        if ".query." in name:
            parts = [state[name.replace("query", part)] for part in ("query", "key", "value")]
            tensor = torch.cat(parts)
        for here, there in names:
            name = name.replace(here, there)
        named[f"curated_encoder.{name}"] = tensor
    return named


class Weights(torch.nn.Module):
    def state_dict(self, *args, **kwargs):
        return self.tensors


def saved_there(tiny):
    """Return the bytes of a transformer's model: the tree of nodes that the library saves."""
    weights = Weights()
    weights.tensors = their_names(BertModel.from_pretrained(tiny).state_dict())

    def node(name, *layers, **parts):
        return Model(name, lambda model, X, is_train: (X, lambda dX: dX), layers=layers, **parts)

    pieces = {"unk_piece": "[UNK]", "bos_piece": "[CLS]", "eos_piece": "[SEP]"}
    piecer = node(
        "wordpiece_encoder",
        attrs={"wordpiece_processor": "", "lowercase": True, "strip_accents": True, **pieces},
    )
    strided = node("with_strided_spans", PyTorchWrapper(weights), attrs={"stride": 6, "window": 8})
    inner = node("chain", piecer, strided, node("remove_bos_eos"))
    root = node("transformer_model", node("with_non_ws_tokens", inner), dims={"nO": 16})
    root.set_ref("piece_encoder", piecer)
    root.set_ref("transformer", strided.layers[0])
    saved = root.to_dict()
    vocab = AutoTokenizer.from_pretrained(tiny).get_vocab()
    # The library saves its pieces as lines, not as msgpack.
    saved["attrs"][3]["wordpiece_processor"] = "\n".join(sorted(vocab, key=vocab.get)).encode()
    return srsly.msgpack_dumps(saved)


def pipeline_there(tiny):
    config = BertModel.from_pretrained(tiny).config
    settings = {
        "vocab_size": config.vocab_size,
        "hidden_width": config.hidden_size,
        "intermediate_width": config.intermediate_size,
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
        "layer_norm_eps": config.layer_norm_eps,
        "model_max_length": 48,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "padding_idx": 0,
    }
    spans = {"@architectures": f"{THERE}.WithStridedSpans.v1", "stride": 6, "window": 8}
    pieces = {"@architectures": f"{THERE}.BertWordpieceEncoder.v1"}
    model = {"@architectures": f"{THERE}.BertTransformer.v1", "with_spans": spans, **settings}
    nlp = spacy.blank("en")
    nlp.add_pipe(
        "curated_transformer",
        name="transformer",
        config={"all_layer_outputs": True, "model": {**model, "piece_encoder": pieces}},
    )
    nlp.get_pipe("transformer").model.from_bytes(saved_there(tiny))
    listener = {
        "@architectures": f"{THERE}.LastTransformerLayerListener.v1",
        "width": 16,
        "pooling": {"@layers": "reduce_mean.v1"},
        "grad_factor": 0.5,
    }
    nlp.add_pipe("tagger", config={"model": {"tok2vec": listener}})
    return initialized(nlp)


def test_what_was_saved_there_is_opened_and_rewritten(tiny, tmp_path):
    nlp = pipeline_there(tiny)
    docs = list(nlp.pipe(TEXTS))
    hf_model, tokenizer = (
        BertModel.from_pretrained(tiny).eval(),
        AutoTokenizer.from_pretrained(tiny),
    )
    found = hf_model(**tokenizer("the unable river", return_tensors="pt")).last_hidden_state[0]
    expected = np.stack([found[1].detach(), found[2:4].mean(0).detach(), found[4].detach()])
    np.testing.assert_allclose(trfnb.token_vectors(docs[1]), expected, atol=1e-5)
    with pytest.raises(ValueError, match="trfnb import-pipeline SRC DST"):
        nlp.to_disk(tmp_path / "there")
    nlp.to_disk(tmp_path / "there", exclude=["transformer"])
    (tmp_path / "there/transformer").mkdir(exist_ok=True)
    (tmp_path / "there/transformer/cfg").write_text("{}")
    (tmp_path / "there/transformer/model").write_bytes(saved_there(tiny))
    opened = spacy.load(tmp_path / "there")
    assert [doc.to_json() for doc in opened.pipe(TEXTS)] == [doc.to_json() for doc in docs]
    assert main(["import-pipeline", str(tmp_path / "there"), str(tmp_path / "here")]) == 0
    assert THERE + ".Bert" not in (tmp_path / "here/tagger/cfg").read_text()
    loaded = spacy.load(tmp_path / "here")
    config = loaded.config["components"]
    assert config["transformer"]["factory"] == "trfnb_transformer"
    assert config["transformer"]["model"]["get_spans"] == {
        "@span_getters": "trfnb.token_windows.v1", "window": 8, "stride": 6
    }  # fmt: skip
    assert config["tagger"]["model"]["tok2vec"]["grad_factor"] == 0.5
    again = list(loaded.pipe(TEXTS))
    assert [doc.to_json() for doc in again] == [doc.to_json() for doc in docs]
    np.testing.assert_allclose(trfnb.token_vectors(again[1]), expected, atol=1e-5)
    loaded.update(examples(loaded))
    config = opened.config.copy()
    config["components"]["transformer"]["frozen"] = True
    frozen = spacy.blank("en").from_config(config)
    frozen.from_disk(tmp_path / "there")
    (encoder,) = encoders(frozen.get_pipe("transformer").model)
    frozen.update(examples(frozen), sgd=frozen.resume_training())
    assert not any(one.requires_grad for one in encoder.shims[0].loaded().parameters())
    noted = srsly.read_json(tmp_path / "here" / NOTE)
    assert "transformer/encoder/model.safetensors" in noted


def test_alberts_tensors_get_their_names_back():
    sizes = {"embedding_size": 8, "hidden_size": 16, "intermediate_size": 24, "vocab_size": 20}
    layers = {"num_attention_heads": 4, "num_hidden_layers": 4, "num_hidden_groups": 2}
    state = AlbertModel(AlbertConfig(**sizes, **layers)).state_dict()
    found = curated._renamed_tensors(their_names(state, ALBERT_NAMES), curated._ALBERT_LAYERS)
    assert found.keys() == {name for name in state if "pooler" not in name}
    assert all(found[name].equal(state[name]) for name in found)


# Words, and what becomes of them there; each was computed there.
WORDPIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[", "]", "-", "1", "the", "ban", "##k", "caf", "##e"),
    *("new", "york", "se", "##p", "ο", "##δ", "##ος", "##σ", "क", "##ा", "ᄒ", "##ᅡ", "##ᆫ"),
]
WORDS = {
    "Bank": "ban ##k",
    "Café": "caf ##e",
    "bank€": "ban ##k [UNK]",  # what is known of a word stays
    "€bank": "[UNK]",
    "bank€-the北京": "ban ##k [UNK] - the [UNK]",
    "the\u00adthe": "the [UNK]",
    "the" + "the" * 50: "the [UNK]",
    "New York-new": "new [UNK] - new",  # a token with a space, as of merged entities
    "new\x1cnew": "new [UNK]",
    "[SEP]": "[ se ##p ]",
    "##k": "[UNK] [UNK] [UNK]",
    "ΟΔΟΣ": "ο ##δ ##ος",
    "1\ufe0f\u20e3": "1 [UNK]",  # only accents without width are accents
    "का": "क ##ा",
    "한": "ᄒ ##ᅡ ##ᆫ",
    " ": "",
    "\u0301": "",
}


@pytest.mark.parametrize("reload", [False, True])
def test_wordpieces_are_those_of_the_library(reload, tmp_path):
    piece_encoder = registry.architectures.get(f"{THERE}.BertWordpieceEncoder.v1")()
    saved = piece_encoder.to_dict()
    special = {"unk_piece": "[UNK]", "bos_piece": "[CLS]", "eos_piece": "[SEP]"}
    saved["attrs"][0] = {
        **{name: srsly.msgpack_dumps(piece) for name, piece in special.items()},
        **dict.fromkeys(("lowercase", "strip_accents"), srsly.msgpack_dumps(True)),
        "wordpiece_processor": "\n".join(WORDPIECES).encode(),
    }
    tokenizer = tokenizer_of(piece_encoder.from_dict(saved), 0, 512)
    if reload:
        tokenizer.save_pretrained(tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    doc = Doc(spacy.blank("en").vocab, list(WORDS))
    _, found = TokenWindows(512, 512).tokenise([doc], tokenizer)
    of_words = {token.idx: [] for token in doc}
    for piece, (start, end) in zip(found.strings[0], found.offsets.tolist(), strict=True):
        if end > start:
            of_words[start].append(piece)
    assert {t.text: " ".join(of_words[t.idx]) for t in doc} == WORDS
    assert (found.strings[0][0], found.strings[0][-1]) == ("[CLS]", "[SEP]")


NORMAL, UNKNOWN, CONTROL, OWN = 1, 2, 3, 4
PIECES = [
    *(("▁the", -1.0, NORMAL), ("▁", -2.0, NORMAL), ("bank", -3.0, NORMAL), ("b", -4.0, NORMAL)),
    *(("a", -4.0, NORMAL), ("(", 0.0, OWN), ("(a", -6.0, NORMAL)),
]
FAIRSEQ = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), *PIECES]
ALBERT = [("<pad>", 0.0, CONTROL), ("<unk>", 0.0, UNKNOWN), ("[CLS]", 0.0, CONTROL),
          ("[SEP]", 0.0, CONTROL), *PIECES]  # fmt: skip


def loaded_pieces(name, pieces, **trainer):
    """Return one of their piece encoders with the pieces of a small SentencePiece model."""
    pytest.importorskip("google.protobuf")
    proto = import_protobuf().ModelProto()
    for piece, score, kind in pieces:
        proto.pieces.add(piece=piece, score=score, type=kind)
    for setting, value in {"model_type": 1, **trainer}.items():
        setattr(proto.trainer_spec, setting, value)
    piece_encoder = registry.architectures.get(f"{THERE}.{name}.v1")()
    saved = piece_encoder.to_dict()
    place = max(i for i, node in enumerate(saved["nodes"]) if node["name"] == "piece_encoder")
    saved["attrs"][place] = {"sentencepiece_processor": proto.SerializeToString()}
    return piece_encoder.from_dict(saved)


@pytest.mark.parametrize(
    ("name", "pieces", "special", "numbers"),
    [
        ("XlmrSentencepieceEncoder", FAIRSEQ, {}, [0, 4, 5, 6, 5, 3, 5, 9, 7, 3, 2]),
        ("CamembertSentencepieceEncoder", FAIRSEQ, {}, [5, 7, 8, 9, 8, 3, 8, 12, 10, 3, 6]),
        (
            "SentencepieceEncoder",
            ALBERT,
            {"unk_id": 1, "bos_piece": "[CLS]", "eos_piece": "[SEP]"},
            [2, 4, 5, 6, 5, 1, 5, 9, 7, 1, 3],
        ),
    ],
)
def test_sentencepieces_have_the_encoders_numbers(name, pieces, special, numbers):
    piece_encoder = loaded_pieces(name, pieces, **special)
    tokenizer = tokenizer_of(piece_encoder, 0 if special else 1, 512)
    words = ["the", "bank", "北京", "(b?"]  # runs of unknown characters are one piece
    doc = Doc(spacy.blank("en").vocab, words, spaces=[True, True, False, False])
    _, found = TokenWindows(32, 24).tokenise([doc], tokenizer)
    first, last = special.get("bos_piece", "<s>"), special.get("eos_piece", "</s>")
    unknown = ["▁", "<unk>"]
    assert found.strings == [[first, "▁the", "▁", "bank", *unknown, "▁", "(", "b", "<unk>", last]]
    assert found.ids.tolist() == numbers
    assert tokenizer.pad_token == "<pad>"
    # A user's own piece counts as likelier than any other: "(" and not "(a".
    again = tokenizer.convert_ids_to_tokens(tokenizer("(a")["input_ids"])
    assert again == [first, "▁", "(", "a", last]


def test_a_special_piece_in_a_text_is_text():
    characters = [(one, -3.0, NORMAL) for one in "<s>"]
    piece_encoder = loaded_pieces("XlmrSentencepieceEncoder", [*FAIRSEQ, *characters])
    doc = Doc(spacy.blank("en").vocab, ["<s>"])
    _, found = TokenWindows(32, 24).tokenise([doc], tokenizer_of(piece_encoder, 1, 512))
    assert found.strings == [["<s>", "▁", "<", "s", ">", "</s>"]]


def test_other_kinds_of_sentencepieces_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="UNIGRAM, which XLM-R, CamemBERT and ALBERT have, got B"):
        tokenizer_of(loaded_pieces("SentencepieceEncoder", FAIRSEQ, model_type=2), 0, 512)
    piece_encoder = loaded_pieces("SentencepieceEncoder", FAIRSEQ)
    # transformers gives its module's name to a function, too.
    module = import_module("transformers.convert_slow_tokenizer")
    for package in ("protobuf", "sentencepiece"):
        monkeypatch.setattr(module, f"is_{package}_available", lambda: False)
    with pytest.raises(ImportError, match=r"trfnb\[curated\]"):
        tokenizer_of(piece_encoder, 0, 512)


@pytest.mark.parametrize("name", ["CharEncoder", "WordpieceEncoder", "TransformerLayersListener"])
def test_what_cannot_be_read_is_refused(name):
    with pytest.raises(ValueError, match="Such a pipeline still needs spacy-curated-transformers"):
        registry.architectures.get(f"{THERE}.{name}.v1")()
