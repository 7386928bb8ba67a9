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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from trfnb import __version__
from trfnb.files import atomic_folder
from trfnb.vectors.blocks import Floats, Hashes, Ints, VectorsError, murmur64

_HEADER = 128
_FLOAT16_MAX = 65504
_HASHED_ROWS = 1 << 17
_ROWS = 4096
_SYMBOLS = "symbols.json"


class RowFile:
    """A ``.npy`` file written row by row, its length filled in last.

    Args:
        path: the file.
        width: values per row.
        dtype: ``"float32"`` or ``"float16"``.
    """

    def __init__(self, path: Path, width: int, dtype: str) -> None:
        self.width, self.dtype = width, np.dtype(dtype).newbyteorder("<")
        self.rows, self.largest_error = 0, 0.0
        self.path, self._file = path, path.open("wb")
        self._file.write(b"\0" * _HEADER)

    def write(self, vectors: Floats) -> None:
        """Append rows of float32; numbers beyond float16 become the nearest that it has."""
        stored = vectors.astype(self.dtype.newbyteorder("="))
        if self.dtype.itemsize == 2:
            stored = vectors.clip(-_FLOAT16_MAX, _FLOAT16_MAX).astype(self.dtype)
            error = float(np.abs(stored - vectors).max(initial=0))
            self.largest_error = max(self.largest_error, error)
        self._file.write(np.ascontiguousarray(stored, dtype=self.dtype).data)
        self.rows += len(vectors)

    def finish(self) -> None:
        """Fill in the header."""
        form = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, self.width)}
        body = repr(form).encode().ljust(_HEADER - 11) + b"\n"
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body)
        self._file.close()


class KeyFile:
    """A table's strings and its map from keys to rows; memory grows by 12 bytes per key.

    Args:
        vocab: the directory to write into.
    """

    def __init__(self, vocab: Path) -> None:
        self.vocab = vocab
        self._hashes, self._rows = [np.empty(0, np.uint64)], [np.empty(0, np.uint32)]
        self._strings = (vocab / "strings.json").open("w", encoding="utf8")
        self._comma = "["

    def write(self, keys: list[str], hashes: Hashes, rows: Ints) -> None:
        """Append keys and the rows that they belong to."""
        self._hashes.append(hashes)
        self._rows.append(rows.astype(np.uint32))
        self._strings.write(self._comma + json.dumps(keys, ensure_ascii=False)[1:-1])
        self._comma = ", "

    def finish(self, symbols: dict[str, int]) -> tuple[Hashes, Ints]:
        """Complete the files; return every key's number and row, as spaCy will see them.

        Args:
            symbols: spaCy's reserved strings, whose numbers stand for their hashes.
        """
        self._strings.write("]" if self._comma == ", " else "[]")
        self._strings.close()
        hashes, rows = np.concatenate(self._hashes), np.concatenate(self._rows)
        names = murmur64(list(symbols))
        order = np.argsort(names)
        place = order[np.searchsorted(names[order], hashes).clip(max=len(order) - 1)]
        numbers = np.fromiter(symbols.values(), np.uint64, len(symbols))
        hashes = np.where(names[place] == hashes, numbers[place], hashes)
        with (self.vocab / "key2row").open("wb") as file:
            # As msgpack: a map of uint64 to uint32, of one width per pair.
            file.write(b"\xdf" + len(hashes).to_bytes(4, "big"))
            pair = np.dtype([("a", "u1"), ("key", ">u8"), ("b", "u1"), ("row", ">u4")])
            for start in range(0, len(hashes), _ROWS):
                part = slice(start, start + _ROWS)
                packed = np.empty(len(hashes[part]), dtype=pair)
                packed["a"], packed["b"] = 0xCF, 0xCE
                packed["key"], packed["row"] = hashes[part], rows[part]
                file.write(packed.data)
        return hashes, rows.astype(np.int64)


