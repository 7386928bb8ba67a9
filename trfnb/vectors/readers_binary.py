"""Tables that are mapped or unpickled: fastText's models, arrays with keys, gensim's and spaCy's.

fastText's and floret's ``.bin`` follow fastText's `FastText::saveModel`, version 12: settings,
dictionary, the input matrix (words first, then n-gram buckets), the output matrix. A word's vector
is the mean of its own row and its n-grams'.
"""

import json
import mmap
import pickle
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from trfnb.vectors.blocks import (
    Block,
    Floats,
    FloretSettings,
    Ints,
    Report,
    Source,
    VectorsError,
    add_rows,
    checked_block,
    fasttext_ngram_rows,
    forget,
    usable,
)

FASTTEXT_MAGIC = struct.pack("<i", 793712314)
_EOS = "</s>"
_SUPERVISED = 3
_FLORET_MODE = 2
_FLORET_SEED = 2166136261
_ROWS = 4096
_TENSORS = ("vectors", "embeddings", "embedding.weight", "weight")
KeysLike = str | PathLike[str] | Iterable[str]


@dataclass(frozen=True)
class SubwordModel:
    """What vectors of words and their subwords are made of.

    Attributes:
        words: the vocabulary, most frequent first.
        rows: (words, width), the words' own rows.
        buckets: (buckets, width), the rows that n-grams hash to; none where there are no subwords.
        minn, maxn: n-gram lengths in characters.
    """

    words: list[str]
    rows: Any
    buckets: Any
    minn: int
    maxn: int

    def compose(self, asked: Sequence[str]) -> Floats:
        """Return (asked, width): the mean of each word's own and its subwords' rows, or zeros."""
        wanted = set(asked)
        own = {word: row for row, word in enumerate(self.words) if word in wanted}
        return self._means(asked, np.array([own.get(word, -1) for word in asked], dtype=np.int64))

    def blocks(self, report: Report) -> Iterator[Block]:
        """Yield the words with their vectors."""
        for start in range(0, len(self.words), _ROWS):
            part = self.words[start : start + _ROWS]
            vectors = self._means(part, np.arange(start, start + len(part)))
            yield from checked_block(part, vectors, start + 1, report)

    def _means(self, words: Sequence[str], own: Ints) -> Floats:
        known = np.flatnonzero(own >= 0)
        sums = np.zeros((len(words), self.rows.shape[1]), dtype=np.float32)
        sums[known] = self.rows[own[known]]
        counts = (own >= 0).astype(np.float32)
        if self.maxn > 0 and len(self.buckets):
            word, bucket = fasttext_ngram_rows(
                words, buckets=len(self.buckets), minn=self.minn, maxn=self.maxn
            )
            # fastText gives the end-of-sentence mark no subwords.
            plain = np.array([text != _EOS for text in words], dtype=bool)[word]
            add_rows(sums, word[plain], self.buckets, bucket[plain])
            counts += np.bincount(word[plain], minlength=len(words)).astype(np.float32)
        forget(self.rows)
        forget(self.buckets)
        return np.divide(sums, np.maximum(counts, 1)[:, None], dtype=np.float32)


