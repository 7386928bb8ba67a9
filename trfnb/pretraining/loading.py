"""Take over pretrained weights, with a report of what was taken over.

spaCy's own ``[initialize] init_tok2vec`` loads the same file, but compares no sizes: here every
array is compared before any is replaced, and nothing is ignored in silence.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import srsly
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from spacy.language import Language

from trfnb.pipe.registries import registry
from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.target import pretrained_layer
from trfnb.pretraining.weights_file import read_weights

logger = logging.getLogger("spacy")


@dataclass(frozen=True)
class Loaded:
    """What became of each array.

    Attributes:
        path: The file.
        loaded: Arrays that were taken over.
        missing: Arrays of the model that the file lacks.
        unused: Arrays of the file that the model lacks.
        different: Arrays of another size, with both sizes.
    """

    path: Path
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    different: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether file and model hold the same arrays."""
        return not (self.missing or self.unused or self.different)

    def __str__(self) -> str:
        lines = [f"{self.path}: {len(self.loaded)} arrays loaded"]
        for name in ("missing", "unused", "different"):
            if found := getattr(self, name):
                lines.append(
                    f"{len(found)} {name}: {', '.join(found[:6])}" + ", …" * (len(found) > 6)
                )
        return "; ".join(lines)


def load_weights(
    nlp: Language,
    path: str | Path,
    component: str = "tok2vec",
    layer: str = "",
    *,
    partial: bool = False,
) -> Loaded:
    """Load what `pretrain` left into a pipeline's layer.

    Args:
        nlp: The pipeline, initialised or about to be.
        path: model-last.bin, or the directory of a transformer.
        component: Whose layer was pretrained, as ``[pretraining]`` names it.
        layer: The layer, empty for the whole model.
        partial: Take over the arrays that fit and leave the others, instead of refusing.

    Returns:
        What was loaded and what was not.

    Raises:
        PretrainingError: nothing fits, or not everything does and ``partial`` is off; the model is
            as it was before.
    """
    path = Path(path)
    target = pretrained_layer(nlp, component, layer)
    saved = read_weights(path, target)
    nodes = {
        f"{i}.{n.name}.{p}": (n, p) for i, n in enumerate(target.walk()) for p in n.param_names
    }
    shims = {f"{i}.{n.name}": s for i, n in enumerate(target.walk()) for s in n.shims}
    shapes = {
        name: tuple(n.get_param(p).shape) if n.has_param(p) else None
        for name, (n, p) in nodes.items()
    }
    for place, shim in shims.items():
        shapes |= {f"{place}.{name}": tuple(t.shape) for name, t in _tensors(shim).items()}
    fits, different = [], []
    for name in saved.arrays.keys() & shapes.keys():
        shape, found = shapes[name], tuple(saved.arrays[name].shape)
        if shape in (found, None):
            fits.append(name)
        else:
            different.append(f"{name} {found} for {shape}")
    report = Loaded(
        path,
        tuple(sorted(fits)),
        tuple(sorted(shapes.keys() - saved.arrays.keys())),
        tuple(sorted(saved.arrays.keys() - shapes.keys())),
        tuple(sorted(different)),
    )
    if not fits or not (report.whole or partial):
        raise PretrainingError(
            f"{report}. Expected the weights of {component!r} as it is built here, got those of "
            "another model: nothing was loaded. Give the pipeline the architecture that was "
            "pretrained" + ("." if not fits else ", or load what fits with partial = true.")
        )
    for name in nodes.keys() & set(fits):
        node, param = nodes[name]
        array: Any = node.ops.asarray(saved.arrays[name])
        node.set_param(param, array.copy())
    for place, shim in shims.items():
        if report.whole:
            shim.from_bytes(saved.encoders[place])
        else:
            _fill(shim, place, {name: saved.arrays[name] for name in fits})
    return report


def _tensors(shim: Any) -> dict[str, Any]:
    """Return a transformer's tensors by name, without an adapter's."""
    return _loaded(srsly.msgpack_loads(shim.to_bytes()))


def _loaded(content: Any) -> dict[str, Any]:
    weights = content.get("weights")
    return load_safetensors(weights) if weights else {}


def _fill(shim: Any, place: str, arrays: dict[str, Any]) -> None:
    """Replace some of a transformer's tensors."""
    content: Any = srsly.msgpack_loads(shim.to_bytes())
    tensors = _loaded(content)
    found = {name: arrays[f"{place}.{name}"] for name in tensors if f"{place}.{name}" in arrays}
    if found:
        content["weights"] = save_safetensors(tensors | found)
        shim.from_bytes(srsly.msgpack_dumps(content))


@registry.callbacks("trfnb.LoadPretrained.v1")
def configure_load_pretrained(
    path: Path, component: str = "tok2vec", layer: str = "", partial: bool = False
) -> Callable[[Language], Language]:
    """Load pretrained weights when a pipeline is initialised (``[initialize.after_init]``)."""

    def load(nlp: Language) -> Language:
        logger.info(str(load_weights(nlp, path, component, layer, partial=partial)))
        return nlp

    return load
