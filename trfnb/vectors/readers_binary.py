"""Tables that are no text: word2vec's, fastText's, arrays with keys, gensim's and spaCy's.

fastText's ``.bin`` follows its `FastText::saveModel`, version 12: settings, dictionary, the input
matrix (words first, then n-gram buckets), the output matrix. A word's vector is the mean of its
own row and its n-grams'.

A reader may raise anything at a damaged file: `trfnb.vectors.conversion.open_source` names it.
"""

import mmap
import pickle
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from trfnb.vectors.blocks import (
    FLORET,
    ROWS,
    Block,
    ConversionReport,
    Floats,
    Ints,
    Source,
    VectorsError,
    fasttext_ngram_rows,
    in_blocks,
    is_utf8,
    usable,
)

FASTTEXT_MAGIC = struct.pack("<i", 793712314)
_EOS = "</s>"
_SUPERVISED = 3
_LONGEST_KEY = 1 << 16
TENSORS = ("vectors", "embeddings", "embedding.weight", "weight")
Keys = str | PathLike[str] | Iterable[str]


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

    def source(self, form: str, report: ConversionReport) -> Source:
        """Make a source of the words with their vectors, and of any word's by its subwords."""
        blocks = self._blocks(self.words, np.arange(len(self.words)), report)
        return Source(form, self.rows.shape[1], blocks, compose=partial(self.compose, report))

    def compose(self, report: ConversionReport, asked: list[str]) -> Iterator[Block]:
        """Yield the words asked for that have a row of their own or a subword."""
        own = dict.fromkeys(asked, -1)
        own |= {word: row for row, word in enumerate(self.words) if word in own}
        # In the table's order, so that of two spellings of a key the table's first stands for it.
        asked = sorted(asked, key=lambda word: (own[word] < 0, own[word]))
        for block in self._blocks(asked, np.array([own[word] for word in asked]), report):
            yield block.take(np.asarray(block.vectors.any(axis=1)))

    def _blocks(self, words: list[str], own: Ints, report: ConversionReport) -> Iterator[Block]:
        # Each word's vector is the mean of its own and its subwords' rows, or zeros.
        return in_blocks(words, lambda i, j: self._means(words[i:j], own[i:j]), report)

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
            word, bucket = word[plain], bucket[plain]
            begins = np.flatnonzero(np.diff(word, prepend=-1))
            sums[word[begins]] += np.add.reduceat(self.buckets[bucket], begins, axis=0)
            counts += np.bincount(word, minlength=len(words)).astype(np.float32)
        return np.divide(sums, np.maximum(counts, 1)[:, None], dtype=np.float32)


def read_word2vec(path: Path, report: ConversionReport, name: str) -> Source:
    """Read word2vec's binary table: a header, then ``key SPACE float32… [NEWLINE]`` per row."""
    data = _mapped(path)
    first = data[:64].split(b"\n")[0]
    if not re.fullmatch(rb"\d+ +0*[1-9]\d*\s*", first):
        raise VectorsError(f"{name}: expected a first line of rows and width, got {first[:40]!r}.")
    rows, width = map(int, first.split())

    def blocks() -> Iterator[Block]:
        at, size = len(first) + 1, 4 * width
        for start in range(0, rows, ROWS):
            keys: list[str] = []
            values: list[bytes] = []
            for row in range(start, min(start + ROWS, rows)):
                space = data.find(b" ", at, at + _LONGEST_KEY)
                # word2vec ends a row by a newline; gensim does not: it stands before the next key.
                key = data[at : max(space, at)].lstrip(b"\n").decode("utf8", "surrogateescape")
                at = space + 1 + size
                if space < 0 or at > len(data) or not is_utf8(key) or min(key, default=" ") < " ":
                    raise VectorsError(
                        f"{name}: expected {rows:,} rows, found {key[:20]!a} at row {row + 1:,}, "
                        "or the file ends there. It is damaged, or a word before holds a space, "
                        "which this format cannot keep: save the table as text."
                    )
                keys.append(key)
                values.append(data[space + 1 : at])
            vectors = np.frombuffer(b"".join(values), "<f4").astype(np.float32).reshape(-1, width)
            yield usable(keys, vectors, np.arange(len(keys)) + start + 1, report)
        if data[at : at + 64].strip(b"\r\n"):
            raise VectorsError(f"{name}: expected {rows:,} rows, the file goes on after them.")

    return Source("word2vec binary", width, blocks())


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read_fasttext(path: Path, report: ConversionReport, name: str) -> Source:
    """Read a ``.bin`` model of fastText."""
    data = _mapped(path)

    def check(sound: bool, what: str) -> None:
        if not sound:
            raise ValueError(what)

    version, *settings = struct.unpack_from("<13i", data, 4)
    width, model, buckets, minn, maxn = settings[0], *settings[7:11]
    count, n_words, n_labels, tokens, pruned = struct.unpack_from("<3i2q", data, 64)
    check(version in (11, 12), f"version {version}")
    sound = count == n_words + n_labels and min(n_words, n_labels, tokens, pruned + 1) >= 0
    check(sound and width > 0, "settings or a dictionary that make no sense")
    # An entry is the word, a zero byte, its count (8 bytes) and its type (1 byte).
    words, at = [], 92
    for entry in range(count):
        end = data.find(b"\0", at)
        check(0 <= end < len(data) - 9, f"{entry:,} of {count:,} words")
        uses, kind = struct.unpack_from("<qb", data, end + 1)
        check(uses >= 0 and kind == (entry >= n_words), f"a broken word {entry + 1:,}")
        words.append(data[at:end].decode("utf8", "surrogateescape"))
        at = end + 10
    at += 8 * max(pruned, 0)
    check(data[at] != 1, "a quantised matrix")
    rows, columns = struct.unpack_from("<2q", data, at + 1)
    check(data[at] == 0 and columns == width and rows == n_words + buckets, "a broken matrix")
    begin, at = at + 17, at + 17 + 4 * rows * width
    quantised, output, columns = struct.unpack_from("<b2q", data, at)
    check(quantised == 0, "a broken output matrix")
    check(len(data) == at + 17 + 4 * output * columns, "another size than its settings tell")
    matrix = np.memmap(path, dtype="<f4", mode="r", offset=begin, shape=(rows, width))
    # As fastText: old supervised models have settings of n-grams and no n-grams.
    maxn = 0 if version == 11 and model == _SUPERVISED else maxn
    return SubwordModel(words[:n_words], matrix[:n_words], matrix[n_words:], minn, maxn).source(
        "fastText binary", report
    )


