"""Pretraining: masking, objectives and the loop."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trfnb.pretraining.loading import load_weights
    from trfnb.pretraining.loop import pretrain

__all__ = ["load_weights", "pretrain"]


def __getattr__(name: str) -> Any:
    # Both need torch; naming the room must not load it.
    if name == "pretrain":
        from trfnb.pretraining.loop import pretrain

        return pretrain
    if name == "load_weights":
        from trfnb.pretraining.loading import load_weights

        return load_weights
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
