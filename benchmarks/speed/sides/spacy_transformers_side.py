"""spacy-transformers: as shipped, or with another `max_batch_items`."""

from common import blank
from thinc.api import Adam, reduce_mean
from thinc.types import Ragged

CHOICES = [256, 512, 1024, 2048]
DEFAULT = 4096


def build(path, precision, choice, train=False, dropout=True):
    """Build a pipeline; this library computes in fp32 alone on a CPU."""
    rates = {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    listener = {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "grad_factor": 1.0,
        "pooling": {"@layers": "reduce_mean.v1"},
    }
    model = {
        "@architectures": "spacy-transformers.TransformerModel.v3",
        "name": path,
        "get_spans": {"@span_getters": "spacy-transformers.doc_spans.v1"},
        "tokenizer_config": {"use_fast": True},
        "transformer_config": rates,
    }
    return blank(
        listener if train else None,
        factory_name="transformer",
        config={"model": model, "max_batch_items": choice or DEFAULT},
    )


def for_a_book(nlp):
    """Read a book in windows; a whole one fits no encoder."""
    from spacy_transformers.span_getters import configure_strided_spans

    nlp.get_pipe("transformer").model.attrs["get_spans"] = configure_strided_spans(128, 128)


def vectors(doc):
    """Return one vector a token, by this library's own alignment."""
    data = doc._.trf_data
    rows = data.model_output.last_hidden_state.reshape(-1, data.width)
    return reduce_mean().predict(Ragged(rows[data.align.dataXd.ravel()], data.align.lengths))


def optimizer(rate):
    """Return what it trains with."""
    return Adam(rate, L2=0.01, grad_clip=1.0)
