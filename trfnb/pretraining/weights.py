"""Pretrained weights: what a run exports, and loading them with a report of what was taken over.

spaCy's own ``[initialize] init_tok2vec`` loads the same file, but compares no sizes: here every
array is compared before any is replaced, and nothing is ignored in silence.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import srsly
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from spacy.language import Language
from thinc.api import Model, Optimizer

from trfnb.files import atomic_folder, atomic_write
from trfnb.flow.weights import EncoderShim
from trfnb.pipe.registries import registry
from trfnb.pretraining.text import PretrainingError
from trfnb.pretraining.tok2vec import encoder_shim, pretrained_layer

logger = logging.getLogger("spacy")


def export(model: Model, optimizer: Optimizer, path: Path) -> None:
    """Write the pretrained layer's weights, averaged, to ``path`` (a .bin), as spaCy does.

    A transformer is written as a folder too, beside the file and named like it, which HuggingFace
    opens.
    """
    with averaged(model, optimizer):
        layer = model.get_ref("tok2vec")
        with atomic_write(path, "wb") as file:
            file.write(layer.to_bytes())
        shim = encoder_shim(layer)
        if shim is not None:
            with atomic_folder(path.with_suffix("")) as folder:
                shim.save(folder)


@contextmanager
def averaged(model: Model, optimizer: Optimizer) -> Iterator[None]:
    """Put the averages of the weights in their place, where the optimiser keeps any."""
    with model.use_params(optimizer.averages or {}):
        yield


@registry.callbacks("trfnb.LoadPretrained.v1")
@dataclass(frozen=True)
class LoadPretrained:
    """Load pretrained weights when a pipeline is initialised (``[initialize.after_init]``).

    Attributes:
        path: model-last.bin, or the directory of a transformer.
        component: Whose layer was pretrained, as ``[pretraining]`` names it.
        layer: The layer, empty for the whole model.
        partial: Take over the arrays that fit and leave the others, instead of refusing.
    """

    path: Path
    component: str = "tok2vec"
    layer: str = ""
    partial: bool = False

    def __call__(self, nlp: Language) -> Language:
        """Load the weights, and log what was loaded."""
        report = load_weights(nlp, self.path, self.component, self.layer, partial=self.partial)
        logger.info(str(report))
        return nlp


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
    loaded: list[str]
    missing: list[str]
    unused: list[str]
    different: list[str]

    @property
    def whole(self) -> bool:
        """Whether file and model hold the same arrays."""
        return not (self.missing or self.unused or self.different)

    def __str__(self) -> str:
        lines = [f"{self.path}: {len(self.loaded)} arrays loaded"]
        for name in ("missing", "unused", "different"):
            if found := getattr(self, name):
                more = ", …" if len(found) > 6 else ""
                lines.append(f"{len(found)} {name}: {', '.join(found[:6])}{more}")
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
    nodes = {f"{i}.{node.name}": node for i, node in enumerate(target.walk())}
    arrays, encoders = _read(path, target)
    shapes: dict[str, tuple[int, ...]] = {}
    for place, node in nodes.items():
        for name in node.param_names:
            shapes[f"{place}.{name}"] = tuple(node.get_param(name).shape)
        for shim in node.shims:
            shapes |= {f"{place}.{n}": tuple(t.shape) for n, t in _tensors(shim.to_bytes()).items()}
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    both = sorted(shapes.keys() & found.keys())
    report = Loaded(
        path,
        [name for name in both if shapes[name] == found[name]],
        sorted(shapes.keys() - found.keys()),
        sorted(found.keys() - shapes.keys()),
        [
            f"{name} {found[name]} for {shapes[name]}"
            for name in both
            if shapes[name] != found[name]
        ],
    )
    if not report.loaded or not (report.whole or partial):
        advice = ", or load what fits with partial = true." if report.loaded else "."
        raise PretrainingError(
            f"{report}. Expected the weights of {component!r} as it is built here, got those of "
            "another model: nothing was loaded. Give the pipeline the architecture that was "
            f"pretrained{advice}"
        )
    fits = set(report.loaded)
    for place, node in nodes.items():
        for name in node.param_names:
            if f"{place}.{name}" in fits:
                node.set_param(name, node.ops.asarray(arrays[f"{place}.{name}"]).copy())
        for shim in node.shims:
            if report.whole:
                # An adapter's updates and the tokenizer come with it.
                shim.from_bytes(encoders[place])
                continue
            content: Any = srsly.msgpack_loads(shim.to_bytes())
            tensors = _tensors(shim.to_bytes())
            tensors |= {n: arrays[f"{place}.{n}"] for n in tensors if f"{place}.{n}" in fits}
            shim.from_bytes(srsly.msgpack_dumps(content | {"weights": save_safetensors(tensors)}))
    return report


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
