"""What spacy-curated-transformers computes, written down for `curated.py`.

Runs in spacy-curated-transformers' own virtual environment: `python curated_peer.py WORK KIND`.
WORK holds `texts.json`, which `curated.py` put there.
"""

import json
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import spacy
import torch
from spacy.training import Example
from thinc.api import fix_random_seed, reduce_mean

THERE = "spacy-curated-transformers"
NAMES = {
    "bert": ("Bert", "BertWordpieceEncoder"),
    "roberta": ("Roberta", "ByteBpeEncoder"),
    "xlmr": ("Xlmr", "XlmrSentencepieceEncoder"),
    "camembert": ("Camembert", "CamembertSentencepieceEncoder"),
    "albert": ("Albert", "SentencepieceEncoder"),
}
# SentencePiece models as those that XLM-R and CamemBERT have, and as ALBERT's: settings of its
# trainer, and how many numbers the encoder has beside its pieces.
FAIRSEQ = {"normalization_rule_name": "nmt_nfkc"}
SENTENCEPIECE = {
    "xlmr": (FAIRSEQ, 2),
    "camembert": (FAIRSEQ, 5),
    "albert": (
        {
            "normalization_rule_name": "nmt_nfkc_cf",
            "pad_id": 0,
            "unk_id": 1,
            "bos_id": 2,
            "eos_id": 3,
            "bos_piece": "[CLS]",
            "eos_piece": "[SEP]",
            "control_symbols": ["[MASK]"],
            "user_defined_symbols": list('()"-.–£€'),
        },
        0,
    ),
}
SMALL = {
    "hidden_width": 32,
    "intermediate_width": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def listener(name, **more):
    """Return the settings of a listener."""
    pooling = {"@layers": "reduce_mean.v1"}
    return {"@architectures": f"{THERE}.{name}.v1", "width": 32, "pooling": pooling, **more}


def pieces(kind, texts):
    """Return a kind's processor of pieces, how many numbers it has, and its other settings."""
    from curated_tokenizers import ByteBPEProcessor, SentencePieceProcessor, WordPieceProcessor

    if kind in SENTENCEPIECE:
        from sentencepiece import SentencePieceTrainer

        settings, more = SENTENCEPIECE[kind]
        written = BytesIO()
        SentencePieceTrainer.train(
            sentence_iterator=iter(texts["sentences"]),
            model_writer=written,
            vocab_size=1500,
            minloglevel=2,
            **settings,
        )
        processor = SentencePieceProcessor.from_protobuf(written.getvalue())
        return {"sentencepiece_processor": processor}, len(processor) + more
    if kind == "roberta":
        merges = [tuple(pair) for pair in texts["roberta"]["merges"]]
        vocab = texts["roberta"]["vocab"]
        return {"byte_bpe_processor": ByteBPEProcessor(vocab, merges)}, len(vocab)
    attrs = {"wordpiece_processor": WordPieceProcessor(texts["bert"])}
    return {**attrs, "lowercase": True, "strip_accents": True}, len(texts["bert"])


def pipeline(kind, texts):
    """Return a small pipeline with random weights and its pieces."""
    family, encoder = NAMES[kind]
    attrs, size = pieces(kind, texts)
    nlp = spacy.blank("en")
    model = {
        "@architectures": f"{THERE}.{family}Transformer.v1",
        "vocab_size": size,
        "piece_encoder": {"@architectures": f"{THERE}.{encoder}.v1"},
        "with_spans": {
            "@architectures": f"{THERE}.WithStridedSpans.v1",
            "stride": 24,
            "window": 32,
        },
        **SMALL,
    }
    if kind == "albert":
        model.update(embedding_width=24, num_hidden_layers=4, num_hidden_groups=2)
    config = {"all_layer_outputs": True, "model": model}
    nlp.add_pipe("curated_transformer", name="transformer", config=config)
    n_layers = model["num_hidden_layers"]
    weighting = {"@architectures": f"{THERE}.ScalarWeight.v1", "num_layers": n_layers}
    last = listener("LastTransformerLayerListener", grad_factor=0.5)
    nlp.add_pipe("tagger", config={"model": {"tok2vec": last}})
    mixed = listener("ScalarWeightingListener", weighting=weighting)
    nlp.add_pipe("ner", config={"model": {"tok2vec": mixed}})
    model = nlp.get_pipe("transformer").model
    encoder = model.get_ref("piece_encoder")
    (encoder.get_ref("encoder") if encoder.has_ref("encoder") else encoder).attrs.update(attrs)
    torch.manual_seed(3)
    for key, parameter in model.get_ref("transformer").shims[0]._model.named_parameters():
        if "norm" not in key:
            parameter.data.normal_(0, 0.25)
    return nlp


def main(work, kind):
    """Write a pipeline, its token vectors and its predictions."""
    texts = json.loads((work / "texts.json").read_text())
    fix_random_seed(1)
    nlp = pipeline(kind, texts)
    gold = [
        Example.from_dict(
            nlp.make_doc(one["text"]),
            {"words": one["words"], "tags": one["tags"], "entities": one["ents"]},
        )
        for one in texts["train"]
    ]
    nlp.initialize(lambda: gold)
    # Random output layers tell tokens apart; a few epochs on random features would not.
    noise = np.random.default_rng(0)
    for name in ("tagger", "ner"):
        for node in nlp.get_pipe(name).model.walk():
            if node.has_param("W"):
                shape = node.get_param("W").shape
                node.set_param("W", noise.normal(size=shape).astype("float32"))
            for shim in node.shims:
                if hasattr(shim._model, "layer_weights"):
                    shim._model.layer_weights.data += torch.linspace(
                        -0.5, 0.9, len(shim._model.layer_weights)
                    )
    nlp.to_disk(work / kind)
    docs = list(nlp.pipe(texts["test"]))
    vectors = [reduce_mean().predict(doc._.trf_data.last_hidden_layer_state) for doc in docs]
    np.save(work / f"{kind}.npy", np.concatenate(vectors))
    (work / f"{kind}.json").write_text(json.dumps([doc.to_json() for doc in docs]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
