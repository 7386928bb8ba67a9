"""spaCy's own tables: a pipeline's directory or package, or live objects."""

import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from trfnb.vectors.blocks import Block, Floats, Ints, Keys, checked, forget
from trfnb.vectors.readers.source import FloretSettings, Source
from trfnb.vectors.report import Report, VectorsError
from trfnb.vectors.symbols import spacy_symbols

_ROWS = 4096


def find_directory(name: str) -> Path | None:
    """Return the directory of a pipeline's table, given its path or its package's name."""
    path = Path(name)
    if not path.is_dir() and name.isidentifier() and (spec := find_spec(name)):
        path = Path(next(iter(spec.submodule_search_locations or [name])))
    for candidate in (path / "vocab", path):
        if (candidate / "vectors").is_file():
            return candidate
    # An installed package keeps its pipeline a directory deeper; a folder of many is none.
    deeper = [file.parent for file in path.glob("*/vocab/vectors") if file.is_file()]
    return deeper[0] if len(deeper) == 1 else None


def read_spacy(directory: Path, report: Report) -> Source:
    """Read the table in a ``vocab`` directory without loading spaCy or the pipeline.

    Raises:
        VectorsError: the table is broken.
    """
    import srsly

    try:
        data = np.load(directory / "vectors", mmap_mode="r", allow_pickle=False)
        settings = srsly.read_json(directory / "vectors.cfg")
        key2row = srsly.read_msgpack(directory / "key2row")
        strings = json.loads((directory / "strings.json").read_text("utf8"))
    except (OSError, ValueError, EOFError) as problem:
        raise VectorsError(f"{directory}: expected spaCy vectors, got {problem}.") from problem
    if data.dtype.names:
        from trfnb.vectors.store import CompactRows

        data = CompactRows.of(data)
    return _source(data, key2row, strings, settings, report, str(directory))


def from_spacy(found: Any, report: Report) -> Source:
    """Make a source of a live pipeline, vocabulary or ``Vectors``."""
    vocab = getattr(found, "vocab", found)
    vectors = getattr(vocab, "vectors", vocab)
    settings = {
        name: getattr(vectors, name)
        for name in ("mode", "minn", "maxn", "hash_count", "hash_seed", "bow", "eow")
    }
    return _source(
        vectors.data, vectors.key2row, list(vectors.strings), settings, report, "spaCy vectors"
    )


def _source(
    data: Floats,
    key2row: dict[int, int],
    strings: Iterable[str],
    settings: dict[str, Any],
    report: Report,
    name: str,
) -> Source:
    if settings.get("mode") == "floret":
        floret = FloretSettings(
            **{field: settings[field] for field in FloretSettings.__dataclass_fields__}
        )
        numbers = Keys.of(map(str, range(len(data))))
        rows = np.arange(len(data))
        return Source(
            "spaCy floret", data.shape[1], _blocks(data, numbers, rows, report), floret=floret
        )
    packed = Keys.of(strings)
    by_hash = dict(zip(packed.hashes().tolist(), range(len(packed)), strict=True))
    symbols = {number: text for text, number in spacy_symbols().items()}
    texts = packed.bytes_list()
    hashes = np.fromiter(key2row.keys(), np.uint64, len(key2row))
    rows = np.fromiter(key2row.values(), np.int64, len(key2row))
    order = np.argsort(rows, kind="stable")
    keys, kept = [], []
    for position, number in zip(order.tolist(), hashes[order].tolist(), strict=True):
        if number in by_hash:
            keys.append(texts[by_hash[number]])
        elif number in symbols:
            keys.append(symbols[number].encode())
        else:
            report.skip("the key's string is not in strings.json", position + 1, str(number))
            continue
        kept.append(rows[position])
    blocks = _blocks(data, Keys.of(keys), np.array(kept, dtype=np.int64), report)
    if not keys:
        raise VectorsError(f"{name}: expected a table with keys, found none.")
    return Source("spaCy", data.shape[1], blocks)


def _blocks(data: Floats, keys: Keys, rows: Ints, report: Report) -> Iterator[Block]:
    for start in range(0, len(data), _ROWS):
        low, high = np.searchsorted(rows, [start, start + _ROWS]).tolist()
        if low == high:
            continue
        vectors = np.array(data[start : start + _ROWS], dtype=np.float32)
        forget(data)
        lines = np.arange(low + 1, high + 1)
        # Rows without a key fall away here.
        used, own = np.unique(rows[low:high] - start, return_inverse=True)
        whole = Block(keys.part(low, high), vectors[used], lines, own.astype(np.int64))
        block, problems = checked(whole)
        for reason, line, example in problems:
            report.skip(reason, line, example)
        if len(block.keys):
            yield block


def floret_compose(data: Floats, floret: FloretSettings, words: Sequence[str]) -> Floats:
    """Compose words' vectors from a floret table, with spaCy's own code."""
    from spacy.vectors import Vectors

    vectors = Vectors(data=data, mode="floret", **vars(floret))
    for word in words:
        vectors.strings.add(word)
    composed: Floats = np.asarray(vectors.get_batch(list(words)), dtype=np.float32)
    return composed
