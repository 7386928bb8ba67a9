"""Which layers of the encoder learn: all, the upper ones, or more and more of them."""

from collections.abc import Iterable, Iterator

import torch

_NOTHING_YET = -1


class Trainable:
    """How many of the upper layers learn.

    Gradual unfreezing starts at the top and moves down (Howard and Ruder, 2018, Universal
    language model fine-tuning for text classification, https://arxiv.org/abs/1801.06146).

    Args:
        layers: None for everything, the embeddings included; a number of layers, counted from the
            top; or a schedule of such numbers, stepped once a training step. One more than the
            model has layers reaches the embeddings.

    Raises:
        TypeError: it is none of these.
        ValueError: a number is negative or NaN.
    """

    def __init__(self, layers: float | Iterable[float] | None = None) -> None:
        self._schedule: Iterator[float] | None = None
        self.now: float | None
        if layers is None or (isinstance(layers, (int, float)) and not isinstance(layers, bool)):
            self.now = _checked(layers)
        elif isinstance(layers, Iterable) and not hasattr(layers, "encode"):
            self._schedule = iter(layers)
            self.now = _checked(next(self._schedule, None))
        else:
            raise TypeError(
                "trainable_layers expected a number of layers from the top, a schedule of them, or "
                f"null for all, got {layers!r} ({type(layers).__name__})."
            )
        self._applied: int | None = _NOTHING_YET

    def step(self) -> None:
        """Move on to the next training step."""
        if self._schedule is not None:
            self.now = _checked(next(self._schedule, self.now))

    def reset(self) -> None:
        """Forget which layers were chosen: the model was loaded anew."""
        self._applied = _NOTHING_YET

    def apply(self, body: torch.nn.Module, n_layers: int) -> None:
        """Let the chosen layers take a gradient, and no others."""
        wanted = None if self.now is None else int(self.now)
        if wanted == self._applied:
            return
        self._applied = wanted
        everything = wanted is None or wanted > n_layers
        for parameter in body.parameters():
            parameter.requires_grad_(everything)
        if not everything and wanted:
            for layer in layer_stack(body, n_layers)[n_layers - wanted :]:
                for parameter in layer.parameters():
                    parameter.requires_grad_(True)


def _checked(layers: float | None) -> float | None:
    if layers is not None and not layers >= 0:
        raise ValueError(
            f"trainable_layers expected 0 layers from the top or more (null for all), got {layers}."
        )
    return layers


def layer_stack(body: torch.nn.Module, n_layers: int) -> torch.nn.ModuleList:
    """Find the encoder's layers.

    Raises:
        ValueError: the model keeps them in no list of that length.
    """
    for module in body.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == n_layers:
            return module
    raise ValueError(
        f"trainable_layers expected a model with a list of {n_layers} layers, but "
        f"{type(body).__name__} has none. Leave trainable_layers = null."
    )