def content_hash(hashes: Hashes, rows: Ints, data: Any, settings: dict[str, Any]) -> str:
    """Hash a table's settings, its keys, and their rows as float32.

    Of tables with more than 131,072 rows, that many evenly spread rows are hashed: a table changed
    in a few rows only may escape.

    Args:
        hashes: the keys' numbers.
        rows: each key's row; all rows where there are no keys, as in floret's tables.
        data: anything that gives float32 rows for an array of row numbers.
        settings: the mode and, for floret, its settings; the attribute.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(sorted(settings.items())).encode())
    order = np.argsort(hashes, kind="stable")
    digest.update(np.ascontiguousarray(hashes[order], dtype="<u8").data)
    # Rows count by their numbers, and rows without a key not at all: spaCy puts new words there.
    used = np.unique(rows)
    digest.update(np.ascontiguousarray(rows[order] if len(hashes) else used, dtype="<i8").data)
    sample = np.linspace(0, len(used) - 1, min(len(used), _HASHED_ROWS)).astype(np.int64)
    for start in range(0, len(sample), 512):
        part = used[sample[start : start + 512]]
        digest.update(np.ascontiguousarray(data[part], dtype="<f4").data)
    return digest.hexdigest()


def write_empty_pipeline(lang: str, directory: Path) -> None:
    """Write an empty pipeline's config and tokenizer, and spaCy's reserved strings.

    Raises:
        ImportError: spaCy does not know the language, or lacks what its tokenizer needs.
    """
    from spacy.symbols import IDS
    from spacy.util import get_lang_class

    nlp: Any = get_lang_class(lang)()
    config = nlp.config.copy()
    config["nlp"]["vectors"] = {"@vectors": "trfnb.Vectors.v1"}
    directory.mkdir(parents=True, exist_ok=True)
    config.to_disk(directory / "config.cfg")
    nlp.tokenizer.to_disk(directory / "tokenizer", exclude=["vocab"])
    (directory / _SYMBOLS).write_text(json.dumps(dict(IDS)), "utf8")


class EmptyPipeline:
    """The files of an empty pipeline, being written while something else goes on.

    Args:
        lang: the language's code.
        directory: where to.
    """

    def __init__(self, lang: str, directory: Path) -> None:
        self.lang, self.directory = lang, directory
        self._process: subprocess.Popen[str] | None = None
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trfnb"
        self._kept = home / "pipelines" / f"{lang}-{__version__}-spacy-{version('spacy')}"
        spacy = find_spec("spacy")
        known = (
            lang.isalnum() and (Path(str(spacy and spacy.origin)).parent / "lang" / lang).is_dir()
        )
        if "spacy" in sys.modules or not known:
            # Where spaCy is loaded, it may know another language under this code.
            try:
                write_empty_pipeline(lang, directory)
            except ImportError as problem:
                raise self._failed(str(problem)) from problem
        elif (self._kept / _SYMBOLS).is_file():
            shutil.copytree(self._kept, directory, dirs_exist_ok=True)
        else:
            code = f"import sys, pathlib; from {__name__} import write_empty_pipeline as write; "
            call = [sys.executable, "-c", f"{code}write(sys.argv[1], pathlib.Path(sys.argv[2]))"]
            call += [lang, str(directory)]
            self._process = subprocess.Popen(call, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> "EmptyPipeline":
        return self

    def __exit__(self, *problem: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def finish(self) -> dict[str, int]:
        """Wait for the files; return spaCy's reserved strings and their numbers.

        Raises:
            VectorsError: spaCy does not know the language, or lacks what its tokenizer needs.
        """
        if self._process is not None:
            _, errors = self._process.communicate()
            if self._process.returncode:
                raise self._failed((errors.strip().splitlines() or ["no message"])[-1])
            # A cache that cannot be written is no reason to fail.
            with suppress(OSError), atomic_folder(self._kept, sync=False) as kept:
                for name in ("config.cfg", "tokenizer", _SYMBOLS):
                    shutil.copy(self.directory / name, kept / name)
        file = self.directory / _SYMBOLS
        found: dict[str, int] = json.loads(file.read_text("utf8"))
        file.unlink()
        return found

    def _failed(self, why: str) -> VectorsError:
        return VectorsError(
            f"An empty pipeline for lang={self.lang!r} could not be made: {why}. Give a language "
            "code that spaCy knows, for example lang='en' or 'xx'."
        )
