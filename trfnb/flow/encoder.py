"""Wordpiece ids -> hidden states: a HuggingFace model inside a Thinc layer."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from thinc.api import Model, torch2xp, xp2torch
from thinc.types import Floats2d, Floats3d

from .forking import one_thread_in_forks
from .mixing import Layer
from .packing import copy_rows, distinct
from .passes import passes
from .runtime import Runtime
from .weights import EncoderShim
from .wordpieces import Wordpieces

one_thread_in_forks()


class Hidden(dict[int, Floats2d]):
    """Layer number -> (n, width) hidden states of n wordpieces.

    Attributes:
        attentions: For each text (layers, heads, its wordpieces, its wordpieces), if asked for.
    """

    attentions: list[Floats3d] | None = None


def encoder(shim: EncoderShim, runtime: Runtime) -> Model[Wordpieces, Hidden]:
    """Wrap a HuggingFace encoder.

    The layer maps a flat batch of n wordpieces to the hidden states asked for: for each layer
    number in ``attrs["layers"]`` an array (n, width). Layer 0 is the embeddings' output, -1 the
    last layer; ``"mix"`` asks for all. Its backprop takes gradients of the same form, for any of
    those layers, and accumulates them on the weights; ids have no gradient, so it returns nothing.
    """
    return Model(
        "encoder",
        forward,
        dims={"nO": None},
        shims=[shim],
        attrs={"layers": [-1], "runtime": runtime},
    )


def forward(
    model: Model[Wordpieces, Hidden], wordpieces: Wordpieces, is_train: bool
) -> tuple[Hidden, Callable[[Mapping[int, Floats2d]], None]]:
    """Run length-sorted micro-batches and put their rows back in order.

    Where memory runs out, the micro-batches are halved until they fit, and stay so.
    """
    before = model.attrs["runtime"]
    device = cast(EncoderShim, model.shims[0]).device
    first = items = before.items(device, is_train)
    while True:
        try:
            result = _forward(model, wordpieces, is_train)
            break
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _out_of_memory(error) or items <= wordpieces.lengths.max(initial=1):
                model.attrs["runtime"] = before
                raise
        # Outside the handler, where the failed pass's tensors are no longer held.
        items //= 2
        model.attrs["runtime"] = replace(before, max_batch_items=items)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    if items < first:
        warnings.warn(
            f"Out of memory at {first} wordpieces a forward pass; going on with {items}. "
            f"Set max_batch_items = {items} on the transformer to start there.",
            RuntimeWarning,
            stacklevel=2,
        )
    return result


def _forward(
    model: Model[Wordpieces, Hidden], wordpieces: Wordpieces, is_train: bool
) -> tuple[Hidden, Callable[[Mapping[int, Floats2d]], None]]:
    shim, runtime = cast(EncoderShim, model.shims[0]), model.attrs["runtime"]
    device = shim.device
    layers = wanted_layers(shim, model.attrs["layers"])
    out = {layer: torch.empty((len(wordpieces.ids), shim.width), device=device) for layer in layers}
    looks: dict[int, Floats3d] = {}
    graph = []
    # With dropout, texts that come twice differ.
    every = is_train or runtime.attentions
    texts, copies = (np.arange(len(wordpieces.lengths)), []) if every else distinct(wordpieces)
    for place, states in passes(shim, runtime, wordpieces, texts, layers, is_train, looks):
        for layer, rows in states.items():
            out[layer][place] = rows.detach()
        if is_train:
            graph.append((place, states))
    if copies:
        to, source = (torch.from_numpy(one).to(device) for one in copy_rows(wordpieces, copies))
        for rows in out.values():
            rows[to] = rows[source]

    def backprop(d_rows: Mapping[int, Floats2d]) -> None:
        d_torch = {layer: xp2torch(d, device=device) for layer, d in d_rows.items()}
        ends, gradients = [], []
        for place, states in graph:
            for layer, d in d_torch.items():
                if states[layer].requires_grad:
                    ends.append(states[layer])
                    gradients.append(d[place])
        if ends:
            torch.autograd.backward(ends, gradients)
            shim.has_gradient = True

    hidden = Hidden({layer: cast(Floats2d, torch2xp(rows)) for layer, rows in out.items()})
    if runtime.attentions:
        shape = (shim.n_layers, int(shim.config.num_attention_heads), 0, 0)
        nothing = cast(Floats3d, torch2xp(torch.zeros(shape, device=device)))
        hidden.attentions = [looks.get(i, nothing) for i in range(len(wordpieces.lengths))]
    return hidden, backprop


def wanted_layers(shim: EncoderShim, layers: Sequence[Layer]) -> list[int]:
    """Return the numbers of the layers asked for, all of them for a mix."""
    if "mix" in layers:
        return list(range(shim.n_layers + 1))
    return sorted({shim.layer_index(layer) for layer in layers if layer != "mix"})


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
