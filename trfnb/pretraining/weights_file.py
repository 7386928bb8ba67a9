"""Read the weights that pretraining left, as arrays by name."""

from pathlib import Path
from typing import Any

import srsly
from thinc.api import Model

from trfnb.flow.weights import EncoderShim
from trfnb.pretraining.errors import PretrainingError


def read_weights(path: Path, target: Model) -> dict[str, Any]:
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
