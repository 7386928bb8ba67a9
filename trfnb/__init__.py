"""Transfer learning for spaCy, measured in notebooks.

Everything public is imported on first use, so that `import trfnb` costs what `import spacy` costs.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "FullTransformerBatch": "trfnb.pipe.data",
    "Tok2VecListener": "trfnb.pipe.architectures",
    "Transformer": "trfnb.pipe.component",
    "TransformerData": "trfnb.pipe.data",
    "TransformerListener": "trfnb.pipe.architectures",
    "TransformerModel": "trfnb.pipe.architectures",
    "get_doc_spans": "trfnb.flow.spans",
    "get_sent_spans": "trfnb.flow.spans",
    "null_annotation_setter": "trfnb.pipe.data",
    "record": "trfnb.runs.results",
    "registry": "trfnb.registration",
    "results": "trfnb.runs.results",
    "token_vectors": "trfnb.pipe.data",
    "use_device": "trfnb.device",
}

_MODULES = ("corpora", "experiments", "models", "vectors", "widgets")

# The extra that installs what the core is without, by the name that is imported.
_NOTEBOOK_SIDE = {
    "optuna": "optuna",
    "ray": "ray",
    "submitit": "slurm",
    **dict.fromkeys(("IPython", "conllu", "filelock", "ipywidgets", "jinja2"), "notebooks"),
    **dict.fromkeys(("jupyter_client", "matplotlib", "nbclient", "nbformat"), "notebooks"),
    **dict.fromkeys(("pandas", "papermill", "pooch", "psutil", "pyarrow", "yaml"), "notebooks"),
}


@contextmanager
def notebook_side() -> Iterator[None]:
    """Name the extra to install where the core alone is not enough for what runs inside.

    Raises:
        ImportError: a package of the extra ``notebooks``, or of one that runs sweeps, is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        extra = _NOTEBOOK_SIDE.get((error.name or "").partition(".")[0])
        if not extra:
            raise
        raise ImportError(
            f"This part of trfnb needs {error.name}, which a pipeline's core does not: run "
            f"`pip install 'trfnb[{extra}]'`."
        ) from error


def on_first_use(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return a package's ``__getattr__``, which imports a public name when it is first asked for.

    Args:
        package: its name.
        homes: the module of each name; one of the name's own is the name itself.

    Returns:
        With it ``__dir__`` and ``__all__``, which name them all.
    """
    names = sorted(homes)

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with notebook_side():
            home = import_module(homes[name])
        return home if home.__name__ == f"{package}.{name}" else getattr(home, name)

    return find, lambda: names, names


__getattr__, __dir__, __all__ = on_first_use(
    __name__, _HOME | {name: f"trfnb.{name}" for name in _MODULES}
)
__all__ += ["__version__", "notebook_side", "on_first_use"]

# spaCy finds an installed trfnb by its entry points. This serves a checkout that is only on the
# path; a program that has no need of spaCy, such as a sweep's parent, must not pay for it.
if "spacy" in sys.modules:
    import_module("trfnb.registration")
