"""Pretrained weights: what a run exports, and loading them with a report of what was taken over.

spaCy's own ``[initialize] init_tok2vec`` loads the same file, but compares no sizes: here every
array is compared before any is replaced, and nothing is ignored in silence.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import srsly
from safetensors.torch import load as load_safetensors
from spacy.language import Language
from thinc.api import Model, Optimizer

from trfnb.files import atomic_folder, atomic_write
from trfnb.flow.encoder import EncoderShim
from trfnb.pipe.registries import registry
from trfnb.pretraining.text import PretrainingError
from trfnb.pretraining.tok2vec import encoder_shim, pretrained_layer

logger = logging.getLogger("spacy")


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
@dataclass(frozen=True)
class LoadPretrained:
    """Load pretrained weights when a pipeline is initialised (``[initialize.after_init]``).

    Attributes:
        path: model-last.bin, or the directory of a transformer.
        component: Whose layer was pretrained, as ``[pretraining]`` names it.
        layer: The layer, empty for the whole model.
    """

    path: Path
    component: str = "tok2vec"
    layer: str = ""

    def __call__(self, nlp: Language) -> Language:
        """Load the weights, and log how many arrays they are."""
        loaded = load_weights(nlp, self.path, self.component, self.layer)
        logger.info("%s: %d arrays loaded into %r", self.path, len(loaded), self.component)
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
    arrays, encoders = _read(path, target)
    nodes = {f"{i}.{node.name}": node for i, node in enumerate(target.walk())}
    there: dict[str, Any] = {}
    for place, node in nodes.items():
        there |= {f"{place}.{name}": node.get_param(name) for name in node.param_names}
        for shim in node.shims:
            there |= {f"{place}.{n}": tensor for n, tensor in _tensors(shim.to_bytes()).items()}
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
    for place, node in nodes.items():
        for name in node.param_names:
            array: Any = node.ops.asarray(arrays[f"{place}.{name}"])
            node.set_param(name, array.copy())
        for shim in node.shims:
            shim.from_bytes(encoders[place])
    return sorted(both)


def _read(path: Path, target: Model) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read a file, or a transformer's folder.

    Returns:
        Thinc's and torch's arrays by place, layer and name; and transformers as bytes by place and
        layer.

    Raises:
        PretrainingError: it is not there, or no such file.
    """
    if not path.exists():
        raise PretrainingError(f"{path}: expected pretrained weights, got no such file. Check it.")
    arrays: dict[str, Any] = {}
    encoders: dict[str, bytes] = {}
    try:
        if path.is_dir():
            shim = EncoderShim(str(path))
            shim.load()
            places = [f"{i}.{n.name}" for i, n in enumerate(target.walk()) if n.shims]
            # Where the target is no transformer, the arrays are named after none.
            encoders[places[0] if places else "transformer"] = shim.to_bytes()
        else:
            saved: Any = srsly.msgpack_loads(path.read_bytes())
            for i, node in enumerate(saved["nodes"]):
                place = f"{i}.{node['name']}"
                given = saved["params"][i].items()
                arrays |= {f"{place}.{name}": value for name, value in given if value is not None}
                if saved["shims"][i]:
                    (encoders[place],) = saved["shims"][i]
        for place, content in encoders.items():
            arrays |= {f"{place}.{name}": tensor for name, tensor in _tensors(content).items()}
    except Exception as error:
        raise PretrainingError(
            f"{path}: expected weights as pretraining leaves them, got a file that cannot be read "
            f"so ({type(error).__name__}: {error}). Give model-last.bin, or a transformer's folder."
        ) from error
    return arrays, encoders


def _tensors(content: bytes) -> dict[str, Any]:
    """Return a saved transformer's tensors by name, without an adapter's."""
    saved: Any = srsly.msgpack_loads(content)
    if "state" in saved:  # written by spacy-transformers
        saved = srsly.msgpack_loads(EncoderShim("saved").from_bytes(content).to_bytes())
    tensors = load_safetensors(saved["weights"]) if saved else {}
    # Older versions of transformers saved these constants too.
    return {n: t for n, t in tensors.items() if not n.endswith(".position_ids")}
