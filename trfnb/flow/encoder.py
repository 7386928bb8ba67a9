"""Wordpiece ids -> hidden states: a HuggingFace model inside a Thinc layer."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import torch
from thinc.api import Model, torch2xp, xp2torch
from thinc.types import Floats2d, Floats3d

from .batching import MicroBatch, micro_batches
from .forking import one_thread_in_forks
from .mixing import Layer
from .weights import EncoderShim
from .wordpieces import Wordpieces

Precision = Literal["fp32", "bf16", "fp16"]
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

# On a CPU larger forward passes run out of cache: 4,096 wordpieces took 10-20 % longer a word.
# One more pass costs about as much as 30 positions there (60 in training), measured on MiniLM.
CPU_BATCH_ITEMS = 1024
CPU_PADDING = 64

one_thread_in_forks()


class Hidden(dict[int, Floats2d]):
    """Layer number -> (n, width) hidden states of n wordpieces.

    Attributes:
        attentions: For each text (layers, heads, its wordpieces, its wordpieces), if asked for.
    """

    attentions: list[Floats3d] | None = None


@dataclass(frozen=True)
class Runtime:
    """How to run the encoder; none of this is saved with its weights.

    Attributes:
        precision: ``"fp32"`` is exact; the others run matrix products in half precision over
            weights that stay in fp32.
        max_batch_items: The most wordpieces of one forward pass, padding included.
        attentions: Keep what each wordpiece looks at.
    """

    precision: Precision = "fp32"
    max_batch_items: int = 4096
    attentions: bool = False

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise ValueError(f"precision expected one of {known}, got {self.precision!r}.")
        if not isinstance(self.max_batch_items, int) or self.max_batch_items < 1:
            raise ValueError(
                "max_batch_items expected a whole number, at least 1 wordpiece, got "
                f"{self.max_batch_items!r}."
            )

    def items(self, device: torch.device) -> int:
        """Return the budget of one forward pass on a device."""
        if device.type == "cpu":
            return min(self.max_batch_items, CPU_BATCH_ITEMS)
        return self.max_batch_items

    def padding(self, device: torch.device) -> int | None:
        """Return how many padded positions cost less than a forward pass of their own."""
        return CPU_PADDING if device.type == "cpu" else None

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return the context that forward passes run in."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, dtype=_AUTOCAST[self.precision])


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
    first = items = before.items(device)
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
    body = shim.begin(is_train)
    device = shim.device
    layers = wanted_layers(shim, model.attrs["layers"])
    batches = micro_batches(wordpieces, runtime.items(device), shim.pad_id, runtime.padding(device))
    places = [torch.from_numpy(batch.rows).to(device) for batch in batches]
    out = {layer: torch.empty((len(wordpieces.ids), shim.width), device=device) for layer in layers}
    looks: dict[int, Floats3d] = {}
    graph: list[dict[int, torch.Tensor]] = []
    with torch.set_grad_enabled(is_train), runtime.autocast(device):
        for batch, place in zip(batches, places, strict=True):
            output = _run(body, batch, layers, shim.n_layers, device, runtime.attentions)
            states = _real_positions(output, batch, layers, shim.n_layers, device)
            for layer, rows in states.items():
                out[layer][place] = rows.detach()
            if is_train:
                graph.append(states)
            if runtime.attentions:
                looks |= _attentions(output, batch)

    def backprop(d_rows: Mapping[int, Floats2d]) -> None:
        d_torch = {layer: xp2torch(d, device=device) for layer, d in d_rows.items()}
        ends, gradients = [], []
        for states, place in zip(graph, places, strict=True):
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


def _run(
    body: torch.nn.Module,
    batch: MicroBatch,
    layers: Sequence[int],
    n_layers: int,
    device: torch.device,
    attentions: bool,
) -> Any:
    ids = torch.from_numpy(batch.ids).to(device)
    mask = None if batch.is_full else torch.from_numpy(batch.mask).to(device).long()
    return body(
        input_ids=ids,
        attention_mask=mask,
        output_hidden_states=list(layers) != [n_layers],
        output_attentions=attentions,
        return_dict=True,
    )


def _real_positions(
    output: Any, batch: MicroBatch, layers: Sequence[int], n_layers: int, device: torch.device
) -> dict[int, torch.Tensor]:
    """Return the real positions of the layers asked for, in fp32."""
    mask = torch.from_numpy(batch.mask).to(device)
    found = {}
    for layer in layers:
        states = output.last_hidden_state if layer == n_layers else output.hidden_states[layer]
        found[layer] = (states.flatten(0, 1) if batch.is_full else states[mask]).float()
    return found


def _attentions(output: Any, batch: MicroBatch) -> dict[int, Floats3d]:
    """Return each text's attentions, (layers, heads, wordpieces, wordpieces), by text number."""
    stacked = torch.stack([one.detach().float() for one in output.attentions], dim=1)
    found = {}
    for text, looks, mask in zip(batch.texts.tolist(), stacked, batch.mask, strict=True):
        n = int(mask.sum())
        found[text] = cast(Floats3d, torch2xp(looks[:, :, :n, :n].contiguous()))
    return found


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