def from_array(
    data: Any, keys: list[str], report: ConversionReport, name: str, form: str
) -> Source:
    """Make a source of an array and a key for each of its rows.

    Raises:
        VectorsError: the array is not two-dimensional, not of numbers, or keys and rows differ.
    """
    if data.ndim != 2 or data.dtype.kind not in "fiu" or 0 in data.shape:
        raise VectorsError(
            f"{name}: expected a filled two-dimensional array of numbers, got shape {data.shape} "
            f"of {data.dtype}."
        )
    if len(keys) != len(data):
        raise VectorsError(
            f"{name}: expected a key for each of {len(data):,} rows, got {len(keys):,}."
        )

    def rows(start: int, end: int) -> Floats:
        with np.errstate(over="ignore"):  # what is no float32 is reported
            return np.array(data[start:end], dtype=np.float32)

    return Source(form, data.shape[1], in_blocks(keys, rows, report))


def read_array(path: Path, report: ConversionReport, name: str, keys: Keys | None) -> Source:
    """Read a ``.npy`` array and its keys, by default from a file beside it."""
    data = np.load(path, mmap_mode="r", allow_pickle=False)
    if data.offset + data.nbytes != path.stat().st_size:
        raise ValueError(f"an array of {data.shape} in a file of another size")
    return from_array(data, load_keys(keys, name), report, name, ".npy")


def read_safetensors(path: Path, report: ConversionReport, name: str, keys: Keys | None) -> Source:
    """Read the table of a safetensors file, as model2vec's.

    Where model2vec's ``mapping`` and ``weights`` are in the file, a key's vector is its weight
    times the row that it is mapped to.
    """
    from safetensors.torch import load_file

    # NumPy knows no bf16; what is shorter than float32 becomes that, exactly.
    tensors = {
        n: (t.float() if t.is_floating_point() and t.itemsize < 4 else t).numpy()
        for n, t in load_file(path).items()
    }
    named = [n for n in TENSORS if n in tensors] or list(tensors)[: len(tensors) == 1]
    data = tensors[named[0]]
    # -1 would be the last row.
    mapping = tensors.get("mapping", np.arange(len(data)))
    data = data[np.where(mapping < 0, len(data), mapping)]
    data = data * tensors["weights"][:, None] if "weights" in tensors else data
    return from_array(data, load_keys(keys, name), report, name, "safetensors")


def load_keys(keys: Keys | None, table: str) -> list[str]:
    """Load keys from an iterable or a file: one per line, or a tokenizer.json.

    Args:
        keys: the file or the keys; by default a file beside the table.
        table: the table's path.
    """
    beside = [Path(table).with_suffix(".keys"), Path(table).with_name("tokenizer.json")]
    if keys is None and not any(place.is_file() for place in beside):
        raise VectorsError(
            f"{table}: its rows have no keys. Give keys=, or put them beside it into "
            f"{beside[0].name}, one per line."
        )
    keys = next(place for place in beside if place.is_file()) if keys is None else keys
    if not isinstance(keys, (str, PathLike)):
        return [str(key) for key in keys]
    try:
        text = Path(keys).read_bytes().decode("utf-8-sig")
        if str(keys).endswith(".json"):
            vocab = Tokenizer.from_str(text).get_vocab()
            return sorted(vocab, key=vocab.__getitem__)
        return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    except Exception as problem:  # the tokenizer's are of no class of their own
        raise VectorsError(f"{keys}: expected words in UTF-8, got {problem}.") from problem


