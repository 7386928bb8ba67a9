"""spacy-curated-transformers: as shipped, or with another number of spans a batch."""

import json
from pathlib import Path

from common import blank
from thinc.api import Adam, reduce_mean

CHOICES = [8, 16, 32, 64]
DEFAULT = 384
WIDEST = 500


def build(path, precision, choice, train=False, dropout=True, window=WIDEST):
    """Build a pipeline whose spans are as wide as the texts, so that outputs can agree."""
    config = json.loads((Path(path) / "config.json").read_text())
    rate = 0.1 if dropout else 0.0
    listener = {
        "@architectures": "spacy-curated-transformers.LastTransformerLayerListener.v1",
        "width": config["hidden_size"],
        "grad_factor": 1.0,
        "pooling": {"@layers": "reduce_mean.v1"},
    }
    model = {
        "@architectures": "spacy-curated-transformers.BertTransformer.v1",
        "vocab_size": config["vocab_size"],
        "hidden_width": config["hidden_size"],
        "intermediate_width": config["intermediate_size"],
        "num_attention_heads": config["num_attention_heads"],
        "num_hidden_layers": config["num_hidden_layers"],
        "attention_probs_dropout_prob": rate,
        "hidden_dropout_prob": rate,
        "piece_encoder": {
            "@architectures": "spacy-curated-transformers.BertWordpieceEncoder.v1",
        },
        "with_spans": {
            "@architectures": "spacy-curated-transformers.WithStridedSpans.v1",
            "window": window,
            "stride": window,
            "batch_size": choice or DEFAULT,
        },
    }
    nlp = blank(
        listener if train else None, factory_name="curated_transformer", name="transformer",
        config={"model": model},
    )  # fmt: skip
    loaders = {
        "encoder_loader": {
            "@model_loaders": "spacy-curated-transformers.HFTransformerEncoderLoader.v1",
            "name": path,
        },
        "piecer_loader": {
            "@model_loaders": "spacy-curated-transformers.HFPieceEncoderLoader.v1",
            "name": path,
        },
    }
    nlp.config["initialize"]["components"]["transformer"] = loaders
    return nlp


def vectors(doc):
    """Return one vector a token."""
    return reduce_mean().predict(doc._.trf_data.last_hidden_layer_state)


def optimizer(rate):
    """Return what it trains with."""
    return Adam(rate, L2=0.01, grad_clip=1.0)


def for_a_book(nlp):
    """A book is already read in windows."""
