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

import srsly
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load, load_file, save
from spacy.language import Language
from spacy.util import logger
from thinc.api import Model, Optimizer, torch2xp
from thinc.util import to_numpy

from trfnb.files import atomic_folder, atomic_write
from trfnb.flow.encoder import EncoderShim
from trfnb.pipe.architectures import registry
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
    arrays: dict[str, NDArray[Any]] = {}
    for name, key, value in parameters(model):
        arrays[f"weights/{name}"] = _numpy(value)
        for moment in _MOMENTS:
            held = getattr(optimizer, moment) or {}
            if key in held:
                arrays[f"{moment}/{name}"] = _numpy(held[key])
    updates = {name: optimizer.nr_update.get(key) for name, key, _ in parameters(model)}
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
    shapes = {f"weights/{name}": tuple(value.shape) for name, _, value in parameters(model)}
    saved = {name: one.shape for name, one in arrays.items() if name.startswith("weights/")}
    if different := sorted({name for name, _ in shapes.items() ^ saved.items()}):
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

    Names are places in the model: they hold in another process, where Thinc's keys, which count
    the layers that a process made, do not.
    """
    for place, node in enumerate(model.walk()):
        for name in node.param_names:
            if node.has_param(name):
                yield f"{place}.{name}", (node.id, name), node.get_param(name)
        for number, shim in enumerate(node.shims):
            if isinstance(getattr(shim, "_model", None), torch.nn.Module):
                for name, value in shim._model.named_parameters():
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
            which are missing, unused or different. The model is as it was before.
    """
    path = Path(path)
    target = pretrained_layer(nlp, component, layer)
    there, _ = _arrays(target.to_bytes())
    arrays, encoders = _read(path, target)
    shapes = {name: tuple(array.shape) for name, array in there.items()}
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    both = shapes.keys() & found.keys()
    problems = {
        "missing": shapes.keys() - both,
        "unused": found.keys() - both,
        "different": {f"{n} {found[n]} for {shapes[n]}" for n in both if found[n] != shapes[n]},
    }
    if any(problems.values()):
        told = [
            f"{len(names)} {kind}: {', '.join(sorted(names)[:6])}" + ", …" * (len(names) > 6)
            for kind, names in problems.items()
            if names
        ]
        raise PretrainingError(
            f"{path}: expected the weights of {component!r} as it is built here, got those of "
            f"another model ({'; '.join(told)}). Nothing was loaded. Give the pipeline the "
            "architecture that was pretrained."
        )
    for i, node in enumerate(target.walk()):
        place = f"{i}.{node.name}"
        for name in node.param_names:
            array: Any = node.ops.asarray(arrays[f"{place}.{name}"])
            node.set_param(name, array.copy())
        for shim in node.shims:
            shim.from_bytes(encoders[place])
    return sorted(both)


# Thinc's and torch's arrays by place, layer and name; and transformers as bytes by place and layer.
def _read(path: Path, target: Model) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        if not path.is_dir():
            return _arrays(path.read_bytes())
        shim = EncoderShim(str(path))
        shim.load()
        places = [f"{i}.{node.name}" for i, node in enumerate(target.walk()) if node.shims]
        # Where the target is no transformer, the arrays are named after none.
        place, content = next(iter(places), "transformer"), shim.to_bytes()
        return _tensors(place, content), {place: content}
    except Exception as error:
        raise PretrainingError(
            f"{path}: expected weights as pretraining leaves them, got a file that cannot be read "
            f"so ({type(error).__name__}: {error}). Give model-last.bin, or a transformer's folder."
        ) from error


def _arrays(content: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    arrays: dict[str, Any] = {}
    encoders: dict[str, bytes] = {}
    saved: Any = srsly.msgpack_loads(content)
    for i, node in enumerate(saved["nodes"]):
        place = f"{i}.{node['name']}"
        params = saved["params"][i]
        arrays |= {f"{place}.{name}": params[name] for name in params if params[name] is not None}
        if saved["shims"][i]:
            (encoders[place],) = saved["shims"][i]
            arrays |= _tensors(place, encoders[place])
    return arrays, encoders


def _tensors(place: str, content: bytes) -> dict[str, Any]:
    saved: Any = srsly.msgpack_loads(content)
    # Without weights where the transformer was not loaded yet.
    files = saved["files"] if saved else {}
    tensors = {
        k: v
        for name in files
        if name.endswith(".safetensors")
        for k, v in load(files[name]).items()
    }
    return {f"{place}.{name}": tensor for name, tensor in tensors.items()}


def _numpy(value: Any) -> NDArray[Any]:
    return to_numpy(torch2xp(value) if isinstance(value, torch.Tensor) else value)