def read_fasttext(path: Path, report: Report, name: str) -> Source:
    """Read a ``.bin`` model of fastText or floret.

    Raises:
        VectorsError: the file is cut off, damaged, quantised or of another version.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _fasttext(path, data, report, name)
    except (struct.error, IndexError, ValueError) as problem:
        if isinstance(problem, VectorsError):
            raise
        raise VectorsError(
            f"{name}: expected fastText's model, the file is cut off ({problem}). Fetch it again."
        ) from problem


def _fasttext(path: Path, data: mmap.mmap, report: Report, name: str) -> Source:
    def check(sound: bool, what: str) -> None:
        if not sound:
            raise VectorsError(f"{name}: {what}. The file is damaged, or not fastText's.")

    version = struct.unpack_from("<i", data, 4)[0]
    check(version in (11, 12), f"expected fastText version 11 or 12, got {version}")
    # floret has two settings more.
    for extra in (0, 2):
        settings = struct.unpack_from(f"<{12 + extra}i", data, 8)
        at = 64 + 4 * extra
        count, n_words, n_labels, tokens, pruned = struct.unpack_from("<3i2q", data, at)
        sound = (
            count == n_words + n_labels and min(n_words, n_labels, tokens) >= 0 > settings[0] * -1
        )
        if sound and pruned >= -1:
            break
    check(sound and pruned >= -1, "expected settings and a dictionary, found neither")
    width, model, buckets, minn, maxn = settings[0], *settings[7:11]
    # An entry is the word, a zero byte, its count (8 bytes) and its type (1 byte).
    words, at = [], at + 28
    for entry in range(count):
        end = data.find(b"\0", at)
        check(0 <= end < len(data) - 9, f"expected {count:,} words, found {entry:,}")
        uses, kind = struct.unpack_from("<qb", data, end + 1)
        check(uses >= 0 and kind == (entry >= n_words), f"word {entry + 1:,} is broken")
        words.append(data[at:end].decode("utf8", "surrogateescape"))
        at = end + 10
    at += 8 * max(pruned, 0)
    if data[at] == 1:
        raise VectorsError(
            f"{name}: expected a full model, got a quantised one (.ftz). Give the .bin it was made "
            "from, or its vectors as .vec."
        )
    rows, columns = struct.unpack_from("<2q", data, at + 1)
    check(data[at] == 0 and columns == width and rows == n_words + buckets, "its matrix is broken")
    begin, at = at + 17, at + 17 + 4 * rows * width
    quantised, output, columns = struct.unpack_from("<b2q", data, at)
    check(quantised == 0, "its output matrix is broken")
    check(len(data) == at + 17 + 4 * output * columns, "its size does not fit its settings")
    matrix = np.memmap(path, dtype="<f4", mode="r", offset=begin, shape=(rows, width))
    if extra and settings[11] == _FLORET_MODE:
        # floret's own table of a model leaves the words' rows out, too.
        floret = FloretSettings(minn, maxn, settings[12], _FLORET_SEED, "<", ">")
        keys = [str(row) for row in range(buckets)]
        blocks = from_array(matrix[n_words:], keys, report, name, "").blocks
        return Source("floret binary", width, blocks, floret=floret)
    # As fastText: old supervised models have settings of n-grams and no n-grams.
    maxn = 0 if version == 11 and model == _SUPERVISED else maxn
    table = SubwordModel(words[:n_words], matrix[:n_words], matrix[n_words:], minn, maxn)
    return Source("fastText binary", width, table.blocks(report), compose=table.compose)


def from_array(
    data: Any,
    keys: list[str],
    report: Report,
    name: str,
    form: str,
    *,
    rows: Ints | None = None,
    weights: Floats | None = None,
) -> Source:
    """Make a source of an array and its keys.

    Args:
        data: (rows, width) numbers, or what gives them for slices.
        keys: one key per row.
        report: takes note of what does not fit.
        name: what messages call the table.
        form: its format.
        rows: each key's row, where these are not in order.
        weights: a factor for each key's vector.

    Raises:
        VectorsError: the array is not two-dimensional, not of numbers, or keys and rows differ.
    """
    shape, kind = data.shape, getattr(data, "dtype", np.dtype("f4"))
    if len(shape) != 2 or kind.kind not in "fiu" or 0 in shape:
        raise VectorsError(
            f"{name}: expected a filled two-dimensional array of numbers, got shape {shape} of "
            f"{kind}."
        )
    size = shape[0] if rows is None else len(rows)
    if len(keys) != size:
        raise VectorsError(f"{name}: expected a key for each of {size:,} rows, got {len(keys):,}.")

    def blocks() -> Iterator[Block]:
        for start in range(0, size, _ROWS):
            stop = min(start + _ROWS, size)
            chosen = data[start:stop] if rows is None else data[rows[start:stop]]
            with np.errstate(over="ignore"):
                vectors = np.array(chosen, dtype=np.float32)
            if weights is not None:
                vectors *= weights[start:stop, None]
            forget(data)
            yield from checked_block(keys[start:stop], vectors, start + 1, report)

    return Source(form, shape[1], blocks())


def read_array(path: Path, report: Report, name: str, keys: KeysLike | None) -> Source:
    """Read a ``.npy`` array and its keys, by default from a file beside it.

    Raises:
        VectorsError: the array is broken, not two-dimensional, not of numbers, or has no keys.
    """
    try:
        data = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as problem:  # a damaged header is evaluated and may raise anything
        raise VectorsError(f"{name}: expected a .npy array, got {problem!r}.") from problem
    if data.offset + data.nbytes != path.stat().st_size:
        raise VectorsError(f"{name}: expected an array of {data.shape}, its size is another.")
    return from_array(data, load_keys(keys, name), report, name, ".npy")


def read_safetensors(path: Path, report: Report, name: str, keys: KeysLike | None) -> Source:
    """Read the table of a safetensors file, as model2vec's; keys may also lie in its metadata.

    Where model2vec's ``mapping`` and ``weights`` are in the file, a key's vector is its weight
    times the row that it is mapped to.

    Raises:
        VectorsError: the file is broken, has no table, or the table has no keys.
    """
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="numpy")
        names = list(file.keys())
        chosen = [n for n in _TENSORS if n in names] or (names if len(names) == 1 else [])
        if not chosen:
            raise VectorsError(
                f"{name}: expected one tensor, or one named {' or '.join(_TENSORS)}; got "
                f"{', '.join(names[:10]) or 'none'}."
            )
        extra = {n: file.get_tensor(n) for n in ("mapping", "weights") if n in names}
        found = (file.metadata() or {}).get("keys")
        data = file.get_tensor(chosen[0])
    except (SafetensorError, TypeError, OSError) as problem:
        raise VectorsError(f"{name}: expected a safetensors file, got {problem}.") from problem
    packed = load_keys(keys, name) if keys or found is None else _listed(found, f"{name}: its keys")
    rows, weights = extra.get("mapping"), extra.get("weights")
    if rows is not None and (rows.min(initial=0) < 0 or rows.max(initial=0) >= len(data)):
        raise VectorsError(f"{name}: its mapping names rows that are not there.")
    if weights is not None and weights.shape != (len(packed),):
        raise VectorsError(f"{name}: expected {len(packed):,} weights, got {weights.shape}.")
    return from_array(data, packed, report, name, "safetensors", rows=rows, weights=weights)


def load_keys(keys: KeysLike | None, name: str) -> list[str]:
    """Load keys from a file (a JSON list, a tokenizer.json, or one key per line) or an iterable.

    Args:
        keys: the file or the keys; by default a file beside ``name``.
        name: the table's path.
    """
    if keys is None:
        path = Path(name)
        path = path.with_suffix("") if path.suffix in (".gz", ".zip", ".xz", ".bz2") else path
        places = [path.with_suffix(suffix) for suffix in (".keys", ".txt", ".json")]
        places += [path.with_name(n) for n in ("keys.txt", "keys.json", "tokenizer.json")]
        # A stream's name is no path, and nothing lies beside it.
        keys = next((p for p in places if Path(name).exists() and p.is_file()), None)
        if keys is None:
            raise VectorsError(
                f"{name}: its rows have no keys. Give keys=, or put them beside it as "
                f"{', '.join(place.name for place in places[:3])} (one per line, or a JSON list)."
            )
    if not isinstance(keys, (str, PathLike)):
        return [str(key) for key in keys]
    path = Path(keys)
    if not path.is_file():
        raise VectorsError(f"{path}: expected a file of keys, found none there.")
    if path.suffix == ".json":
        return _listed(path.read_bytes(), str(path))
    text = path.read_bytes().decode("utf8", "surrogateescape").removeprefix("\ufeff")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _listed(text: str | bytes, name: str) -> list[str]:
    """Return the keys of a JSON list of strings or of a tokenizer.json."""
    try:
        found = json.loads(text)
    except ValueError as problem:
        raise VectorsError(f"{name}: expected keys as JSON, got {problem}.") from problem
    if isinstance(found, dict):
        vocab = found.get("model", {}).get("vocab", found)
        if isinstance(vocab, dict):
            added = {entry["content"]: entry["id"] for entry in found.get("added_tokens", ())}
            vocab = {**vocab, **added}
            vocab = sorted(vocab, key=vocab.__getitem__)
        # A Unigram model's vocabulary is pairs of word and score.
        found = [entry if isinstance(entry, str) else entry[0] for entry in vocab]
    if not isinstance(found, list) or not all(isinstance(key, str) for key in found):
        raise VectorsError(f"{name}: expected a JSON list of strings or a tokenizer.json.")
    return found


class _Plain:
    """Stands in for a gensim object: takes its attributes, does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __call__(self, *args: Any, **kwargs: Any) -> "_Plain":
        return self


