"""Write a table as an ordinary spaCy pipeline with nothing in it but vectors, without spaCy here.

Loading spaCy takes longer and more memory than converting a table. The empty pipeline comes from a
process of its own, at work while the table is read; a copy is kept in the user's cache.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from trfnb import __version__
from trfnb.files import atomic_folder
from trfnb.vectors.blocks import Block, Hashes, Ints, VectorsError, murmur64

_FLOAT16_MAX = 65504
_SYMBOLS = "symbols.json"


class TableFiles:
    """A table's files in a ``vocab`` directory, written block by block.

    Memory grows by 12 bytes per key.

    Attributes:
        rows: rows written.
        largest_error: of rounding to float16.
        digest: the hash of the rows as float32, for `content_hash`.
    """

    def __init__(self, vocab: Path, width: int, dtype: str) -> None:
        self.vocab, self.width = vocab, width
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.rows, self.largest_error = 0, 0.0
        self.digest = hashlib.blake2b(digest_size=16)
        self._hashes, self._rows = [np.empty(0, np.uint64)], [np.empty(0, np.uint32)]
        self._strings = (vocab / "strings.json").open("w", encoding="utf8")
        self._table = (vocab / "vectors").open("wb")
        self._write_header()

    def _write_header(self) -> None:
        # NumPy leaves room in it for any number of rows.
        np.lib.format.write_array_header_1_0(
            self._table,
            {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, self.width)},
        )

    def write(self, block: Block, hashes: Hashes) -> None:
        """Append rows and their keys; numbers beyond float16 become the nearest that it has."""
        stored = np.ascontiguousarray(block.vectors, dtype="<f4")
        if self.dtype.itemsize == 2:
            rounded = block.vectors.clip(-_FLOAT16_MAX, _FLOAT16_MAX).astype(self.dtype)
            stored = rounded.astype("<f4")
            errors = np.abs(stored - block.vectors)
            self.largest_error = float(errors.max(initial=self.largest_error))
        self.digest.update(stored.data)
        self._table.write(stored.astype(self.dtype, copy=False).data)
        if len(hashes):
            self._strings.write(", " if len(self._hashes) > 1 else "[")
            self._strings.write(json.dumps(block.keys, ensure_ascii=False)[1:-1])
            self._hashes.append(hashes)
            self._rows.append((block.rows + self.rows).astype(np.uint32))
        self.rows += len(stored)

    def finish(self, symbols: dict[str, int]) -> tuple[Hashes, Ints]:
        """Complete the files; return every key's number and row, as spaCy will see them.

        Args:
            symbols: spaCy's reserved strings, whose numbers stand for their hashes.
        """
        self._strings.write("]" if len(self._hashes) > 1 else "[]")
        self._strings.close()
        self._table.seek(0)
        self._write_header()
        self._table.close()
        hashes, rows = np.concatenate(self._hashes), np.concatenate(self._rows)
        numbers = dict(zip(murmur64(list(symbols)).tolist(), symbols.values(), strict=True))
        for place in np.flatnonzero(np.isin(hashes, np.array(list(numbers), np.uint64))):
            hashes[place] = numbers[int(hashes[place])]
        # As msgpack: a map of uint64 to uint32, of one width per pair.
        pair = np.dtype([("a", "u1"), ("key", ">u8"), ("b", "u1"), ("row", ">u4")])
        packed = np.empty(len(hashes), dtype=pair)
        packed["a"], packed["b"], packed["key"], packed["row"] = 0xCF, 0xCE, hashes, rows
        head = b"\xdf" + len(hashes).to_bytes(4, "big")
        (self.vocab / "key2row").write_bytes(head + packed.tobytes())
        return hashes, rows.astype(np.int64)


def content_hash(hashes: Hashes, rows: Ints, digest: bytes, settings: dict[str, Any]) -> str:
    """Hash a table's settings, its keys, and their rows.

    Args:
        hashes: the keys' numbers.
        rows: each key's row; all rows where there are no keys, as in floret's tables. Rows without
            a key do not count: spaCy puts new words there.
        digest: the hash of these rows' numbers as float32, each once, in order.
        settings: the mode and, for floret, its settings; the attribute.
    """
    order = np.argsort(hashes, kind="stable")
    whole = hashlib.blake2b(digest, digest_size=16)
    whole.update(json.dumps(sorted(settings.items())).encode())
    whole.update(np.ascontiguousarray(hashes[order], dtype="<u8").data)
    whole.update(np.ascontiguousarray(rows[order] if len(hashes) else rows, dtype="<i8").data)
    return whole.hexdigest()


def empty_pipeline(lang: str, directory: Path) -> dict[str, int]:
    """Write an empty pipeline's config and tokenizer; return spaCy's reserved strings' numbers.

    Raises:
        VectorsError: spaCy does not know the language, or lacks what its tokenizer needs.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = cache / "trfnb" / "pipelines" / f"{lang}-{__version__}-spacy-{version('spacy')}"
    try:
        if "spacy" in sys.modules:
            # It may know another language under this code than a new process does.
            write_pipeline(lang, directory)
        elif (kept / _SYMBOLS).is_file():
            shutil.copytree(kept, directory, dirs_exist_ok=True)
        else:
            code = f"import sys, {__name__} as writer; writer.write_pipeline(*sys.argv[1:])"
            command = [sys.executable, "-c", code, lang, str(directory)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            # A cache that cannot be written is no reason to fail.
            with suppress(OSError), atomic_folder(kept, sync=False) as folder:
                for name in ("config.cfg", "tokenizer", _SYMBOLS):
                    shutil.copy(directory / name, folder / name)
    except (ImportError, subprocess.CalledProcessError) as problem:
        why = str(getattr(problem, "stderr", None) or problem).strip().splitlines()[-1]
        raise VectorsError(
            f"An empty pipeline for lang={lang!r} could not be made: {why}. Give a language "
            "code that spaCy knows, for example lang='en' or 'xx'."
        ) from problem
    file = directory / _SYMBOLS
    symbols: dict[str, int] = json.loads(file.read_text("utf8"))
    file.unlink()
    return symbols


def write_pipeline(lang: str, directory: str | Path) -> None:
    """Write an empty pipeline's config and tokenizer, and spaCy's reserved strings, by spaCy."""
    from spacy.symbols import IDS
    from spacy.util import get_lang_class

    nlp: Any = get_lang_class(lang)()
    config = nlp.config.copy()
    config["nlp"]["vectors"] = {"@vectors": "trfnb.Vectors.v1"}
    config.to_disk(Path(directory) / "config.cfg")
    nlp.tokenizer.to_disk(Path(directory) / "tokenizer", exclude=["vocab"])
    (Path(directory) / _SYMBOLS).write_text(json.dumps(dict(IDS)), "utf8")
