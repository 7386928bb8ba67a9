"""trfnb: nothing is tuned by hand."""

from common import blank

import trfnb

CHOICES: list[int] = []
DEFAULT = 0


def build(path, precision, choice, train=False, dropout=True):
    """Build a pipeline; a choice is an engine."""
    rates = {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = {"name": path, "precision": precision, "transformer_config": rates}
    model["engine"] = choice or "auto"
    listener = {"@architectures": "trfnb.TransformerListener.v1"}
    return blank(
        listener if train else None, factory_name="trfnb_transformer", name="transformer",
        config={"model": model},
    )  # fmt: skip


def for_a_book(nlp):
    """Read a book in windows; a whole one fits no encoder."""
    from trfnb.flow.spans import StridedSpans

    nlp.get_pipe("transformer").model.attrs["get_spans"] = StridedSpans(128, 128)


def vectors(doc):
    """Return one vector a token."""
    return trfnb.token_vectors(doc)


def states(doc):
    """Return one vector a wordpiece."""
    return doc._.trf_data.layer(-1)


def optimizer(rate):
    """Return what it trains with."""
    from trfnb.experiments.weights import EncoderAdam

    return EncoderAdam(rate, encoder_factor=1.0)
