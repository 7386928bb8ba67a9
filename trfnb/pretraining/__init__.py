"""Pretraining on raw text: masking, objectives, and a loop that resumes exactly."""

from trfnb import on_first_use

# They need torch and spaCy; the command line imports this package without them.
__getattr__, __dir__, __all__ = on_first_use(
    __name__,
    {
        "PretrainingError": "trfnb.pretraining.text",
        "load_weights": "trfnb.pretraining.weights",
        "pretrain": "trfnb.pretraining.loop",
        "pretraining_config": "trfnb.pretraining.config",
        "with_pretrained": "trfnb.pretraining.config",
        "write_text": "trfnb.pretraining.config",
    },
)