class _Plain:
    # Stands in for a gensim object: takes its attributes, does nothing.

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


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
    # Builds arrays and plain containers only, so that a file cannot run code.

    def find_class(self, module: str, name: str) -> Any:
        # As Python 2 called them.
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        if (module, name) in _SAFE:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):
            # What older pickles of bytes ask for, and nothing else.
            return lambda text, encoding: text.encode("latin1")
        inert = module.split(".")[0] == "gensim" or module.startswith("numpy.random")
        if inert or (module, name) == ("builtins", "hash"):
            return _Plain
        raise ValueError(
            f"the pickle asks for {module}.{name}, which a word-vector table has no use for: it is "
            "not gensim's, or not to be trusted"
        )


def read_gensim(path: Path, report: ConversionReport, name: str) -> Source:
    """Read what gensim's ``KeyedVectors.save`` or ``Word2Vec.save`` wrote, without gensim."""
    with path.open("rb") as file:
        # Python 2 wrote arrays as text, which only this encoding gives back byte by byte.
        found = _SafeUnpickler(file, encoding="latin1").load()
    _fetch_arrays(found, name)
    return from_gensim(found, report, name)


def _fetch_arrays(found: Any, prefix: str) -> None:
    # Fetch arrays that gensim put into files of their own beside the pickle.
    state = vars(found)
    for name in state.get("__numpys", []):
        path, packed = Path(f"{prefix}.{name}.npy"), Path(f"{prefix}.{name}.npz")
        if packed.is_file():
            state[name] = np.load(packed, allow_pickle=False)["val"]
        elif path.is_file():
            state[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            raise ValueError(f"gensim keeps its {name} in {path} or {packed}, which is missing")
    for name in state.get("__recursive_saveloads", []):
        if isinstance(state.get(name), _Plain):
            _fetch_arrays(state[name], f"{prefix}.{name}")


def from_gensim(found: Any, report: ConversionReport, name: str = "KeyedVectors") -> Source:
    """Make a source of a live ``KeyedVectors`` (or a model that has one as ``.wv``)."""
    table = getattr(found, "wv", found)
    # Version 3 said index2word, and 2 syn0.
    words = getattr(table, "index_to_key", None) or getattr(table, "index2word", None)
    data: Any = getattr(table, "vectors", getattr(table, "syn0", None))
    ngrams = getattr(table, "vectors_ngrams", None)
    if not words or (data is None and ngrams is None):
        raise VectorsError(f"{name}: expected gensim's words and vectors, got neither.")
    if ngrams is not None:
        model = SubwordModel(list(words), table.vectors_vocab, ngrams, table.min_n, table.max_n)
        return model.source("gensim FastTextKeyedVectors", report)
    # Places that were reserved and never filled have no key.
    keys = ["" if word is None else str(word) for word in words]
    return from_array(data, keys, report, name, "gensim KeyedVectors")


def from_spacy(found: Any, report: ConversionReport) -> Source:
    """Make a source of a live pipeline, vocabulary or ``Vectors``; rows without a key fall away."""
    from spacy.attrs import NAMES  # it is loaded: `found` is of it

    vectors: Any = getattr(getattr(found, "vocab", found), "vectors", found)
    attr = NAMES[vectors.attr]
    data = vectors.data.get() if hasattr(vectors.data, "get") else vectors.data
    if vectors.mode == "floret":
        keys = [str(row) for row in range(len(data))]
        source = from_array(data, keys, report, "spaCy vectors", "spaCy floret")
        settings = {name: getattr(vectors, name) for name in FLORET}
        return replace(source, floret=settings, attr=attr)
    known = sorted(vectors.key2row.items(), key=itemgetter(1))
    rows = np.array([row for _, row in known], dtype=np.int64)
    strings = vectors.strings  # some may be missing in strings.json
    keys = [strings[key] if key in strings else "" for key, _ in known]  # noqa: SIM401  no dict

    def blocks() -> Iterator[Block]:
        for start in range(0, len(data), ROWS):
            low, high = np.searchsorted(rows, [start, start + ROWS]).tolist()
            used, own = np.unique(rows[low:high], return_inverse=True)
            yield usable(keys[low:high], data[used], np.arange(low, high) + 1, report, own)

    return Source("spaCy", vectors.shape[1], blocks(), attr=attr)