def _latin1(text: str, encoding: str) -> bytes:
    """Do what older pickles of bytes ask of `_codecs.encode`, and nothing else."""
    return text.encode("latin1")


_SAFE = {
    ("builtins", "set"), ("builtins", "frozenset"), ("builtins", "int"), ("builtins", "object"),
    ("builtins", "bytearray"), ("copyreg", "_reconstructor"),
    ("collections", "OrderedDict"), ("collections", "defaultdict"),
    ("numpy", "ndarray"), ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer"),
}  # fmt: skip


class _SafeUnpickler(pickle.Unpickler):
    """Builds arrays and plain containers only, so that a file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        # As Python 2 called them.
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        if (module, name) in _SAFE:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if module.split(".")[0] == "gensim" or module.startswith("numpy.random"):
            return _Plain
        if (module, name) == ("builtins", "hash"):
            return _Plain
        raise VectorsError(
            f"the pickle asks for {module}.{name}, which a word-vector table has no use for: it is "
            "not gensim's, or not to be trusted"
        )


def read_gensim(path: Path, report: Report, name: str) -> Source:
    """Read what gensim's ``KeyedVectors.save`` or ``Word2Vec.save`` wrote, without gensim.

    Raises:
        VectorsError: the file is broken, names anything unsafe, or holds no vectors.
    """
    try:
        with path.open("rb") as file:
            # Python 2 wrote arrays as text, which only this encoding gives back byte by byte.
            found = _SafeUnpickler(file, encoding="latin1").load()
        _fetch_arrays(found, name)
    except Exception as problem:  # a damaged pickle may raise anything
        raise VectorsError(f"{name}: expected gensim's vectors, got: {problem}.") from problem
    return from_gensim(found, report, name)


def _fetch_arrays(found: Any, prefix: str) -> None:
    """Fetch arrays that gensim put into files of their own beside the pickle."""
    state = vars(found)
    for name in state.get("__numpys", []):
        path, packed = Path(f"{prefix}.{name}.npy"), Path(f"{prefix}.{name}.npz")
        if packed.is_file():
            state[name] = np.load(packed, allow_pickle=False)["val"]
        elif path.is_file():
            state[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            raise VectorsError(f"gensim keeps its {name} in {path} or {packed}, which is missing")
    for name in state.get("__recursive_saveloads", []):
        if isinstance(state.get(name), _Plain):
            _fetch_arrays(state[name], f"{prefix}.{name}")


def from_gensim(found: Any, report: Report, name: str = "KeyedVectors") -> Source:
    """Make a source of a live ``KeyedVectors`` (or a model that has one as ``.wv``)."""
    table = getattr(found, "wv", found)
    # Version 3 said index2word, and 2 syn0.
    words = getattr(table, "index_to_key", None) or getattr(table, "index2word", None)
    data: Any = getattr(table, "vectors", None)
    data = getattr(table, "syn0", None) if data is None else data
    ngrams = getattr(table, "vectors_ngrams", None)
    if not words or (data is None and ngrams is None):
        raise VectorsError(f"{name}: expected gensim's words and vectors, got neither.")
    if ngrams is not None:
        own = np.asarray(table.vectors_vocab)
        model = SubwordModel(list(words), own, ngrams, table.min_n, table.max_n)
        form = "gensim FastTextKeyedVectors"
        return Source(form, ngrams.shape[1], model.blocks(report), compose=model.compose)
    # Places that were reserved and never filled have no key.
    rows = np.array([row for row, word in enumerate(words) if word is not None], dtype=np.int64)
    keys = [str(words[row]) for row in rows]
    whole = len(rows) == len(data)
    return from_array(data, keys, report, name, "gensim KeyedVectors", rows=None if whole else rows)


def from_spacy(found: Any, report: Report) -> Source:
    """Make a source of a live pipeline, vocabulary or ``Vectors``; rows without a key are left out.

    Raises:
        VectorsError: the table has no keys.
    """
    vectors = getattr(getattr(found, "vocab", found), "vectors", None)
    vectors = found if vectors is None else vectors
    data = vectors.data.get() if hasattr(vectors.data, "get") else vectors.data
    if vectors.mode == "floret":
        names = FloretSettings.__dataclass_fields__
        floret = FloretSettings(**{name: getattr(vectors, name) for name in names})
        keys = [str(row) for row in range(len(data))]
        blocks = from_array(data, keys, report, "spaCy vectors", "").blocks
        return Source("spaCy floret", vectors.shape[1], blocks, floret=floret)
    known = []
    for place, (key, row) in enumerate(vectors.key2row.items(), start=1):
        if key in vectors.strings:
            known.append((row, vectors.strings[key]))
        else:
            report.skip("the key's string is not in strings.json", place, str(key))
    if not known:
        raise VectorsError("Expected spaCy vectors with keys, found none.")
    known.sort(key=lambda pair: pair[0])
    rows = np.array([row for row, _ in known], dtype=np.int64)
    keys = [word for _, word in known]

    def by_row() -> Iterator[Block]:
        for start in range(0, len(data), _ROWS):
            low, high = np.searchsorted(rows, [start, start + _ROWS]).tolist()
            # Rows without a key fall away here.
            used, own = np.unique(rows[low:high], return_inverse=True)
            block = Block(keys[low:high], data[used], np.arange(low, high) + 1, own)
            yield from usable(block, report)
            forget(data)

    return Source("spaCy", vectors.shape[1], by_row())
