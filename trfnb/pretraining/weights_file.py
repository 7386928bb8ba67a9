"""Read the weights that pretraining left, as arrays by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import srsly
from safetensors.torch import load as load_safetensors
from thinc.api import Model

from trfnb.flow.encoder import EncoderShim
from trfnb.flow.saving import from_spacy_transformers
from trfnb.pretraining.errors import PretrainingError


@dataclass(frozen=True)
class Saved:
    """What a file holds.

    Attributes:
        arrays: Thinc's and torch's, by place, layer and name.
        encoders: Transformers as bytes, by place and layer; their tensors are among the arrays.
    """

    arrays: dict[str, Any]
    encoders: dict[str, bytes]


def read_weights(path: Path, target: Model) -> Saved:
    """Return what a file, or a transformer's directory, holds.

    Raises:
        PretrainingError: it is not there, or no such file.
    """
    if not path.exists():
        raise PretrainingError(f"{path}: expected pretrained weights, got no such file. Check it.")
    arrays: dict[str, Any] = {}
    encoders: dict[str, bytes] = {}
    try:
        if path.is_dir():
            # Without a transformer to put it in, it is named after none.
            places = [f"{i}.{n.name}" for i, n in enumerate(target.walk()) if n.shims]
            place = places[0] if places else "transformer"
            encoders[place] = _folder(path)
            return Saved(_tensors(place, encoders[place]), encoders)
        saved: Any = srsly.msgpack_loads(path.read_bytes())
        for i, node in enumerate(saved["nodes"]):
            for name, value in saved["params"][i].items():
                if value is not None:
                    arrays[f"{i}.{node['name']}.{name}"] = value
            for content in saved["shims"][i]:
                place = f"{i}.{node['name']}"
                encoders[place] = content
                arrays |= _tensors(place, content)
    except Exception as error:
        raise PretrainingError(
            f"{path}: expected weights as pretraining leaves them, got something else ({error}). "
            "Give model-last.bin, or the directory of a transformer."
        ) from error
    return Saved(arrays, encoders)


def _tensors(place: str, content: bytes) -> dict[str, Any]:
    saved: Any = srsly.msgpack_loads(content)
    if "state" in saved:
        saved = from_spacy_transformers(saved)
    found = load_safetensors(saved["weights"]) if saved else {}
    # Older versions of transformers saved these constants too.
    return {f"{place}.{n}": t for n, t in found.items() if not n.endswith(".position_ids")}


def _folder(path: Path) -> bytes:
    shim = EncoderShim(str(path))
    shim.load()
    return shim.to_bytes()
