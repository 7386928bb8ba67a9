"""All weights of a pipeline, wherever they live: Thinc parameters and torch modules."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import torch
from spacy.language import Language
from thinc.api import Model, to_numpy

Snapshot = dict[tuple[str, int, str], Any]


def models(nlp: Language) -> Iterator[tuple[str, Model]]:
    """Yield every component that has a model, by name, disabled ones included."""
    for name, pipe in nlp.components:
        model = getattr(pipe, "model", None)
        if isinstance(model, Model):
            yield name, model


def arrays(nlp: Language) -> Iterator[tuple[tuple[str, int, str], Any]]:
    """Yield each weight array or tensor once, however many components refer to it.

    The key is the component's name, the layer's place in its model, and the weight's name.
    """
    seen: set[int] = set()
    for name, model in models(nlp):
        for place, node in enumerate(model.walk()):
            if id(node) in seen:
                continue
            seen.add(id(node))
            for param in node.param_names:
                if node.has_param(param):
                    yield (name, place, param), node.get_param(param)
            for shim in node.shims:
                module = getattr(shim, "_model", None)
                if id(shim) in seen or not isinstance(module, torch.nn.Module):
                    continue
                seen.add(id(shim))
                for param, tensor in module.state_dict(keep_vars=True).items():
                    if id(tensor) not in seen:  # tied weights count once
                        seen.add(id(tensor))
                        yield (name, place, param), tensor


def snapshot(nlp: Language) -> Snapshot:
    """Copy every weight, on the device where it is."""
    return {key: _copy(value) for key, value in arrays(nlp)}


def restore(nlp: Language, saved: Snapshot) -> None:
    """Write a snapshot's values into the pipeline's own arrays.

    Raises:
        ValueError: the pipeline's weights are not those that were saved.
    """
    present = dict(arrays(nlp))
    changed = [key for key in present if _shape(saved.get(key)) != _shape(present[key])]
    if changed or len(saved) != len(present):
        raise ValueError(
            f"Cannot restore: the snapshot has {len(saved)} weights, the pipeline "
            f"{len(present)}, and these differ in shape: {changed[:5]}. Restore into the pipeline "
            "that the snapshot was taken from, before adding labels or components."
        )
    with torch.no_grad():
        for key, value in present.items():
            if isinstance(value, torch.Tensor):
                value.copy_(saved[key])
            else:
                value[...] = saved[key]


def fingerprint(nlp: Language, component: str | None = None) -> str:
    """Return the SHA-256 of all weights, of the pipeline or of one component.

    Two pipelines of the same make have the same one if, and only if, all bits are the same.
    """
    digest = sha256()
    for key, value in arrays(nlp):
        if component is None or key[0] == component:
            array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
            digest.update(f"{key[0]} {key[2]} {array.shape} {array.dtype}".encode())
            digest.update(to_numpy(array).tobytes())
    return digest.hexdigest()


def count(nlp: Language) -> int:
    """Count the trained or pretrained numbers of a pipeline; shared weights count once."""
    return sum(_size(value) for _, value in arrays(nlp))


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value.copy()


def _size(value: Any) -> int:
    return value.numel() if isinstance(value, torch.Tensor) else int(value.size)


def _shape(value: Any) -> tuple[int, ...] | None:
    return None if value is None else tuple(value.shape)
