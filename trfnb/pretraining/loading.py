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
from spacy.language import Language
from thinc.api import Model

from trfnb.flow.weights import EncoderShim
from trfnb.pipe.registries import registry
from trfnb.pretraining.errors import PretrainingError
from trfnb.pretraining.target import pretrained_layer

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
    saved = _read(path, target)
    nodes = {
        f"{i}.{n.name}.{p}": (n, p) for i, n in enumerate(target.walk()) for p in n.param_names
    }
    shims = {f"{i}.{n.name}.weights": s for i, n in enumerate(target.walk()) for s in n.shims}
    fits, different = [], []
    for name, value in saved.items():
        if name in nodes and not isinstance(value, bytes):
            node, param = nodes[name]
            shape = node.get_param(param).shape if node.has_param(param) else value.shape
            if shape == value.shape:
                fits.append(name)
            else:
                different.append(f"{name} {value.shape} for {shape}")
        elif name in shims and isinstance(value, bytes):
            fits.append(name)
    known = {*nodes, *shims}
    report = Loaded(
        path,
        tuple(fits),
        tuple(sorted(known - set(saved))),
        tuple(sorted(set(saved) - known)),
        tuple(different),
    )
    if not fits or not (report.whole or partial):
        raise PretrainingError(
            f"{report}. Expected the weights of {component!r} as it is built here, got those of "
            "another model: nothing was loaded. Give the pipeline the architecture that was "
            "pretrained" + ("." if not fits else ", or load what fits with partial = true.")
        )
    for name in fits:
        if name in shims:
            shims[name].from_bytes(saved[name])
        else:
            node, param = nodes[name]
            value: Any = node.ops.asarray(saved[name])
            node.set_param(param, value.copy())
    return report


@registry.callbacks("trfnb.LoadPretrained.v1")
def configure_load_pretrained(
    path: Path, component: str = "tok2vec", layer: str = "", partial: bool = False
) -> Callable[[Language], Language]:
    """Load pretrained weights when a pipeline is initialised (``[initialize.after_init]``)."""

    def load(nlp: Language) -> Language:
        logger.info(str(load_weights(nlp, path, component, layer, partial=partial)))
        return nlp

    return load


def _read(path: Path, target: Model) -> dict[str, Any]:
    """Return a file's arrays (and a transformer's bytes) by place, layer and name."""
    if not path.exists():
        raise PretrainingError(f"{path}: expected pretrained weights, got no such file. Check it.")
    if path.is_dir():
        places = [f"{i}.{n.name}.weights" for i, n in enumerate(target.walk()) if n.shims]
        return dict.fromkeys(places[:1], _folder(path))
    try:
        saved: Any = srsly.msgpack_loads(path.read_bytes())
        arrays: dict[str, Any] = {}
        for i, node in enumerate(saved["nodes"]):
            for name, value in saved["params"][i].items():
                if value is not None:
                    arrays[f"{i}.{node['name']}.{name}"] = value
            for content in saved["shims"][i]:
                arrays[f"{i}.{node['name']}.weights"] = content
    except Exception as error:
        raise PretrainingError(
            f"{path}: expected weights as pretraining leaves them, got something else ({error}). "
            "Give model-last.bin."
        ) from error
    return arrays


def _folder(path: Path) -> bytes:
    shim = EncoderShim(str(path))
    shim.load()
    return shim.to_bytes()
