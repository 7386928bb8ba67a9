"""Weights on disk: checkpoints of a run, what it exports, and loading that with a report.

A checkpoint is one safetensors file, ``checkpoint-STEP.safetensors``, written atomically: weights
and the optimiser's moments by name, and a few numbers as JSON in its metadata. Masks and dropout
follow from the seed and the update's number, so that no random state is needed.

What a run exports is what spaCy's ``[initialize] init_tok2vec`` loads. That compares no sizes: here
every array is compared before any is replaced, and nothing is ignored in silence.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save
from spacy.language import Language
from spacy.util import logger, registry
from thinc.api import Model, Optimizer, to_numpy, torch2xp

from trfnb.files import atomic_folder, atomic_write
from trfnb.pretraining.layers import encoder_shim, pretrained_layer
from trfnb.pretraining.text import PretrainingError

_MOMENTS = ("mom1", "mom2", "averages")


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a run's folder, oldest first."""
    paths = folder.glob("checkpoint-*.safetensors")
    return sorted(paths, key=lambda path: int(path.stem.partition("-")[2]))


def save_checkpoint(
    path: Path, model: Model, optimizer: Optimizer, state: dict[str, Any], keep: int
) -> None:
    """Write a checkpoint, and remove the oldest ones beside it, but the last ``keep``."""
    known = list(parameters(model))
    arrays = {f"weights/{name}": _numpy(value) for name, _, value in known}
    for moment in _MOMENTS:
        held = getattr(optimizer, moment) or {}
        arrays |= {f"{moment}/{name}": _numpy(held[key]) for name, key, _ in known if key in held}
    updates = {name: optimizer.nr_update.get(key) for name, key, _ in known}
    with atomic_write(path, "wb") as file:
        file.write(save(arrays, {"state": json.dumps(state | {"updates": updates})}))
    # Hidden ones are what a killed process wrote aside.
    for old in [*checkpoints(path.parent)[:-keep], *path.parent.glob(".checkpoint-*")]:
        old.unlink()


def checkpoint_state(path: Path) -> dict[str, Any]:
    """Return what a checkpoint tells of its run."""
    with safe_open(path, framework="np") as file:
        return dict(json.loads(file.metadata()["state"]))


def load_checkpoint(path: Path, model: Model, optimizer: Optimizer) -> None:
    """Put back weights and moments.

    Raises:
        PretrainingError: the checkpoint is of another model.
    """
    arrays: dict[str, Any] = load_file(path)
    updates = checkpoint_state(path)["updates"]
    saved = {
        name.partition("/")[2]: array.shape
        for name, array in arrays.items()
        if name.startswith("weights/")
    }
    if different := sorted({name for name, _ in _shapes(model).items() ^ saved.items()}):
        raise PretrainingError(
            f"{path}: expected the parameters of the model that the config builds, got others: "
            f"{', '.join(different[:5])}. Resume with the config of the first run."
        )
    for name, key, value in parameters(model):
        if isinstance(value, torch.Tensor):
            value.data.copy_(torch.from_numpy(arrays[f"weights/{name}"]))
        else:
            value[...] = model.ops.asarray(arrays[f"weights/{name}"])
        for moment in _MOMENTS:
            if f"{moment}/{name}" in arrays:
                getattr(optimizer, moment)[key] = model.ops.asarray(arrays[f"{moment}/{name}"])
        if updates[name] is not None:
            optimizer.nr_update[key] = updates[name]


def parameters(model: Model) -> Iterator[tuple[str, tuple[int, str], Any]]:
    """Yield each parameter's name, its key in an optimiser, and its value, Thinc's or torch's.

    Buffers that torch saves, as batch normalisation's means, count as parameters.
    Names are places in the model: they hold in another process, where Thinc's keys, which count
    the layers that a process made, do not.
    """
    for place, node in enumerate(model.walk()):
        for name in node.param_names:
            if node.has_param(name):
                yield f"{place}.{name}", (node.id, name), node.get_param(name)
        for number, shim in enumerate(node.shims):
            module = getattr(shim, "_model", None)
            if isinstance(module, torch.nn.Module):
                tensors = (*module.named_parameters(), *module.named_buffers())
                for name, value in (pair for pair in tensors if pair[0] in module.state_dict()):
                    yield f"{place}.{number}.{name}", (shim.id, name), value


def export(model: Model, optimizer: Optimizer, path: Path) -> None:
    """Write the pretrained layer's weights, averaged, to ``path`` (a .bin), as spaCy does.

    A transformer is written as a folder too, beside the file and named like it, which HuggingFace
    opens.
    """
    with model.use_params(optimizer.averages or {}):
        layer = model.get_ref("tok2vec")
        with atomic_write(path, "wb") as file:
            file.write(layer.to_bytes())
        shim = encoder_shim(layer)
        if shim is not None:
            with atomic_folder(path.with_suffix("")) as folder:
                shim.save(folder)


@registry.callbacks("trfnb.LoadPretrained.v1")
def load_pretrained(
    path: Path, component: str = "tok2vec", layer: str = ""
) -> Callable[[Language], Language]:
    """Load pretrained weights when a pipeline is initialised (``[initialize.after_init]``).

    Arguments are those of `load_weights`.
    """
    return partial(_load_into, path=path, component=component, layer=layer)


def _load_into(nlp: Language, **given: Any) -> Language:
    logger.info("%d arrays loaded: %s", len(load_weights(nlp, **given)), given)
    return nlp


def load_weights(
    nlp: Language, path: str | Path, component: str = "tok2vec", layer: str = ""
) -> list[str]:
    """Load what `pretrain` left into a pipeline's layer.

    Args:
        nlp: The pipeline, initialised or about to be.
        path: model-last.bin, or the directory of a transformer.
        component: Whose layer was pretrained, as ``[pretraining]`` names it.
        layer: The layer, empty for the whole model.

    Returns:
        The names of the arrays that were loaded: all of the layer's.

    Raises:
        PretrainingError: file and layer do not hold the same arrays, of the same sizes; it says
            what differs. The model is as it was before.
    """
    path, target = Path(path), pretrained_layer(nlp, component, layer)
    loaded = target.copy()
    shim = encoder_shim(loaded)
    try:
        if path.is_dir() and shim is not None:
            shim.load(path)
        else:
            loaded.from_bytes(path.read_bytes())
        shapes, read = _shapes(target), _shapes(loaded)
        if wrong := sorted({name for name, _ in shapes.items() ^ read.items()}):
            sizes = [f"{name} {read.get(name)} for {shapes.get(name)}" for name in wrong[:6]]
            raise ValueError(f"{len(wrong)} arrays of other sizes: {', '.join(sizes)}")
    except Exception as error:
        raise PretrainingError(
            f"{path}: expected the weights of {component!r} as it is built here, as pretraining "
            f"leaves them, got others ({type(error).__name__}: {error}). Nothing was loaded. Give "
            "model-last.bin or a transformer's folder, and the pipeline the architecture that was "
            "pretrained."
        ) from error
    for node, other in zip(target.walk(), loaded.walk(), strict=True):
        for name in node.param_names:
            node.set_param(name, other.get_param(name))
        for target_shim, read_shim in zip(node.shims, other.shims, strict=True):
            target_shim.from_bytes(read_shim.to_bytes())
    return sorted(shapes)


def _shapes(model: Model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, _, value in parameters(model)}


def _numpy(value: Any) -> NDArray[Any]:
    return to_numpy(torch2xp(value) if isinstance(value, torch.Tensor) else value)
