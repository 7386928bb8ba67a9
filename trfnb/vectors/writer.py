"""Write a table as an ordinary spaCy pipeline with nothing in it but vectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trfnb.vectors.blocks import Floats, Hashes, Ints, Keys
from trfnb.vectors.quantise import record_type, to_record
from trfnb.vectors.readers.source import FloretSettings

_HEADER = 128


def npy_header(rows: int, record: np.dtype[Any], width: int) -> bytes:
    """Return the first 128 bytes of a ``.npy`` file, written once the row count is known."""
    shape = (rows,) if record.names else (rows, width)
    text = repr(
        {"descr": np.lib.format.dtype_to_descr(record), "fortran_order": False, "shape": shape}
    )
    body = text.encode().ljust(_HEADER - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + (len(body)).to_bytes(2, "little") + body


class RowFile:
    """A ``.npy`` file written row by row, its length filled in last.

    Args:
        path: the file.
        width: values a row.
        dtype: ``"float32"``, ``"float16"`` or ``"int8"``.
    """

    def __init__(self, path: Path, width: int, dtype: str) -> None:
        self.width, self.record = width, record_type(dtype, width)
        self.rows = 0
        self._file = path.open("wb")
        self._file.write(b"\0" * _HEADER)

    def write(self, vectors: Floats) -> None:
        """Append rows of float32."""
        self._file.write(to_record(vectors, self.record).data)
        self.rows += len(vectors)

    def finish(self) -> None:
        """Fill in the header and close the file."""
        self._file.seek(0)
        self._file.write(npy_header(self.rows, self.record, self.width))
        self._file.close()

    def close(self) -> None:
        """Close the file as it is."""
        self._file.close()


class TableWriter:
    """Write rows, keys and strings as they come; memory grows by 12 bytes a key.

    Args:
        vocab: the directory to write into.
        width: values a row.
        dtype: ``"float32"``, ``"float16"`` or ``"int8"``.
    """

    def __init__(self, vocab: Path, width: int, dtype: str) -> None:
        vocab.mkdir(parents=True, exist_ok=True)
        self.vocab = vocab
        self.rows = RowFile(vocab / "vectors", width, dtype)
        self._hashes: list[Hashes] = []
        self._key_rows: list[npt.NDArray[np.uint32]] = []
        self._strings = (vocab / "strings.json").open("w", encoding="utf8")
        self._strings.write("[")
        self._first = True

    def write_keys(self, keys: Keys, hashes: Hashes, rows: Ints) -> None:
        """Append keys and the rows that they belong to."""
        self._hashes.append(hashes)
        self._key_rows.append(rows.astype(np.uint32))
        if len(keys):
            packed = json.dumps(keys.strings(), ensure_ascii=False)[1:-1]
            self._strings.write(packed if self._first else f", {packed}")
            self._first = False

    def close(self) -> None:
        """Close the files as they are."""
        self.rows.close()
        self._strings.close()

    def finish(
        self, symbols: dict[str, int], attr: str, floret: FloretSettings | None
    ) -> tuple[Hashes, Ints]:
        """Complete the files.

        Args:
            symbols: spaCy's reserved strings, whose numbers stand for their hashes.
            attr: the token attribute that keys are looked up by.
            floret: the settings of a floret table.

        Returns:
            Every key's number and row, as spaCy will see them.
        """
        self.rows.finish()
        self._strings.write("]")
        self._strings.close()
        hashes = np.concatenate([np.empty(0, np.uint64), *self._hashes])
        rows = np.concatenate([np.empty(0, np.uint32), *self._key_rows])
        names = list(symbols)
        reserved = Keys.of(names).hashes()
        order = np.argsort(reserved)
        place = np.minimum(np.searchsorted(reserved[order], hashes), len(order) - 1)
        hit = np.flatnonzero(reserved[order][place] == hashes)
        numbers = np.array([symbols[name] for name in names], dtype=np.uint64)
        hashes[hit] = numbers[order][place[hit]]
        _write_key2row(self.vocab / "key2row", hashes, rows)
        config: dict[str, Any] = {"mode": "floret" if floret else "default"}
        config |= vars(floret) if floret else {}
        config["attr"] = symbols[attr]
        (self.vocab / "vectors.cfg").write_text(json.dumps(config), "utf8")
        return hashes, rows.astype(np.int64)


def _write_key2row(path: Path, hashes: Hashes, rows: npt.NDArray[np.uint32]) -> None:
    """Write spaCy's key-to-row map as msgpack: a map of uint64 to uint32, fixed width a pair."""
    with path.open("wb") as file:
        file.write(b"\xdf" + len(hashes).to_bytes(4, "big"))
        step = 1 << 16
        pair = np.dtype([("a", "u1"), ("key", ">u8"), ("b", "u1"), ("row", ">u4")])
        for start in range(0, len(hashes), step):
            packed = np.empty(len(hashes[start : start + step]), dtype=pair)
            packed["a"], packed["b"] = 0xCF, 0xCE
            packed["key"], packed["row"] = hashes[start : start + step], rows[start : start + step]
            file.write(packed.tobytes())
