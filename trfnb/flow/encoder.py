"""Wordpiece ids -> hidden states: a HuggingFace model inside a Thinc layer."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from thinc.api import Model, torch2xp, xp2torch
from thinc.types import Floats2d, Floats3d

from .caching import StateCache
from .forking import one_thread_in_forks
from .mixing import Layer
from .packing import copy_rows, distinct
from .passes import passes
from .precision import Precision as Precision
from .precision import resolved
from .runtime import Runtime as Runtime
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
    keys: list[tuple[int, bytes]] = []
    if runtime.cache is not None and not every:
        texts, keys = _read_cache(shim, runtime, wordpieces, texts, out)
    for place, states in passes(shim, runtime, wordpieces, texts, layers, is_train, looks):
        for layer, rows in states.items():
            out[layer][place] = rows.detach()
        if is_train:
            graph.append((place, states))
    if keys:
        _write_cache(shim, wordpieces, keys, out)
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


def _read_cache(
    shim: EncoderShim,
    runtime: Runtime,
    wordpieces: Wordpieces,
    texts: NDArray[np.int64],
    out: dict[int, torch.Tensor],
) -> tuple[NDArray[np.int64], list[tuple[int, bytes]]]:
    """Fill in the states that are on disk; return the other texts, with their keys."""
    if shim.cache is None or shim.cache.path != Path(str(runtime.cache)):
        shim.cache = StateCache(str(runtime.cache))
    precision = resolved(runtime.precision, shim.device)
    keys = shim.cache.keys(shim.loaded(), wordpieces, texts.tolist(), precision)
    known = shim.cache.read(keys, sorted(out))
    ends = np.cumsum(wordpieces.lengths)
    missing = []
    for text, key in zip(texts.tolist(), keys, strict=True):
        end, n = int(ends[text]), int(wordpieces.lengths[text])
        if key not in known:
            missing.append((text, key))
            continue
        for layer, rows in known[key].items():
            out[layer][end - n : end] = torch.from_numpy(rows.copy())
    return np.asarray([text for text, _ in missing], dtype="int64"), missing


def _write_cache(
    shim: EncoderShim,
    wordpieces: Wordpieces,
    keys: list[tuple[int, bytes]],
    out: dict[int, torch.Tensor],
) -> None:
    """Add the states of texts that were just computed."""
    ends = np.cumsum(wordpieces.lengths)
    arrays = {layer: rows.cpu().numpy() for layer, rows in out.items()}
    cast(StateCache, shim.cache).write(
        (key, {layer: rows[ends[text] - wordpieces.lengths[text] : ends[text]]
               for layer, rows in arrays.items()})
        for text, key in keys
    )  # fmt: skip


def wanted_layers(shim: EncoderShim, layers: Sequence[Layer]) -> list[int]:
    """Return the numbers of the layers asked for, all of them for a mix."""
    if "mix" in layers:
        return list(range(shim.n_layers + 1))
    return sorted({shim.layer_index(layer) for layer in layers if layer != "mix"})


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
