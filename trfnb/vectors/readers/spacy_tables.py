"""spaCy's own tables: a pipeline's directory or package, or live objects."""

import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trfnb.vectors.blocks import Block, Floats, Hashes, Ints, Keys, checked, forget
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
    hashes = np.fromiter(key2row.keys(), np.uint64, len(key2row))
    rows = np.fromiter(key2row.values(), np.int64, len(key2row))
    order = np.argsort(rows, kind="stable")
    hashes, rows = hashes[order], rows[order]
    keys, found = _named(hashes, Keys.of(strings))
    for position in np.flatnonzero(~found).tolist():
        number = str(hashes[position])
        report.skip("the key's string is not in strings.json", position + 1, number)
    if not found.any():
        raise VectorsError(f"{name}: expected a table with keys, found none.")
    return Source("spaCy", data.shape[1], _blocks(data, keys, rows[found], report))


def _named(hashes: Hashes, strings: Keys) -> tuple[Keys, npt.NDArray[np.bool_]]:
    """Return the strings of those hashes that have one, and say which these are.

    Arrays throughout: a dict of all strings would take more memory than the table's rows.
    """
    numbers = strings.hashes()
    if not np.isin(hashes, numbers).all():
        symbols = spacy_symbols()
        strings = Keys.joined([strings, Keys.of(symbols)])
        numbers = np.concatenate([numbers, np.fromiter(symbols.values(), np.uint64, len(symbols))])
    if not len(numbers):
        return strings, np.zeros(len(hashes), dtype=bool)
    order = np.argsort(numbers, kind="stable")
    place = np.searchsorted(numbers, hashes, sorter=order).clip(max=len(numbers) - 1)
    chosen = order[place]
    found = numbers[chosen] == hashes
    return strings.take(chosen[found]), found


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
