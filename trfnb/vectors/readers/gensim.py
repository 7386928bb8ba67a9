"""gensim's ``KeyedVectors``: its native files, read without gensim, and live objects.

gensim saves itself by pickle. The files are read with an unpickler that builds arrays and plain
containers only; whatever else a pickle names is refused or becomes an empty stand-in, so that a
file cannot run code.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from trfnb.vectors.blocks import Floats, Keys, Stacked
from trfnb.vectors.readers.arrays import from_array
from trfnb.vectors.readers.fasttext import Model, find, vocabulary
from trfnb.vectors.readers.source import Source
from trfnb.vectors.report import Report, VectorsError


class _Plain:
    """Stands in for a gensim object: takes its attributes, does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __call__(self, *args: Any, **kwargs: Any) -> "_Plain":
        return self


_SAFE = {
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("builtins", "int"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
}


class _SafeUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _SAFE:
            return super().find_class(module, name)
        root = module.split(".")[0]
        if root == "gensim" or module.startswith("numpy.random"):
            return _Plain
        if (module, name) == ("builtins", "hash"):
            return _Plain
        raise VectorsError(
            f"The pickle asks for {module}.{name}, which a word-vector table has no use for: it "
            "is not gensim's, or not to be trusted."
        )


def looks_like_gensim(head: bytes) -> bool:
    """Say whether a file's first bytes are those of a pickle by gensim."""
    return head[:1] == b"\x80" and b"gensim" in head[:256]


def _load(path: Path, name: str) -> Any:
    def read(file: IO[bytes]) -> Any:
        return _SafeUnpickler(file).load()

    try:
        with path.open("rb") as file:
            found = read(file)
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError) as problem:
        raise VectorsError(f"{name}: expected gensim's file, got {problem!r}.") from problem
    _fetch_arrays(found, name)
    return found


def _fetch_arrays(found: Any, prefix: str) -> None:
    """Fetch arrays that gensim put into files of their own beside the pickle."""
    state = vars(found)
    for name in state.get("__numpys", []):
        path = Path(f"{prefix}.{name}.npy")
        if not path.is_file():
            raise VectorsError(f"{prefix}: gensim keeps its {name} in {path}, which is missing.")
        state[name] = np.load(path, mmap_mode="r", allow_pickle=False)
    for name in state.get("__recursive_saveloads", []):
        if isinstance(state.get(name), _Plain):
            _fetch_arrays(state[name], f"{prefix}.{name}")


def read_gensim(path: Path, report: Report, name: str) -> Source:
    """Read a file that gensim's ``KeyedVectors.save`` or ``Word2Vec.save`` wrote.

    Raises:
        VectorsError: the file is broken, names anything unsafe, or holds no vectors.
    """
    return from_gensim(_load(path, name), report, name)


def from_gensim(found: Any, report: Report, name: str = "KeyedVectors") -> Source:
    """Make a source of a live ``KeyedVectors`` (or a model that has one as ``.wv``)."""
    table = getattr(found, "wv", found)
    words = getattr(table, "index_to_key", None)
    if words is None:
        raise VectorsError(
            f"{name}: expected gensim KeyedVectors (4.0 or later) with index_to_key, got "
            f"{type(found).__name__}."
        )
    ngrams = getattr(table, "vectors_ngrams", None)
    if ngrams is None:
        return from_array(
            np.asarray(table.vectors), Keys.of(map(str, words)), report, name, "gensim KeyedVectors"
        )
    # gensim leaves composed vectors out of the file; whole, the two tables are fastText's matrix.
    model = Model(
        words=Keys.of(words),
        matrix=Stacked(table.vectors_vocab, ngrams),
        minn=table.min_n,
        maxn=table.max_n,
        buckets=table.bucket,
        floret=None,
    )

    def compose(asked: Sequence[str]) -> Floats:
        return model.compose(asked, find(model.words, asked))

    blocks = vocabulary(model, report)
    return Source("gensim FastTextKeyedVectors", ngrams.shape[1], blocks, compose=compose)
